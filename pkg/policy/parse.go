package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// context is the part of the file that a line belongs to. Indentation says
// nothing: a line belongs to the innermost open context that knows its first
// word, which closes those inside it.
type context uint8

// The contexts.
const (
	atTop context = iota
	inInterface
	inMap        // policy-map type inspect esmtp
	inParameters // of inMap
	inMatch      // of inMap
	inClassMap
	inRegexClass // class-map type regex
	inPolicyMap
	inClass // of inPolicyMap
	inTCPMap
	inInspectClass // class in an inMap: not read, reported already
	inUnread       // likewise
)

// around is the context that holds each context.
var around = [...]context{inParameters: inMap, inMatch: inMap, inClass: inPolicyMap, inInspectClass: inMap, inUnread: atTop}

// headings name the contexts in error texts.
var headings = [...]string{
	inInterface:  "interface",
	inMap:        "policy-map type inspect esmtp",
	inParameters: "parameters",
	inMatch:      "match",
	inClassMap:   "class-map",
	inRegexClass: "class-map type regex",
	inPolicyMap:  "policy-map",
	inClass:      "class",
	inTCPMap:     "tcp-map",
}

// command is a first word of lines in one context.
type command struct {
	in    context
	word  string
	takes form
	read  func(*parser, *line)
}

// form says how a command may stand.
type form uint8

// The forms.
const (
	plain   form = iota // COMMAND
	either              // COMMAND and no COMMAND; the latter is what holds without the line
	both                // COMMAND and no COMMAND; read tells them apart by line.no
	refused             // not at all: read reports why
)

// commands is the language: what may stand where. Lines that are refused are
// known so that the operator is told the truth about them.
var commands = []command{
	{atTop, "interface", plain, (*parser).readInterface},
	{atTop, "regex", plain, (*parser).readRegex},
	{atTop, "tcp-map", plain, (*parser).readTCPMap},
	{atTop, "policy-map", plain, (*parser).readPolicyMap},
	{atTop, "class-map", plain, (*parser).readClassMap},
	{atTop, "service-policy", plain, (*parser).readServicePolicy},
	{atTop, "access-list", refused, (*parser).refuse},
	{inInterface, "nameif", plain, (*parser).readNameif},
	{inMap, "description", plain, (*parser).readMapDescription},
	{inMap, "parameters", plain, (*parser).readParameters},
	{inMap, "match", plain, (*parser).readMatch},
	{inMap, "class", refused, (*parser).refuseInspectClass},
	{inParameters, "mask-banner", either, (*parser).readMaskBanner},
	{inParameters, "mail-relay", either, (*parser).readMailRelay},
	{inParameters, "special-character", either, (*parser).readSpecialCharacter},
	{inParameters, "allow-tls", either, (*parser).readAllowTLS},
	{inParameters, "require-tls", either, (*parser).readRequireTLS},
	{inParameters, "allow-bdat", either, (*parser).readAllowBDAT},
	{inParameters, "allow-command", either, (*parser).readAllowCommand},
	{inParameters, "allow-ehlo-parameter", either, (*parser).readAllowKeyword},
	{inParameters, "auth-line-length", either, (*parser).readAuthLineLength},
	{inParameters, "pipelining", either, (*parser).readPipelining},
	{inParameters, "bare-newline", either, (*parser).readBareNewline},
	{inParameters, "tls-injection", either, (*parser).readTLSInjection},
	{inMatch, "drop-connection", plain, (*parser).readAction},
	{inMatch, "reset", plain, (*parser).readAction},
	{inMatch, "mask", plain, (*parser).readAction},
	{inMatch, "log", plain, (*parser).readAction},
	{inMatch, "rate-limit", plain, (*parser).readAction},
	{inClassMap, "match", plain, (*parser).readMatchQueue},
	{inClassMap, "description", plain, (*parser).readClassDescription},
	{inRegexClass, "match", plain, (*parser).readMatchRegex},
	{inRegexClass, "description", plain, (*parser).readRegexClassDescription},
	{inPolicyMap, "class", plain, (*parser).readClass},
	{inPolicyMap, "description", plain, (*parser).readPolicyDescription},
	{inClass, "inspect", plain, (*parser).readInspect},
	{inClass, "set", plain, (*parser).readSet},
	{inTCPMap, "queue-limit", either, (*parser).readQueueLimit},
	{inTCPMap, "check-retransmission", either, (*parser).readCheckRetransmission},
	{inTCPMap, "checksum-verification", either, (*parser).readChecksumVerification},
	{inTCPMap, "exceed-mss", either, (*parser).readExceedMSS},
	{inTCPMap, "urgent-flag", either, (*parser).readUrgentFlag},
	{inTCPMap, "reserved-bits", either, (*parser).readReservedBits},
	{inTCPMap, "ttl-evasion-protection", both, (*parser).readTTLProtection},
	{inTCPMap, "invalid-ack", either, (*parser).readFixed},
	{inTCPMap, "seq-past-window", either, (*parser).readFixed},
	{inTCPMap, "syn-data", either, (*parser).readFixed},
	{inTCPMap, "synack-data", either, (*parser).readFixed},
	{inTCPMap, "window-variation", either, (*parser).readFixed},
	{inTCPMap, "tcp-options", refused, (*parser).refuseTCPOptions},
}

// parser reads a file line by line. What it has read so far may be wrong: a
// Config is made only of a file without errors.
type parser struct {
	file   string
	errs   Errors
	ctx    context
	stated map[string]word // what may stand once, by key, and where it stands

	interfaces   []*interfaceLines
	regexes      []*regexLines
	regexClasses []*regexClassLines
	maps         []*mapLines
	classes      []*classLines
	uses         []*useLines
	tcpMaps      []*tcpMapLines
	policyMap    word   // its name; no text: none yet
	description  string // of the policy map
	service      word   // the policy map that service-policy names
}

// interfaceLines is an `interface` and its name.
type interfaceLines struct{ name, nameif word }

// mapLines is a map and where its parts stand.
type mapLines struct {
	*Map
	name       word
	last       int          // number of its last line
	requireTLS word         // no text: not stated
	commands   []word       // one for each of Map.AllowCommands
	matches    []matchLines // one for each of Map.Matches
}

// matchLines is where a match line stands.
type matchLines struct {
	at     word   // its first word
	verbs  []word // one for each of Match.Verbs
	regex  word   // the name in Match.Regex
	action word   // its action line; no text: none yet
	broken bool   // it was reported: its action tells nothing new
}

// classLines is a `class-map`.
type classLines struct {
	name        word
	description string
	queue       word // the range as written, right or wrong; no text: none yet
	first, last uint16
	valid       bool // first and last are set
}

// useLines is a `class` of the policy map.
type useLines struct {
	class   word
	inspect word // the word inspect; no text: none yet
	mapName word // no text: the default map
	tcpMap  word // no text: DefaultTCPMap
	figures figures
	broken  bool // its limits were reported: what it lacks tells nothing new
}

// tcpMapLines is a `tcp-map` and where its name stands.
type tcpMapLines struct {
	*TCPMap
	name word
}

// newParser returns a parser for the file of that name.
func newParser(file string) *parser {
	return &parser{file: file, stated: make(map[string]word)}
}

// Parse reads a policy file. The name is used in errors only. The error is an
// Errors with everything that is wrong; there is no Config then.
func Parse(file string, text []byte) (*Config, error) {
	p := newParser(file)
	p.text(text)
	p.check()
	if len(p.errs) > 0 {
		p.errs.sort()
		return nil, p.errs
	}
	return p.config(), nil
}

// text reads all lines. A byte order mark and CR LF line ends are an editor's
// doing and mean nothing.
func (p *parser) text(text []byte) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	number := 0
	for l := range strings.Lines(string(text)) {
		number++
		p.line(number, strings.TrimSuffix(strings.TrimSuffix(l, "\n"), "\r"))
	}
}

// line reads one line.
func (p *parser) line(number int, text string) {
	l := newLine(p, number, text)
	if len(l.words) == 0 || l.words[0].text[0] == '!' {
		return
	}
	if i := strings.IndexFunc(text, isControl); i >= 0 {
		p.report(word{text[i : i+1], number, i + 1}, "control character", "plain text", "")
		return
	}
	l.no = l.optional("no")
	first, _ := l.read()
	c := p.find(first)
	switch {
	case c != nil:
		p.run(c, first, l)
	case p.ctx != inUnread && p.ctx != inInspectClass:
		p.unknown(first)
	}
	if p.ctx == inMap || p.ctx == inParameters || p.ctx == inMatch {
		p.lastMap().last = number
	}
}

// isControl tells whether a byte can be part of no word: anything below space
// but the tab, and DEL.
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// find returns the command that a word is in the open contexts, innermost
// first, nil if it is none.
func (p *parser) find(w word) *command {
	for ctx := p.ctx; ; ctx = around[ctx] {
		for i := range commands {
			if commands[i].in == ctx && w.is(commands[i].word) {
				return &commands[i]
			}
		}
		if ctx == atTop {
			return nil
		}
	}
}

// run reads a line of a known command. What the `no` form of a parameter says is
// what a new map has.
func (p *parser) run(c *command, first word, l *line) {
	if l.no && c.takes != either && c.takes != both {
		p.report(l.words[0], "a policy file says what holds, it takes nothing back", "the "+c.word+" line left out", "")
		return
	}
	p.ctx = c.in
	if c.takes == refused && c.in == atTop {
		p.ctx = inUnread
	}
	if !l.no || c.takes == both {
		c.read(p, l)
	} else if l.end() {
		p.onceInMap(l, c.word)
	}
}

// refuse reports a command that the ASA has and this version does not.
func (p *parser) refuse(l *line) { p.report(l.words[0], unsupported, "", "") }

// unknown reports a first word that no open context knows. If it looks like the
// start of another context, that one's lines are not read: they would be
// reported as misplaced here.
func (p *parser) unknown(w word) {
	for _, c := range commands {
		if w.is(c.word) {
			p.report(w, "out of place", "it under "+headings[c.in], "")
			return
		}
	}
	var here, open []string
	for ctx := p.ctx; ; ctx = around[ctx] {
		for _, c := range commands {
			if c.in == ctx {
				open = append(open, c.word)
				if ctx == p.ctx && c.takes != refused {
					here = append(here, c.word)
				}
			}
		}
		if ctx == atTop {
			break
		}
	}
	near := nearest(w.text, open)
	p.report(w, "unknown command", oneOf(here), near)
	action := func(c command) bool { return c.in == inMatch && c.word == near }
	if p.ctx == inMatch && slices.ContainsFunc(commands, action) {
		p.lastMap().lastMatch().action = w // misspelt: that it lacks one tells nothing new
	}
	top := func(c command) bool { return c.in == atTop && c.word == near }
	if p.ctx == atTop || slices.ContainsFunc(commands, top) {
		p.ctx = inUnread
	}
}

// report notes an error at w.
func (p *parser) report(w word, problem, want, near string) {
	text := w.text
	if text == "" {
		text = "end of line"
	}
	p.errs = append(p.errs, &Error{p.file, w.line, w.col, text, problem, want, near})
}

// unexpected reports that w is not what was wanted; candidates are the words
// that could have stood there.
func (p *parser) unexpected(w word, want string, candidates []string) {
	p.report(w, "unexpected", want, nearest(w.text, candidates))
}

// once reports a second thing of the same key and tells whether this is the
// first.
func (p *parser) once(key string, w word) bool {
	if before, found := p.stated[key]; found {
		p.report(w, fmt.Sprintf("stated twice, first in line %d", before.line), "", "")
		return false
	}
	p.stated[key] = w
	return true
}
