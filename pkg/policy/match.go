package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// criteria are the words of each Criterion as the ASA shows them, and what is
// measured against a bound: NumMeasures for those that have none.
var criteria = [...]struct {
	words   string
	measure smtp.Measure
}{
	CmdLineLength:          {"cmd line length", smtp.CmdLineLength},
	CmdRcptCount:           {"cmd RCPT count", smtp.CmdRcptCount},
	BodyLineLength:         {"body line length", smtp.BodyLineLength},
	HeaderLineLength:       {"header line length", smtp.HeaderLineLength},
	SenderAddressLength:    {"sender-address length", smtp.SenderLength},
	MIMEFilenameLength:     {"MIME filename length", smtp.FilenameLength},
	BodyLength:             {"body length", smtp.BodyLength},
	HeaderLength:           {"header length", smtp.HeaderLength},
	HeaderToFieldsCount:    {"header to-fields count", smtp.ToFieldsCount},
	InvalidRecipientsCount: {"invalid-recipients count", smtp.InvalidRecipients},
	MIMETypeLength:         {"MIME type length", smtp.TypeLength},
	EHLOReplyParameter:     {"ehlo-reply-parameter", smtp.NumMeasures},
	CmdVerb:                {"cmd verb", smtp.NumMeasures},
	MIMEEncoding:           {"MIME encoding", smtp.NumMeasures},
	MIMEFiletypeRegex:      {"MIME filetype regex", smtp.NumMeasures},
	SenderAddressRegex:     {"sender-address regex", smtp.NumMeasures},
}

// keywords are the ASA's words for the classes of EHLO keywords that a match
// line can name. STARTTLS and CHUNKING have none: allow-tls and allow-bdat decide
// on them, and where that is absent they are others.
var keywords = []string{
	smtp.KeywordOthers:     "others",
	smtp.Keyword8BITMIME:   "8bitmime",
	smtp.KeywordAUTH:       "auth",
	smtp.KeywordBINARYMIME: "binarymime",
	smtp.KeywordCHECKPOINT: "checkpoint",
	smtp.KeywordDSN:        "dsn",
	smtp.KeywordECODE:      "ecode",
	smtp.KeywordETRN:       "etrn",
	smtp.KeywordPIPELINING: "pipelining",
	smtp.KeywordSIZE:       "size",
	smtp.KeywordVRFY:       "vrfy",
}

// encodings are the ASA's words for Content-Transfer-Encodings.
var encodings = []string{
	smtp.Encoding7bit:            "7bit",
	smtp.Encoding8bit:            "8bit",
	smtp.EncodingBase64:          "base64",
	smtp.EncodingBinary:          "binary",
	smtp.EncodingOthers:          "others",
	smtp.EncodingQuotedPrintable: "quoted-printable",
}

// lastMatch is the match whose action is being read.
func (m *mapLines) lastMatch() *matchLines { return &m.matches[len(m.matches)-1] }

// readMatch reads `match [not] CRITERION` and opens the context of its action.
func (p *parser) readMatch(l *line) {
	lines := matchLines{at: l.words[0]}
	match := Match{Not: l.optional("not")}
	lines.broken = !p.readCriterion(l, &match, &lines)
	m := p.lastMap()
	m.Matches = append(m.Matches, match)
	m.matches = append(m.matches, lines)
	p.ctx = inMatch
}

// readCriterion reads what stands behind `match [not]`.
func (p *parser) readCriterion(l *line, m *Match, lines *matchLines) bool {
	var phrases []string
	for _, c := range criteria {
		phrases = append(phrases, c.words)
	}
	i, ok := l.phrase(phrases, len(phrases))
	if !ok {
		return false
	}
	m.Criterion = Criterion(i)
	switch m.Criterion {
	case EHLOReplyParameter:
		return p.readKeywords(l, m)
	case CmdVerb:
		return p.readVerbs(l, m, lines)
	case MIMEEncoding:
		return p.readEncodings(l, m)
	case MIMEFiletypeRegex, SenderAddressRegex:
		return p.readRegexName(l, m, lines)
	}
	if _, ok = l.keyword("gt"); ok {
		m.Over, ok = l.number(1, MaxBound)
	}
	return ok && l.end()
}

// readKeywords reads the classes of EHLO keywords to the line's end.
func (p *parser) readKeywords(l *line, m *Match) bool {
	for i := l.next; i < len(l.words); i++ {
		switch w := &l.words[i]; {
		case w.is("binaryname"):
			w.text = "binarymime" // a misprint of the ASA's books (asa.md 1.3)
		case w.is("starttls"):
			p.report(*w, "not for a match", "allow-tls or no allow-tls under parameters", "")
			return false
		case w.is("chunking"):
			p.report(*w, "not for a match", "allow-bdat or no allow-bdat under parameters", "")
			return false
		}
	}
	found, ok := l.choices(keywords)
	for _, i := range found {
		m.Keywords = append(m.Keywords, smtp.Keyword(i))
	}
	return ok
}

// readVerbs reads command words to the line's end. Which of them the map knows,
// its allow-command lines tell, which may follow: see checkVerbs.
func (p *parser) readVerbs(l *line, m *Match, lines *matchLines) bool {
	for len(m.Verbs) == 0 || l.next < len(l.words) {
		w, ok := l.read()
		verb := strings.ToUpper(w.text)
		switch {
		case !ok:
			p.unexpected(w, "the words of commands", nil)
			return false
		case slices.Contains(m.Verbs, verb):
			p.report(w, "stated twice", "", "")
			return false
		}
		m.Verbs, lines.verbs = append(m.Verbs, verb), append(lines.verbs, w)
	}
	return true
}

// readEncodings reads transfer encodings to the line's end.
func (p *parser) readEncodings(l *line, m *Match) bool {
	found, ok := l.choices(encodings)
	for _, i := range found {
		m.Encodings = append(m.Encodings, smtp.Encoding(i))
	}
	return ok
}

// readRegexName reads `{NAME | class NAME}`.
func (p *parser) readRegexName(l *line, m *Match, lines *matchLines) (ok bool) {
	what := "the name of a regex, or class NAME"
	if m.Class = l.optional("class"); m.Class {
		what = "the name of a class-map type regex"
	}
	lines.regex, ok = l.name(what, maxName)
	m.Regex = lines.regex.text
	return ok && l.end()
}

// readAction reads the action line of the match above it (asa.md 1.4).
func (p *parser) readAction(l *line) {
	m := p.lastMap()
	match, lines := &m.Matches[len(m.Matches)-1], m.lastMatch()
	w := l.words[0]
	if lines.action.text != "" {
		p.report(w, fmt.Sprintf("second action, the first is in line %d", lines.action.line), "one action for each match", "")
		return
	}
	lines.action = w
	action := strings.ToLower(w.text)
	if want := match.Criterion.actions(); !lines.broken && !slices.Contains(want, actions[action]) {
		p.report(w, "not an action for "+match.Criterion.String(), oneOf(actionWords(want)), "")
		return
	}
	if action == "rate-limit" {
		n, ok := l.number(1, MaxRate)
		if !ok {
			return
		}
		match.Do = Do{Action: RateLimit, Rate: n}
	} else {
		match.Do = l.do(action)
	}
	l.end()
}

// actions are what can be done about a criterion, in the permissive form of
// asa.md 1.4. A mask needs bytes that can be overwritten without harm, a rate
// something that comes again and again.
func (c Criterion) actions() []Action {
	switch c {
	case EHLOReplyParameter:
		return []Action{Mask, DropConnection, Reset, NoAction}
	case CmdVerb:
		return []Action{Mask, DropConnection, Reset, NoAction, RateLimit}
	}
	return []Action{DropConnection, Reset, NoAction}
}

// actionWords are the words for actions of a match.
func actionWords(of []Action) []string {
	words := make([]string, len(of))
	for i, a := range of {
		words[i] = a.String()
		if a == NoAction {
			words[i] = "log"
		}
	}
	return words
}

// checkVerbs wants the words of a cmd verb line to be commands that the map
// knows.
func (p *parser) checkVerbs(m *mapLines, i int) {
	for j, verb := range m.Matches[i].Verbs {
		if _, ok := smtp.VerbOf(verb, m.AllowCommands); !ok {
			p.report(m.matches[i].verbs[j], "not a command of this map",
				oneOf(append(verbNames(), "a word of its allow-command")), nearest(verb, m.verbNames()))
		}
	}
}

// verbNames lists the commands that need no allow-command.
func verbNames() (names []string) {
	for v := smtp.VerbUnknown + 1; v < smtp.NumVerbs; v++ {
		names = append(names, v.String())
	}
	return names
}

// verbNames lists the commands that a cmd verb line of the map can name.
func (m *Map) verbNames() []string {
	names := verbNames()
	for _, c := range m.AllowCommands {
		names = append(names, c.Word)
	}
	return names
}
