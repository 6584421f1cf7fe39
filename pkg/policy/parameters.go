package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// newMapLines begins a map; its name may be empty after an error.
func (p *parser) newMapLines(name word) {
	p.maps = append(p.maps, &mapLines{Map: newMap(name.text), name: name})
	p.ctx = inMap
}

// lastMap is the map whose lines are being read.
func (p *parser) lastMap() *mapLines { return p.maps[len(p.maps)-1] }

// keyInMap is the key, for once, of a line of the map or tcp-map being read, and
// where the line stands.
func (p *parser) keyInMap(l *line, what string) (string, word) {
	at := l.words[0]
	if l.no {
		at.text = "no " + what
	}
	if p.ctx == inTCPMap {
		return fmt.Sprintf("tcp-map %d %s", len(p.tcpMaps), what), at
	}
	return fmt.Sprintf("map %d %s", len(p.maps), what), at
}

// onceInMap is once for a line of the map being read.
func (p *parser) onceInMap(l *line, what string) bool {
	key, at := p.keyInMap(l, what)
	return p.once(key, at)
}

// againInMap is onceInMap for a line that may stand more than once, though not
// behind its `no` form.
func (p *parser) againInMap(l *line, what string) bool {
	key, at := p.keyInMap(l, what)
	if before, found := p.stated[key]; found && !strings.HasPrefix(before.text, "no ") {
		return true
	}
	return p.once(key, at)
}

// readMapDescription reads `description TEXT`.
func (p *parser) readMapDescription(l *line) {
	if text, ok := l.description(); ok && p.onceInMap(l, "description") {
		p.lastMap().Description = text
	}
}

// readParameters reads `parameters`, which opens their context.
func (p *parser) readParameters(l *line) {
	l.end()
	p.ctx = inParameters
}

// refuseInspectClass reports `class NAME` in a map. The ASA's books print it, but
// no ASA has the class-map it would name (asa.md 1.5).
func (p *parser) refuseInspectClass(l *line) {
	p.report(l.words[0], "a leftover of the ASA's books, there is no class-map type inspect esmtp",
		"match lines here; for several regexes match sender-address regex class NAME", "")
	p.ctx = inInspectClass
}

// readMaskBanner reads `mask-banner`.
func (p *parser) readMaskBanner(l *line) { p.readFlag(l, "mask-banner", &p.lastMap().MaskBanner) }

// readAllowBDAT reads `allow-bdat`.
func (p *parser) readAllowBDAT(l *line) { p.readFlag(l, "allow-bdat", &p.lastMap().AllowBDAT) }

// readRequireTLS reads `require-tls`.
func (p *parser) readRequireTLS(l *line) {
	m := p.lastMap()
	m.requireTLS = l.words[0]
	p.readFlag(l, "require-tls", &m.RequireTLS)
}

// readFlag reads the rest of a parameter without arguments, and sets it.
func (p *parser) readFlag(l *line, parameter string, to *bool) {
	if l.end() && p.onceInMap(l, parameter) {
		*to = true
	}
}

// readAllowTLS reads `allow-tls [action log]`.
func (p *parser) readAllowTLS(l *line) {
	log := l.next < len(l.words)
	if log {
		if _, ok := l.keyword("action"); !ok {
			return
		}
		if _, ok := l.keyword("log"); !ok {
			return
		}
	}
	if l.end() && p.onceInMap(l, "allow-tls") {
		m := p.lastMap()
		m.AllowTLS, m.TLSLog = true, log
	}
}

// actions are the first words of an action.
var actions = map[string]Action{
	"log":             NoAction,
	"allow":           NoAction,
	"mask":            Mask,
	"drop-connection": DropConnection,
	"reset":           Reset,
	"rate-limit":      RateLimit,
}

// readMailRelay reads `mail-relay DOMAIN action {drop-connection|log} [log]`.
func (p *parser) readMailRelay(l *line) {
	w, ok := l.name("the domain that mail is for", maxDomain)
	if !ok {
		return
	}
	if !isDomain([]byte(w.text)) {
		p.report(w, "not a domain", "letters, digits, '-' and dots between them: example.com", "")
		return
	}
	m := p.lastMap()
	if p.readActionDo(l, "mail-relay", &m.MailRelay) {
		m.MailRelayDomain = strings.ToLower(w.text)
	}
}

// readSpecialCharacter reads `special-character action {drop-connection|log} [log]`.
func (p *parser) readSpecialCharacter(l *line) {
	p.readActionDo(l, "special-character", &p.lastMap().SpecialCharacter)
}

// readActionDo reads the word action and what an ASA's parameter can do. The
// ASA's books disagree on `drop-connection log` here (asa.md 1.2): it is taken.
func (p *parser) readActionDo(l *line, parameter string, to *Do) bool {
	if _, ok := l.keyword("action"); !ok {
		return false
	}
	return p.readDo(l, parameter, to, "drop-connection", "log")
}

// readBareNewline reads `bare-newline {log|mask|drop-connection|reset} [log]`.
func (p *parser) readBareNewline(l *line) {
	p.readDo(l, "bare-newline", &p.lastMap().BareNewline, "log", "mask", "drop-connection", "reset")
}

// readPipelining reads `pipelining {allow|mask|drop-connection} [log]`.
func (p *parser) readPipelining(l *line) {
	p.readDo(l, "pipelining", &p.lastMap().Pipelining, "allow", "mask", "drop-connection")
}

// readTLSInjection reads `tls-injection {drop-connection|reset} [log]`.
func (p *parser) readTLSInjection(l *line) {
	p.readDo(l, "tls-injection", &p.lastMap().TLSInjection, "drop-connection", "reset")
}

// readDo reads an action, which must be one of want, for a parameter, and tells
// whether it was set.
func (p *parser) readDo(l *line, parameter string, to *Do, want ...string) bool {
	k, ok := l.keyword(want...)
	if !ok {
		return false
	}
	do := l.do(k)
	if !l.end() || !p.onceInMap(l, parameter) {
		return false
	}
	*to = do
	return true
}

// do reads the log word that may stand behind the word of an action.
func (l *line) do(action string) Do {
	return Do{Action: actions[action], Log: action == "log" || l.optional("log")}
}

// readAuthLineLength reads `auth-line-length N`, which does not count the CR LF.
func (p *parser) readAuthLineLength(l *line) {
	if n, ok := l.number(1, smtp.MaxLine-2); ok && l.end() && p.onceInMap(l, "auth-line-length") {
		m := p.lastMap()
		m.AuthLineLength, m.AuthCommandLength = n, true
	}
}

// isWord tells whether text has only letters, digits and '-', which is what a
// command's word is made of (design.md 6.4).
func isWord(text string) bool {
	return !slices.ContainsFunc([]byte(text), func(c byte) bool { return !isLetterOrDigit(c) && c != '-' })
}

// isLetterOrDigit tells whether c is one of ASCII.
func isLetterOrDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
