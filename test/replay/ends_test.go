package replay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// watcher checks what holds for every decision of an engine. That each packet
// has exactly one, of the length it came with, capture.Replay checks.
type watcher struct {
	*engine.Engine
	came   map[uint32][]byte // packets without a decision, as they came
	faults []string
}

// Process keeps a copy of p.
func (w *watcher) Process(p *engine.Packet) []engine.Decision {
	w.came[p.ID] = bytes.Clone(p.Data)
	return w.check(w.Engine.Process(p))
}

// Tick lets time pass.
func (w *watcher) Tick(now time.Duration) []engine.Decision { return w.check(w.Engine.Tick(now)) }

// check notes decisions that do not say what they did.
func (w *watcher) check(decisions []engine.Decision) []engine.Decision {
	for _, d := range decisions {
		fault := ""
		switch {
		case (d.Verdict == engine.Drop) != (d.Reason != engine.ReasonNone):
			fault = "has verdict and reason that contradict each other"
		case d.Verdict == engine.Drop:
		case !d.Edited && !bytes.Equal(w.came[d.ID], d.Data):
			fault = "was changed and is not called edited"
		case d.Edited && !wire.TCPChecksumOK(d.Data, tcpOffset(d.Data)):
			fault = "was edited and has a wrong checksum"
		}
		if fault != "" {
			w.faults = append(w.faults, fmt.Sprintf("frame %d %s", d.ID, fault))
		}
		delete(w.came, d.ID)
	}
	return decisions
}

// tcpOffset is where the TCP header of an IP packet without IPv6 extension
// headers begins.
func tcpOffset(ip []byte) int {
	if ip[0]>>4 == 6 {
		return 40
	}
	return int(ip[0]&15) * 4
}

// network is the receiving side of every connection of a capture.
type network struct {
	ports  []uint16 // of servers
	conns  map[flow.Key]*ends
	order  []*ends // of conns, by their first packet
	faults []string
}

// ends are the two ends' TCP of a pair of addresses: receivers of what was
// forwarded.
type ends struct {
	receivers [2]receiver // by smtp.Side: what that side received
}

// receiver is the receiving half of an end.
type receiver struct {
	open   bool
	base   wire.Seq     // of the first octet
	octets map[int]byte // by position; the first copy stays, as on Linux
	next   int          // octets received without a gap
	fin    int          // position of the FIN, -1 if none came
	acked  int          // octets that a forwarded packet has acknowledged
	reset  bool         // a RST that it accepts came
	before string       // what came of connections before this one
}

// deliver gives a forwarded packet to its receiver.
func (n *network) deliver(ip []byte) {
	t, ok := capture.ParseTCP(ip)
	if !ok {
		return
	}
	key := flow.KeyOf(t.Src, t.Dst)
	e := n.conns[key]
	if e == nil {
		e = &ends{}
		n.conns[key] = e
		n.order = append(n.order, e)
	}
	to := smtp.Server
	if slices.Contains(n.ports, t.Src.Port()) {
		to = smtp.Client
	}
	for _, fault := range e.take(to, t, ip[tcpOffset(ip):]) {
		n.faults = append(n.faults, fmt.Sprintf("the %s of %v and %v got %s", sideNames[to], t.Src, t.Dst, fault))
	}
}

// take gives a packet to side to; tcp is its TCP header.
func (e *ends) take(to smtp.Side, t capture.TCP, tcp []byte) (faults []string) {
	if t.Flags&urg != 0 {
		faults = append(faults, "an urgent octet, which it leaves out")
	}
	if fault := e.receivers[to].take(t); fault != "" {
		faults = append(faults, fault)
	}
	if from := &e.receivers[1-to]; t.Flags&ack != 0 && t.Flags&capture.RST == 0 && from.open {
		from.acked = max(from.acked, wire.Seq(binary.BigEndian.Uint32(tcp[8:])).Sub(from.base))
	}
	return faults
}

// TCP flag bits that package capture has no use for (RFC 9293 section 3.1).
const (
	ack = 1 << 4
	urg = 1 << 5
)

var sideNames = [2]string{smtp.Client: "client", smtp.Server: "server"}

// take receives a packet. It returns a fault if octets that were not
// acknowledged came in two versions: what was forwarded once is the truth.
func (r *receiver) take(t capture.TCP) (fault string) {
	if t.Flags&capture.SYN != 0 {
		r.restart(wire.Seq(t.Seq).Add(1))
		return ""
	}
	if !r.open {
		return ""
	}
	at := wire.Seq(t.Seq).Sub(r.base)
	if t.Flags&capture.RST != 0 {
		if at == r.next {
			r.reset = true
		}
		return ""
	}
	for i, c := range t.Payload {
		switch old, known := r.octets[at+i]; {
		case !known && at+i >= 0:
			r.octets[at+i] = c
		case known && old != c && at+i >= r.acked:
			fault = fmt.Sprintf("octet %d as %q and as %q", at+i, old, c)
		}
	}
	for r.has(r.next) {
		r.next++
	}
	if t.Flags&capture.FIN != 0 {
		r.fin = at + len(t.Payload)
	}
	return fault
}

// has reports whether the octet at a position came.
func (r *receiver) has(at int) bool {
	_, ok := r.octets[at]
	return ok
}

// restart begins a connection, unless its SYN came twice.
func (r *receiver) restart(base wire.Seq) {
	if r.open && r.base == base {
		return
	}
	before := ""
	if r.open {
		before = r.text() + "(a new connection)\n"
	}
	*r = receiver{open: true, base: base, octets: map[int]byte{}, fin: -1, before: before}
}

// text is what was received, a line each, and how it ended.
func (r *receiver) text() string {
	var b strings.Builder
	b.WriteString(r.before)
	data := make([]byte, r.next)
	for i := range data {
		data[i] = r.octets[i]
	}
	for line := range bytes.SplitAfterSeq(data, []byte("\n")) {
		if len(line) > 0 {
			b.WriteString(escape(line) + "\n")
		}
	}
	if r.open && r.fin == r.next {
		b.WriteString("(FIN)\n")
	}
	if r.reset {
		b.WriteString("(RST)\n")
	}
	return b.String()
}

// transcript is what each side received, by smtp.Side: a line each, with every
// byte visible, connection after connection.
func (n *network) transcript() (sides [2]string) {
	for _, e := range n.order {
		for side := range sides {
			sides[side] += e.receivers[side].text()
		}
	}
	return sides
}

// longRun is how many equal bytes are written as one and their number.
const longRun = 20

// escape writes a line in printable ASCII: \r, \n, \t, \0, \\ and \xNN, and
// a\{999} for a byte that stands there 999 times.
func escape(line []byte) string {
	var b strings.Builder
	for i := 0; i < len(line); {
		c, n := line[i], 1
		for i+n < len(line) && line[i+n] == c {
			n++
		}
		one := escapeByte(c)
		if n < longRun {
			b.WriteString(strings.Repeat(one, n))
		} else {
			fmt.Fprintf(&b, `%s\{%d}`, one, n)
		}
		i += n
	}
	return b.String()
}

// escapeByte writes one byte.
func escapeByte(c byte) string {
	switch at := strings.IndexByte("\r\n\t\x00\\", c); {
	case at >= 0:
		return `\` + `rnt0\`[at:at+1]
	case c < ' ' || c >= 0x7f:
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string(c)
}
