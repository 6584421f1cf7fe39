package smtp

import (
	"slices"
	"strings"
)

// word is an entry of a wordSet: an upper-case text and what it stands for.
type word struct {
	text   string
	id     uint8
	prefix bool // what begins with it is it
}

// wordSet is sorted by text, so that the words which begin with some bytes are
// neighbours.
type wordSet []word

// narrowing is how far a word of a wordSet has been read: words[lo:hi] begin
// with the n bytes seen. Its zero value needs start.
type narrowing struct{ lo, hi, n uint8 }

// sort brings a set into its order.
func (w wordSet) sort() {
	slices.SortFunc(w, func(a, b word) int { return strings.Compare(a.text, b.text) })
}

func (w wordSet) start() narrowing { return narrowing{hi: uint8(len(w))} }

// next narrows s by one more byte, in any case of letters.
func (w wordSet) next(s *narrowing, c byte) {
	c = upper(c)
	n := int(s.n)
	for s.lo < s.hi && (len(w[s.lo].text) <= n || w[s.lo].text[n] < c) {
		s.lo++
	}
	for s.lo < s.hi && w[s.hi-1].text[n] > c {
		s.hi--
	}
	s.n++
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// whole returns the id of the word that is exactly the bytes seen.
func (w wordSet) whole(s narrowing) (id uint8, ok bool) {
	if s.lo < s.hi && len(w[s.lo].text) == int(s.n) && s.n > 0 {
		return w[s.lo].id, true
	}
	return 0, false
}

// prefix reports whether the bytes seen are a word that passes with whatever
// follows.
func (w wordSet) prefix(s narrowing) bool {
	return s.lo < s.hi && len(w[s.lo].text) == int(s.n) && w[s.lo].prefix
}

// Verb is the word of a command.
type Verb uint8

// The commands of RFC 821, 5321, 1985, 3030, 3207 and 4954 that may pass. The
// verbs from NumVerbs on are those of Rules.Commands, in their order.
const (
	VerbUnknown Verb = iota // any other word
	VerbAUTH
	VerbBDAT // with Rules.AllowBDAT
	VerbDATA
	VerbEHLO
	VerbETRN
	VerbHELO
	VerbHELP
	VerbMAIL
	VerbNOOP
	VerbQUIT
	VerbRCPT
	VerbRSET
	VerbSAML
	VerbSEND
	VerbSOML
	VerbSTARTTLS // with Rules.AllowTLS
	VerbVRFY
	NumVerbs
)

// verbWords are the 15 commands that pass (asa.md section 0), BDAT and STARTTLS.
// No forbidden command may be the beginning of one of them: such a command split
// behind its last byte would have passed.
var verbWords = [NumVerbs]string{
	VerbAUTH: "AUTH", VerbBDAT: "BDAT", VerbDATA: "DATA", VerbEHLO: "EHLO", VerbETRN: "ETRN", VerbHELO: "HELO",
	VerbHELP: "HELP", VerbMAIL: "MAIL", VerbNOOP: "NOOP", VerbQUIT: "QUIT", VerbRCPT: "RCPT", VerbRSET: "RSET",
	VerbSAML: "SAML", VerbSEND: "SEND", VerbSOML: "SOML", VerbSTARTTLS: "STARTTLS", VerbVRFY: "VRFY",
}

// String returns the verb's word, empty for VerbUnknown and private commands.
func (v Verb) String() string {
	if v < NumVerbs {
		return verbWords[v]
	}
	return ""
}

// VerbOf returns the verb of an upper-case word, where private are the commands
// of Rules.Commands. ok is false for a word that is neither.
func VerbOf(word string, private []Command) (v Verb, ok bool) {
	if i := slices.Index(verbWords[:], word); i > 0 {
		return Verb(i), true
	}
	i := slices.IndexFunc(private, func(c Command) bool { return c.Word == word })
	return NumVerbs + Verb(i), i >= 0
}

// keywordWords are the EHLO keywords with a class of their own.
var keywordWords = wordSet{
	{text: "8BITMIME", id: uint8(Keyword8BITMIME)},
	{text: "AUTH", id: uint8(KeywordAUTH)},
	{text: "BINARYMIME", id: uint8(KeywordBINARYMIME)},
	{text: "CHECKPOINT", id: uint8(KeywordCHECKPOINT)},
	{text: "CHUNKING", id: uint8(KeywordCHUNKING)},
	{text: "DSN", id: uint8(KeywordDSN)},
	{text: "ENHANCEDSTATUSCODES", id: uint8(KeywordECODE)},
	{text: "ETRN", id: uint8(KeywordETRN)},
	{text: "PIPELINING", id: uint8(KeywordPIPELINING)},
	{text: "SIZE", id: uint8(KeywordSIZE)},
	{text: "STARTTLS", id: uint8(KeywordSTARTTLS)},
	{text: "VRFY", id: uint8(KeywordVRFY)},
}

// NewRules completes r, whose exported fields are set, and returns a copy that
// is ready for Dialogues.
func NewRules(r Rules) *Rules {
	for v, text := range verbWords {
		if v > 0 {
			r.commandWords = append(r.commandWords, word{text: text, id: uint8(v)})
		}
	}
	for i, c := range r.Commands {
		r.commandWords = append(r.commandWords, word{text: c.Word, id: uint8(int(NumVerbs) + i)})
	}
	r.commandWords.sort()
	r.keywordWords = slices.Clone(keywordWords)
	for _, text := range r.Keywords {
		text, prefix := strings.CutSuffix(text, "=")
		if prefix {
			text += "="
		}
		r.keywordWords = append(r.keywordWords, word{text: text, id: uint8(KeywordAllowed), prefix: prefix})
	}
	r.keywordWords.sort()
	for _, v := range r.MaskVerbs {
		r.masked[v] = true
	}
	return &r
}

// verbPasses reports whether a command may reach the server.
func (r *Rules) verbPasses(v Verb) bool {
	switch v {
	case VerbSTARTTLS:
		return r.AllowTLS && !r.masked[v]
	case VerbBDAT:
		return r.AllowBDAT && !r.masked[v]
	}
	return !r.masked[v] && !r.tlsOnly(v)
}

// tlsOnly reports whether a command passes inside TLS only.
func (r *Rules) tlsOnly(v Verb) bool {
	switch v {
	case VerbMAIL, VerbSEND, VerbSOML, VerbSAML, VerbAUTH:
		return r.RequireTLS
	}
	return r.RequireTLS && v >= NumVerbs && r.Commands[v-NumVerbs].Like == LikeAUTH
}

// classOf is k, or Others where the map does not know STARTTLS or CHUNKING.
func (r *Rules) classOf(k Keyword) Keyword {
	if k == KeywordSTARTTLS && !r.AllowTLS || k == KeywordCHUNKING && !r.AllowBDAT {
		return KeywordOthers
	}
	return k
}

// keywordPasses reports whether a keyword of the class is left as it is.
func (r *Rules) keywordPasses(k Keyword) bool { return !r.MaskKeywords[r.classOf(k)] }

// keywordCanPass reports whether the bytes seen can still become an EHLO keyword
// that passes.
func (r *Rules) keywordCanPass(s narrowing) bool {
	if !r.MaskKeywords[KeywordOthers] {
		return true
	}
	for _, w := range r.keywordWords[s.lo:s.hi] {
		if r.keywordPasses(Keyword(w.id)) {
			return true
		}
	}
	return false
}
