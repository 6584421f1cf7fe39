package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// criteria are the words of each Criterion as the ASA shows them, and what is
// measured; EHLOReplyParameter measures nothing.
var criteria = [...]struct {
	words   string
	measure smtp.Measure
}{
	CmdLineLength:       {"cmd line length", smtp.CmdLineLength},
	CmdRcptCount:        {"cmd RCPT count", smtp.CmdRcptCount},
	BodyLineLength:      {"body line length", smtp.BodyLineLength},
	HeaderLineLength:    {"header line length", smtp.HeaderLineLength},
	SenderAddressLength: {"sender-address length", smtp.SenderLength},
	MIMEFilenameLength:  {"MIME filename length", smtp.FilenameLength},
	EHLOReplyParameter:  {"ehlo-reply-parameter", smtp.NumMeasures},
}

// unsupportedCriteria are the ASA's other ones (asa.md 1.3).
var unsupportedCriteria = []string{
	"not", "body length", "cmd verb", "header length", "header to-fields count", "invalid-recipients count",
	"MIME filetype", "MIME encoding", "MIME type length", "sender-address regex",
}

// keywords are the ASA's words for the classes of EHLO keywords. STARTTLS has
// none: allow-tls decides on it, and where that is absent it is one of the
// others.
var keywords = [smtp.NumKeywords]string{
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
	smtp.KeywordSTARTTLS:   "starttls",
}

// readable are the keywords that a match line can name.
var readable = keywords[:smtp.KeywordSTARTTLS]

// actions are the first words of an action.
var actions = map[string]Action{
	"log":             NoAction,
	"allow":           NoAction,
	"mask":            Mask,
	"drop-connection": DropConnection,
	"reset":           Reset,
}

// newMapLines begins a map; its name may be empty after an error.
func (p *parser) newMapLines(name word) {
	p.maps = append(p.maps, &mapLines{Map: newMap(name.text), name: name})
	p.ctx = inMap
}

// lastMap is the map whose lines are being read.
func (p *parser) lastMap() *mapLines { return p.maps[len(p.maps)-1] }

// lastMatch is the match whose action is being read.
func (m *mapLines) lastMatch() *matchLines { return &m.matches[len(m.matches)-1] }

// onceInMap is once for a line of the map being read.
func (p *parser) onceInMap(l *line, what string) bool {
	at := l.words[0]
	if l.no {
		at.text = "no " + what
	}
	return p.once(fmt.Sprintf("map %d %s", len(p.maps), what), at)
}

// readDescription reads `description TEXT`.
func (p *parser) readDescription(l *line) {
	text := l.rest()
	switch w := l.peek(); {
	case text == "":
		p.unexpected(w, "a description", nil)
	case len(text) > maxDescription:
		p.report(w, fmt.Sprintf("description of %d characters", len(text)), fmt.Sprintf("at most %d", maxDescription), "")
	case p.onceInMap(l, "description"):
		p.lastMap().Description = text
	}
}

// readParameters reads `parameters`, which opens their context.
func (p *parser) readParameters(l *line) {
	l.end()
	p.ctx = inParameters
}

// readMaskBanner reads `[no] mask-banner`.
func (p *parser) readMaskBanner(l *line) {
	if l.end() && p.onceInMap(l, "mask-banner") {
		p.lastMap().MaskBanner = !l.no
	}
}

// readOff reads the `no` form of a parameter that is always off in this version.
func (p *parser) readOff(l *line) {
	if l.end() {
		p.onceInMap(l, strings.ToLower(l.words[1].text))
	}
}

// readAllowTLS reads `allow-tls [action log]` and `no allow-tls`.
func (p *parser) readAllowTLS(l *line) {
	log := false
	if !l.no && l.next < len(l.words) {
		if _, ok := l.keyword("action"); !ok {
			return
		}
		if _, log = l.keyword("log"); !log {
			return
		}
	}
	if l.end() && p.onceInMap(l, "allow-tls") {
		m := p.lastMap()
		m.AllowTLS, m.TLSLog = !l.no, log
	}
}

// readBareNewline reads `bare-newline {log|mask|drop-connection|reset} [log]`.
func (p *parser) readBareNewline(l *line) {
	p.readDo(l, "bare-newline", &p.lastMap().BareNewline, "log", "mask", "drop-connection", "reset")
}

// readPipelining reads `pipelining {allow|mask|drop-connection} [log]`.
func (p *parser) readPipelining(l *line) {
	if w := l.peek(); w.is("mask") {
		// A masked RCPT is answered 500: a recipient bounced for what the client did.
		p.report(w, unsupported, "allow or drop-connection", "")
		return
	}
	p.readDo(l, "pipelining", &p.lastMap().Pipelining, "allow", "drop-connection")
}

// readTLSInjection reads `tls-injection {drop-connection|reset} [log]`.
func (p *parser) readTLSInjection(l *line) {
	p.readDo(l, "tls-injection", &p.lastMap().TLSInjection, "drop-connection", "reset")
}

// readDo reads an action, which must be one of want, for a parameter.
func (p *parser) readDo(l *line, parameter string, to *Do, want ...string) {
	k, ok := l.keyword(want...)
	if !ok {
		return
	}
	if do := l.do(k); l.end() && p.onceInMap(l, parameter) {
		*to = do
	}
}

// do reads the log word that may stand behind the word of an action.
func (l *line) do(action string) Do {
	return Do{actions[action], action == "log" || l.optional("log")}
}

// readAuthLineLength reads `auth-line-length N`.
func (p *parser) readAuthLineLength(l *line) {
	if n, ok := l.number(1, MaxBound); ok && l.end() && p.onceInMap(l, "auth-line-length") {
		p.lastMap().AuthLineLength = n
	}
}

// readMatch reads `match CRITERION` and opens the context of its action.
func (p *parser) readMatch(l *line) {
	match, ok := p.readCriterion(l)
	m := p.lastMap()
	m.Matches = append(m.Matches, match)
	m.matches = append(m.matches, matchLines{at: l.words[0], broken: !ok})
	p.ctx = inMatch
}

// readCriterion reads what stands behind `match`.
func (p *parser) readCriterion(l *line) (m Match, ok bool) {
	var phrases []string
	for _, c := range criteria {
		phrases = append(phrases, c.words)
	}
	phrases = append(phrases, unsupportedCriteria...)
	i, ok := l.phrase(phrases, len(criteria))
	if !ok {
		return m, false
	}
	if i >= len(criteria) {
		at := l.words[0]
		at.text = "match " + phrases[i]
		p.report(at, unsupported, "", "")
		return m, false
	}
	m.Criterion = Criterion(i)
	if m.Criterion == EHLOReplyParameter {
		m.Keywords, ok = p.readKeywords(l)
		return m, ok
	}
	if _, ok = l.keyword("gt"); ok {
		m.Over, ok = l.number(1, MaxBound)
	}
	return m, ok && l.end()
}

// readKeywords reads the classes of EHLO keywords to the line's end.
func (p *parser) readKeywords(l *line) (found []smtp.Keyword, ok bool) {
	for len(found) == 0 || l.next < len(l.words) {
		w := l.peek()
		if w.is("starttls") {
			p.report(w, "not for a match", "allow-tls or no allow-tls under parameters", "")
			return nil, false
		}
		name, ok := l.keyword(readable...)
		if !ok {
			return nil, false
		}
		k := smtp.Keyword(slices.Index(readable, name))
		if slices.Contains(found, k) {
			p.report(w, "stated twice", "", "")
			return nil, false
		}
		found = append(found, k)
	}
	return found, true
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
	match.Do = l.do(strings.ToLower(w.text))
	if want := match.Criterion.actions(); !lines.broken && !slices.Contains(want, match.Do.Action) {
		p.report(w, "not an action for "+match.Criterion.String(), oneOf(actionWords(want)), "")
		return
	}
	l.end()
}

// actions are what can be done about a criterion. A mask needs bytes that can be
// overwritten without harm; a server's offer is no reason to end a session.
func (c Criterion) actions() []Action {
	if c == EHLOReplyParameter {
		return []Action{Mask, NoAction}
	}
	return []Action{DropConnection, Reset, NoAction}
}

// actionWords are the words for actions of a match.
func actionWords(of []Action) []string {
	words := make([]string, len(of))
	for i, a := range of {
		words[i] = Do{a, a == NoAction}.String()
	}
	return words
}
