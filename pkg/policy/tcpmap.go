package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// TCPMap is a `tcp-map`: what is done with TCP segments that end hosts may read
// in different ways (asa.md 6). A class uses it through `set connection
// advanced-options NAME`.
type TCPMap struct {
	Name string // empty: DefaultTCPMap

	QueueLimit   uint64        // queue-limit N: packets of a connection that wait for a gap to close; 0: as many as the engine's bounds allow
	QueueTimeout time.Duration // queue-limit N timeout S: how long they wait

	CheckRetransmission  bool         // check-retransmission: a record where octets are sent again with other values
	ChecksumVerification bool         // checksum-verification: in captures too
	DropOverMSS          bool         // exceed-mss drop
	AllowUrgent          bool         // urgent-flag allow
	ReservedBits         ReservedBits // reserved-bits {allow|clear|drop}
	NoTTLProtection      bool         // no ttl-evasion-protection: the operator's words; no meaning, what it would switch off always holds
}

// ReservedBits is what is done with the reserved bits of the TCP header.
type ReservedBits uint8

// The values of reserved-bits.
const (
	ReservedAllow ReservedBits = iota
	ReservedClear
	ReservedDrop
)

// reservedWords are the words of reserved-bits.
var reservedWords = []string{ReservedAllow: "allow", ReservedClear: "clear", ReservedDrop: "drop"}

// String returns the word in the language.
func (r ReservedBits) String() string { return reservedWords[r] }

// Bounds of queue-limit (ASA CLI guide, "tcp-map Commands").
const (
	maxQueueLimit       = 250
	maxQueueTimeout     = 20 // seconds
	defaultQueueTimeout = 4 * time.Second
)

// DefaultTCPMap is what holds for a class without `set connection
// advanced-options`: the ASA's defaults, but for syn-data. The caller owns it.
func DefaultTCPMap() *TCPMap { return &TCPMap{QueueTimeout: defaultQueueTimeout} }

// fixed are the lines of a tcp-map that can only say what holds without them:
// what they allow here, what the ASA's language has too, and why that is not
// done.
var fixed = map[string]struct{ always, never, why string }{
	"invalid-ack":      {"drop", "allow", "conntrack drops packets that acknowledge what was never sent"},
	"seq-past-window":  {"drop", "allow", "receivers differ in what they keep of octets beyond their window"},
	"syn-data":         {"drop", "allow", "receivers differ in whether they deliver octets that come with a SYN"},
	"synack-data":      {"drop", "allow", "receivers differ in whether they deliver octets that come with a SYN"},
	"window-variation": {"allow", "drop", "no connection is judged by how its window changes"},
}

// readTCPMap reads `tcp-map NAME` and opens the context of its lines.
func (p *parser) readTCPMap(l *line) {
	p.ctx = inTCPMap
	w, ok := l.name("a name for the tcp-map", maxName)
	t := DefaultTCPMap()
	t.Name = w.text
	p.tcpMaps = append(p.tcpMaps, &tcpMapLines{t, w})
	if ok && l.end() {
		p.once("tcp-map "+w.text, w)
	}
}

// lastTCPMap is the tcp-map whose lines are being read.
func (p *parser) lastTCPMap() *TCPMap { return p.tcpMaps[len(p.tcpMaps)-1].TCPMap }

// readQueueLimit reads `queue-limit N [timeout S]`. An ASA ignores the timeout of
// limit 0; here packets wait then too, and so it counts.
func (p *parser) readQueueLimit(l *line) {
	n, ok := l.number(0, maxQueueLimit)
	if !ok {
		return
	}
	wait := defaultQueueTimeout
	if l.next < len(l.words) {
		if _, ok := l.keyword("timeout"); !ok {
			return
		}
		s, ok := l.number(1, maxQueueTimeout)
		if !ok {
			return
		}
		wait = time.Duration(s) * time.Second
	}
	if l.end() && p.onceInMap(l, "queue-limit") {
		t := p.lastTCPMap()
		t.QueueLimit, t.QueueTimeout = n, wait
	}
}

// readCheckRetransmission reads `check-retransmission`.
func (p *parser) readCheckRetransmission(l *line) {
	p.readFlag(l, "check-retransmission", &p.lastTCPMap().CheckRetransmission)
}

// readChecksumVerification reads `checksum-verification`.
func (p *parser) readChecksumVerification(l *line) {
	p.readFlag(l, "checksum-verification", &p.lastTCPMap().ChecksumVerification)
}

// readExceedMSS reads `exceed-mss {allow|drop}`.
func (p *parser) readExceedMSS(l *line) {
	if w, ok := p.readChoice(l, "exceed-mss", "allow", "drop"); ok {
		p.lastTCPMap().DropOverMSS = w == "drop"
	}
}

// readUrgentFlag reads `urgent-flag {allow|clear}`.
func (p *parser) readUrgentFlag(l *line) {
	if w, ok := p.readChoice(l, "urgent-flag", "allow", "clear"); ok {
		p.lastTCPMap().AllowUrgent = w == "allow"
	}
}

// readReservedBits reads `reserved-bits {allow|clear|drop}`.
func (p *parser) readReservedBits(l *line) {
	if w, ok := p.readChoice(l, "reserved-bits", reservedWords...); ok {
		p.lastTCPMap().ReservedBits = ReservedBits(slices.Index(reservedWords, w))
	}
}

// readChoice reads one of the words given, to the line's end.
func (p *parser) readChoice(l *line, what string, want ...string) (string, bool) {
	w, ok := l.keyword(want...)
	return w, ok && l.end() && p.onceInMap(l, what)
}

// readTTLProtection reads `[no] ttl-evasion-protection`. There is no switching it
// off: the ledger gives a later packet the octets of the first (peers.md T2).
func (p *parser) readTTLProtection(l *line) {
	if l.end() && p.onceInMap(l, "ttl-evasion-protection") {
		p.lastTCPMap().NoTTLProtection = l.no
	}
}

// readFixed reads a line of fixed.
func (p *parser) readFixed(l *line) {
	what := strings.ToLower(l.words[0].text)
	f := fixed[what]
	if w := l.peek(); w.is(f.never) {
		p.report(w, "not done, "+f.why, f.always, "")
		return
	}
	p.readChoice(l, what, f.always)
}

// refuseTCPOptions reports `tcp-options ...`.
func (p *parser) refuseTCPOptions(l *line) {
	p.report(l.words[0], "not decided here", "no such line: chain strip of the nft ruleset takes MPTCP, fast open and MD5 off, other options pass", "")
}

// tcpMap returns the tcp-map of that name, nil if there is none.
func (p *parser) tcpMap(name string) *TCPMap {
	for _, t := range p.tcpMaps {
		if t.Name == name {
			return t.TCPMap
		}
	}
	return nil
}

// tcpMapNames lists the tcp-maps.
func (p *parser) tcpMapNames() (names []string) {
	for _, t := range p.tcpMaps {
		names = append(names, t.Name)
	}
	return names
}

// String prints the map as a policy file has it: the lines that differ from the
// default.
func (t *TCPMap) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "tcp-map %s\n", t.Name)
	for _, l := range t.lines() {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}

// lines lists the lines of the map.
func (t *TCPMap) lines() (lines []string) {
	if t.QueueLimit != 0 || t.QueueTimeout != defaultQueueTimeout {
		lines = append(lines, fmt.Sprintf("queue-limit %d timeout %d", t.QueueLimit, t.QueueTimeout/time.Second))
	}
	for _, l := range []struct {
		holds bool
		text  string
	}{
		{t.CheckRetransmission, "check-retransmission"},
		{t.ChecksumVerification, "checksum-verification"},
		{t.DropOverMSS, "exceed-mss drop"},
		{t.AllowUrgent, "urgent-flag allow"},
		{t.ReservedBits != ReservedAllow, "reserved-bits " + t.ReservedBits.String()},
		{t.NoTTLProtection, "no ttl-evasion-protection"},
	} {
		if l.holds {
			lines = append(lines, l.text)
		}
	}
	return lines
}
