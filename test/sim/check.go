package sim

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// tap is what one direction shows at the engine's output.
type tap struct {
	stream
	isn   uint32
	acked int // acknowledged in packets that the engine has seen and accepted
	fin   int // position of the FIN that passed, -1
	edge  int // right edge of the windows that this direction's sender offered, as forwarded
	lied  bool
}

// growth is a piece by which the octets without a gap grew at the engine's
// output: what the receiver can get at most, in the order and with the borders in
// which they were judged.
type growth struct {
	dir      flow.Dir
	from, to int
	at       time.Duration
}

// process gives the engine a packet.
func (w *world) process(p *packet) {
	c := p.c
	if c.reused || w.plan.conntrack && (c.killed || c.offloaded) && p.flags()&flow.SYN == 0 {
		w.bypass(p)
		return
	}
	p.id, p.given = uint32(len(w.given)), w.now
	if !p.merged && p.sum == engine.ChecksumGood && w.chance(5) {
		p.offload()
	}
	copy(p.head[:], p.data[:p.body])
	w.given = append(w.given, p)
	w.waiting++
	if w.record != nil {
		w.record(p)
	}
	w.stats.Packets++
	w.tracePacket(p)
	pkt := engine.Packet{ID: p.id, Time: w.now, In: p.in, Out: p.out, Checksum: p.sum, Merged: p.merged, Data: p.data}
	w.decide(w.eng.Process(&pkt))
	w.counters()
}

// bypass is the kernel's way with packets that the queue does not see any more:
// rp_filter looks at their interface, and conntrack at their checksum.
func (w *world) bypass(p *packet) {
	if p.c.offloaded && !p.c.reused && !p.broken && p.in == interfaceOf(p.dir) {
		p.id = 1
		w.repeats(p)
		w.depart(p)
		return
	}
	w.release(p)
}

// decide takes the engine's decisions.
func (w *world) decide(ds []engine.Decision) {
	for i := range ds {
		d := &ds[i]
		if d.ID == 0 || int(d.ID) >= len(w.given) || w.given[d.ID] == nil {
			w.fail("one decision a packet", "packet %d has none to get", d.ID)
			return
		}
		p := w.given[d.ID]
		w.given[d.ID] = nil
		w.waiting--
		if held := w.now - p.given; held > w.plan.patience {
			w.failAt(p, "time bound of holds", "decided after %v", held)
		}
		if len(d.Data) != len(p.data) || &d.Data[0] != &p.data[0] {
			w.failAt(p, "length kept", "other bytes came back: %d for %d", len(d.Data), len(p.data))
			return
		}
		w.decided(p, d)
	}
	w.events()
}

// decided acts on one decision.
func (w *world) decided(p *packet, d *engine.Decision) {
	c := p.c
	w.traceDecision(p, d)
	if d.Reason == engine.ReasonPolicy || d.Reason == engine.ReasonUndecided {
		c.ended = true
	}
	if d.Verdict == engine.Drop {
		w.stats.Drops[d.Reason]++
		w.release(p)
		return
	}
	if d.Mark&engine.MarkReset != 0 {
		w.stats.Resets++
		w.reject(p)
		return
	}
	if offload := d.Mark&engine.MarkOffload != 0; offload || !p.broken && p.flags()&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK {
		c.offloaded, c.open = offload, offload || c.foreign // the ruleset clears the mark for a new connection
	}
	if c.after != nil && c.after.open && !c.shaken && (len(p.payload()) > 0 || p.flags()&flow.FIN != 0) {
		c.foreign, c.open = true, true // conntrack takes no such text for the new connection's
	}
	if p.forged {
		w.taken = append(w.taken, p.trick)
	}
	if p.broken { // no host takes it
		if w.plan.undecided == engine.UndecidedClosed {
			w.failAt(p, "what cannot be read is dropped", "accepted")
		}
		w.release(p)
		return
	}
	if !c.open {
		w.checkHead(p, d)
	}
	switch {
	case w.fault != nil:
	case !c.open:
		w.forwarded(p)
	default:
		w.repeats(p)
	}
	w.depart(p)
}

// reject is what chain `late` does with a packet that has the reset mark: its
// sender gets a RST, its receiver nothing.
func (w *world) reject(p *packet) {
	c, dir := p.c, p.dir
	if !p.broken && !p.forged && p.flags()&flow.RST == 0 {
		s := segment{seq: p.ack(), flags: flow.RST | flow.ACK, ack: p.seq() + uint32(len(p.payload())+ones(p.flags())), scale: -1}
		if p.flags()&flow.ACK == 0 {
			s.seq = 0
		}
		rst := w.packet()
		rst.build(c, dir.Other(), &s)
		w.travel(rst, &w.plan.beyond[dir.Other()], atHost)
	}
	w.release(p)
}

// checkHead compares the headers of an accepted packet with what came.
func (w *world) checkHead(p *packet, d *engine.Decision) {
	if p.sum == engine.ChecksumPartial && !p.merged && !d.Edited {
		w.failAt(p, "checksum completed", "who sent it says where in the packet the kernel writes") // into octets that were judged, perhaps
	}
	if (d.Edited || p.sum != engine.ChecksumPartial) && !wire.TCPChecksumOK(p.data, p.tcp) {
		w.failAt(p, "checksum right where accepted", "edited %v", d.Edited)
	}
	rst := p.flags()&flow.RST != 0 && flow.Flags(p.head[p.tcp+tcpFlags])&flow.RST == 0
	if rst { // `reset`: the packet in hand became its receiver's RST
		w.stats.RSTs++
		return
	}
	was := p.head
	tcp := was[p.tcp:]
	copy(tcp[tcpSum:], p.data[p.tcp+tcpSum:p.tcp+tcpSum+2])
	tcp[tcpFlags] &^= byte(flow.URG)
	tcp[tcpUrgent], tcp[tcpUrgent+1] = 0, 0
	if w.plan.tcp.ReservedBits == policy.ReservedClear {
		tcp[tcpOffset] &= 0xf0
	}
	w.checkWindow(p, binary.BigEndian.Uint16(tcp[tcpWindow:]))
	copy(tcp[tcpWindow:], p.data[p.tcp+tcpWindow:p.tcp+tcpWindow+2])
	if !bytes.Equal(was[:p.body], p.data[:p.body]) {
		w.failAt(p, "headers kept", "% x became\n% x", p.head[:p.body], p.data[:p.body])
	}
}

// checkWindow allows a window to be lowered only, and its right edge never to
// move left by that.
func (w *world) checkWindow(p *packet, was uint16) {
	c, t := p.c, &p.c.tap[p.dir]
	shift := max(0, c.host[p.dir].shift[p.dir])
	acked := c.position(p.dir.Other(), p.acked())
	if acked > c.tap[p.dir.Other()].end()+1 {
		return // nobody takes it
	}
	edge, wanted := acked+int(p.window())<<shift, acked+int(was)<<shift
	if p.flags()&(flow.ACK|flow.RST|flow.SYN) != flow.ACK || !c.shaken || c.flipped {
		return // nobody takes a window from it
	}
	left := edge < min(t.edge, wanted) && w.plan.honest() // an end that lies about its scale fools itself
	if p.window() > was || p.window() < was && left {
		w.failAt(p, "windows are lowered only, and their edge never moves left", "window %d became %d, edge %d before", was, p.window(), t.edge)
	}
	t.edge = max(t.edge, edge)
}

// position is where a sequence number of direction dir stands in its stream.
func (c *conn) position(dir flow.Dir, seq uint32) int {
	t := &c.tap[dir]
	return int(int32(seq-t.isn-1-uint32(t.next))) + t.next
}

// forwarded notes what passes, and compares it with what has passed.
func (w *world) forwarded(p *packet) {
	c, dir, f := p.c, p.dir, p.flags()
	t, other := &c.tap[dir], &c.tap[dir.Other()]
	text := p.payload()
	switch {
	case f&flow.URG != 0 || p.urgent() != 0:
		w.failAt(p, "URG cleared", "flags %#x, pointer %d", f, p.urgent())
		return
	case f&flow.SYN != 0 && len(text) > 0:
		w.failAt(p, "no data on a SYN", "%q", text)
		return
	case p.in != interfaceOf(dir) && f&flow.SYN == 0 && !c.flipped:
		w.failAt(p, "no packet of one side on the other's interface", "in %d", p.in)
		return
	}
	if f&flow.SYN != 0 {
		c.opening(p)
	}
	if f&(flow.RST|flow.SYN) != 0 {
		return
	}
	pos := c.position(dir, p.seq())
	if !w.checkFIN(p, pos) {
		return
	}
	if !w.unchanged(p, pos) {
		return
	}
	from := t.next
	if t.put(pos, text, p.id) && !(c.ended && c.server.wicked) { // what it says then is paired with commands that it never got
		c.grew(dir, from, w.now)
	}
	if f&flow.ACK != 0 {
		w.acknowledged(c, dir.Other(), other, p)
	}
}

// repeats looks at a packet that passes unjudged. Strangers change octets of an
// encrypted session as they like, but where a client has acknowledged nothing, the
// server says again what was masked before.
func (w *world) repeats(p *packet) {
	c := p.c
	if p.dir == flow.Reply && !c.foreign && w.fault == nil && w.plan.class == hostileClient && w.plan.undecided == engine.UndecidedClosed {
		w.unchanged(p, c.position(p.dir, p.seq()))
	}
}

// unchanged compares the text of a packet, which stands at pos, with what has passed
// there.
func (w *world) unchanged(p *packet, pos int) bool {
	c, t := p.c, &p.c.tap[p.dir]
	// A client that acknowledges behind a synproxy what it has not got is believed,
	// and reads blanks.
	fooled := p.dir == flow.Reply && c.proxy.on && w.plan.class == hostileClient
	for i, b := range p.payload() {
		if at := pos + i; at >= t.acked && t.has(at) && t.data[at] != b && !t.lied && !(fooled && b == 0) {
			w.failAt(p, "a forwarded octet never changes", "octet %d of direction %d passed as %q and as %q", at, p.dir, t.data[at], b)
			return false
		}
	}
	return true
}

// opening notes a SYN that passed. As long as its receiver knows no number of the
// sender's, the number that counts is the one that has passed last.
func (c *conn) opening(p *packet) {
	receiver := c.host[p.dir.Other()]
	if receiver.phase <= hostSYNSent {
		c.tap[p.dir].isn = p.seq()
	}
	switch answer := p.flags()&flow.ACK != 0; {
	case p.dir == flow.Original:
		c.shaken = false                                            // there may be a new session
		c.flipped = c.flipped || p.in != interfaceOf(flow.Original) // until the server has answered, both may be the client's
	case p.dir == flow.Reply && answer:
		if !c.shaken {
			c.tap[flow.Reply].edge = int(p.window())
		}
		c.up, c.shaken = true, true
	case p.dir == flow.Reply:
		c.flipped = true
	}
}

// acknowledged notes an acknowledgement that passed.
func (w *world) acknowledged(c *conn, dir flow.Dir, t *tap, p *packet) {
	acked := c.position(dir, p.acked())
	limit := t.next
	if t.fin >= 0 {
		limit = max(limit, t.fin+1)
	}
	if acked > limit {
		return
	}
	if acked > c.host[dir.Other()].next() {
		t.lied = true // who acknowledges what it has not got harms itself only
	}
	t.acked = max(t.acked, acked)
}

// checkFIN looks at the end of the stream.
func (w *world) checkFIN(p *packet, pos int) bool {
	t, end := &p.c.tap[p.dir], pos+len(p.payload())
	if t.fin >= 0 && len(p.payload()) > 0 && end > t.fin && end > t.acked {
		w.failAt(p, "nothing behind a FIN", "text up to %d, the FIN stands at %d", end, t.fin)
		return false
	}
	if p.flags()&flow.FIN == 0 {
		return true
	}
	switch {
	case t.fin < 0 && end >= t.acked && t.end() > end:
		w.failAt(p, "no FIN inside forwarded octets", "FIN at %d, octets up to %d", end, t.end())
		return false
	case t.fin >= 0 && end != t.fin && end >= t.acked:
		w.failAt(p, "one FIN", "at %d, and at %d before", end, t.fin)
		return false
	case t.fin < 0 && end >= t.next:
		t.fin = end
	}
	return true
}

// grew notes the octets from a position on as pieces of one packet each.
func (c *conn) grew(dir flow.Dir, from int, at time.Duration) {
	t := &c.tap[dir]
	for from < t.next {
		to := from + 1
		for to < t.next && t.by[to] == t.by[from] {
			to++
		}
		c.grown = append(c.grown, growth{dir, from, to, at})
		from = to
	}
}

// delivered compares what a host has got with what was seen to pass.
func (w *world) delivered(e *endpoint) {
	c, dir := e.c, e.dir.Other()
	t := &c.tap[dir]
	if c.open || t.lied {
		return
	}
	for at := e.read; at < e.in.next; at++ {
		if !t.has(at) || e.in.data[at] != t.data[at] {
			w.fail("delivered == judged", "conn %d, direction %d: octet %d was delivered as %q, judged as %q (passed: %v)",
				c.index, dir, at, e.in.data[at], octetAt(&t.stream, at), t.has(at))
			return
		}
	}
}

// octetAt is an octet of s, 0 if there is none.
func octetAt(s *stream, at int) byte {
	if !s.has(at) {
		return 0
	}
	return s.data[at]
}

// counters checks the engine's bounds and sums.
func (w *world) counters() {
	c, l := w.eng.Counters(), &w.plan.limits
	switch {
	case c.Flows > uint64(l.Flows):
		w.fail("memory under its bound", "%d flows", c.Flows)
	case c.HeldNow > uint64(l.Held):
		w.fail("memory under its bound", "%d packets held", c.HeldNow)
	case c.HeldOctets > uint64(l.HeldOctets):
		w.fail("memory under its bound", "%d octets held", c.HeldOctets)
	case c.LedgerBytes > uint64(l.Ledger):
		w.fail("memory under its bound", "%d octets in ledgers", c.LedgerBytes)
	case c.HeldNow != uint64(w.waiting):
		w.fail("counters add up", "%d held, %d without a decision", c.HeldNow, w.waiting)
	case c.Packets != c.Accepted+c.DropTotal()+c.HeldNow:
		w.fail("counters add up", "%d packets, %d accepted, %d dropped, %d held", c.Packets, c.Accepted, c.DropTotal(), c.HeldNow)
	}
}
