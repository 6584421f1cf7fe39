package smtp

// word is an entry of a wordSet: an upper-case text and what it stands for.
type word struct {
	text string
	id   uint8
}

// wordSet is sorted by text, so that the words which begin with some bytes are
// neighbours.
type wordSet []word

// narrowing is how far a word of a wordSet has been read: words[lo:hi] begin
// with the n bytes seen. Its zero value needs start.
type narrowing struct{ lo, hi, n uint8 }

func (w wordSet) start() narrowing { return narrowing{hi: uint8(len(w))} }

// next narrows s by one more byte, in any case of letters.
func (w wordSet) next(s *narrowing, c byte) {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	n := int(s.n)
	for s.lo < s.hi && (len(w[s.lo].text) <= n || w[s.lo].text[n] < c) {
		s.lo++
	}
	for s.lo < s.hi && w[s.hi-1].text[n] > c {
		s.hi--
	}
	s.n++
}

// whole returns the id of the word that is exactly the bytes seen.
func (w wordSet) whole(s narrowing) (id uint8, ok bool) {
	if s.lo < s.hi && len(w[s.lo].text) == int(s.n) && s.n > 0 {
		return w[s.lo].id, true
	}
	return 0, false
}

// Verb is a command that may pass.
type Verb uint8

// The commands of RFC 821, 5321, 1985, 3207 and 4954 that an ASA knows.
const (
	verbNone Verb = iota
	VerbAUTH
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
	VerbSTARTTLS
	VerbVRFY
)

// commandWords are the 15 commands that pass (asa.md section 0) and STARTTLS,
// which passes with Rules.AllowTLS. No forbidden command may be the beginning of
// one of them: such a command split behind its last byte would have passed.
var commandWords = wordSet{
	{"AUTH", uint8(VerbAUTH)},
	{"DATA", uint8(VerbDATA)},
	{"EHLO", uint8(VerbEHLO)},
	{"ETRN", uint8(VerbETRN)},
	{"HELO", uint8(VerbHELO)},
	{"HELP", uint8(VerbHELP)},
	{"MAIL", uint8(VerbMAIL)},
	{"NOOP", uint8(VerbNOOP)},
	{"QUIT", uint8(VerbQUIT)},
	{"RCPT", uint8(VerbRCPT)},
	{"RSET", uint8(VerbRSET)},
	{"SAML", uint8(VerbSAML)},
	{"SEND", uint8(VerbSEND)},
	{"SOML", uint8(VerbSOML)},
	{"STARTTLS", uint8(VerbSTARTTLS)},
	{"VRFY", uint8(VerbVRFY)},
}

// keywordWords are the EHLO keywords with a class of their own.
var keywordWords = wordSet{
	{"8BITMIME", uint8(Keyword8BITMIME)},
	{"AUTH", uint8(KeywordAUTH)},
	{"BINARYMIME", uint8(KeywordBINARYMIME)},
	{"CHECKPOINT", uint8(KeywordCHECKPOINT)},
	{"DSN", uint8(KeywordDSN)},
	{"ENHANCEDSTATUSCODES", uint8(KeywordECODE)},
	{"ETRN", uint8(KeywordETRN)},
	{"PIPELINING", uint8(KeywordPIPELINING)},
	{"SIZE", uint8(KeywordSIZE)},
	{"STARTTLS", uint8(KeywordSTARTTLS)},
	{"VRFY", uint8(KeywordVRFY)},
}

// verbPasses reports whether a command may reach the server.
func (r *Rules) verbPasses(v Verb) bool { return v != VerbSTARTTLS || r.AllowTLS }

// classOf is k, or Others where the map does not know STARTTLS.
func (r *Rules) classOf(k Keyword) Keyword {
	if k == KeywordSTARTTLS && !r.AllowTLS {
		return KeywordOthers
	}
	return k
}

// commandCanPass reports whether the bytes seen can still become a command that
// passes.
func (r *Rules) commandCanPass(s narrowing) bool {
	for _, w := range commandWords[s.lo:s.hi] {
		if r.verbPasses(Verb(w.id)) {
			return true
		}
	}
	return false
}

// keywordCanPass reports whether the bytes seen can still become an EHLO keyword
// that passes.
func (r *Rules) keywordCanPass(s narrowing) bool {
	if !r.MaskKeywords[KeywordOthers] {
		return true
	}
	for _, w := range keywordWords[s.lo:s.hi] {
		if !r.MaskKeywords[r.classOf(Keyword(w.id))] {
			return true
		}
	}
	return false
}
