package sim

import (
	"encoding/binary"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// receive takes a packet from the network (RFC 9293 section 3.10.7).
func (e *endpoint) receive(p *packet) {
	switch e.phase {
	case hostClosed:
	case hostListen:
		e.receiveSYN(p)
	case hostSYNSent:
		e.receiveAnswer(p)
	case hostDead:
		e.refuse(p)
	default:
		e.receiveSegment(p)
	}
}

// receiveSYN opens the server's end.
func (e *endpoint) receiveSYN(p *packet) {
	if p.flags()&(flow.SYN|flow.ACK|flow.RST|flow.FIN) != flow.SYN {
		e.refuse(p)
		return
	}
	e.learn(p)
	e.phase = hostSYNReceived
	e.emit(flow.SYN, -1, nil)
	e.arm(timerResend, e.wait)
}

// learn takes from the peer's SYN what holds for the connection.
func (e *endpoint) learn(p *packet) {
	e.irs = p.seq()
	if e.c.tap[e.dir.Other()].isn = e.irs; e.dir == flow.Original {
		e.c.tap[flow.Reply].isn -= e.c.proxy.shift
	}
	if o := p.option(optMSS); len(o) == 2 {
		e.mss = min(e.mss, int(binary.BigEndian.Uint16(o)))
	}
	e.shift = [2]int8{-1, -1}
	if o := p.option(optScale); len(o) == 1 && e.traits.scale >= 0 {
		e.shift[e.dir], e.shift[e.dir.Other()] = e.traits.scale, int8(min(o[0], 14))
	}
	if o := p.option(optTime); len(o) == 8 && e.traits.stamps {
		e.stamps, e.recent = true, binary.BigEndian.Uint32(o)
		e.mss -= 12
	}
	e.edge, e.maxWnd = int(p.window()), int(p.window())
}

// receiveAnswer takes what comes between the client's SYN and the answer to it.
func (e *endpoint) receiveAnswer(p *packet) {
	f, acked := p.flags(), p.flags()&flow.ACK != 0 && p.ack() == e.isn+1
	switch {
	case f&flow.ACK != 0 && !acked:
		if f&flow.RST == 0 {
			e.refuse(p)
		}
	case f&flow.RST != 0:
		if acked {
			e.die()
		}
	case f&flow.SYN != 0 && acked:
		e.learn(p)
		e.phase = hostOpen
		e.established()
	}
}

// established goes on behind the handshake.
func (e *endpoint) established() {
	e.wait = firstWait
	e.arm(timerResend, 0)
	if e.dir == flow.Original {
		e.isn, e.irs = e.isn-uint32(e.traits.early), e.irs-uint32(e.traits.early)
		e.ackNow()
	}
	e.app.wake()
	e.push()
}

// receiveSegment takes a packet of a connection whose numbers both ends know, in
// the order of RFC 9293 section 3.10.7.4.
func (e *endpoint) receiveSegment(p *packet) {
	f, n, next := p.flags(), len(p.payload()), e.next()
	e.cookie(p)
	pos := int(int32(p.seq()-e.irs-1-uint32(next))) + next
	if e.phase == hostSYNReceived && f&(flow.SYN|flow.ACK) == flow.SYN && pos == -1 {
		e.emit(flow.SYN, -1, nil)
		return
	}
	if f&flow.RST == 0 && e.outdated(p) {
		e.challenge()
		return
	}
	if !e.acceptable(pos, n+ones(f)) {
		if f&flow.RST == 0 {
			e.unacceptable(pos, n+ones(f))
		}
		return
	}
	switch {
	case f&flow.RST != 0:
		if pos == next {
			e.die()
		} else {
			e.challenge()
		}
		return
	case f&flow.SYN != 0:
		e.challenge()
		return
	case f&flow.ACK == 0:
		return
	}
	e.stamp(p, pos)
	if e.receiveACK(p, pos) {
		e.receiveText(p, pos)
	}
}

// cookie takes the last segment of a handshake as Linux does with SYN cookies: one
// is a sum that the client's number is a part of, so that whoever has one for a
// number has one for any other, too.
func (e *endpoint) cookie(p *packet) {
	early := e.isn + 1 - p.ack()
	if e.phase == hostSYNReceived && p.flags()&(flow.SYN|flow.RST|flow.ACK) == flow.ACK &&
		0 < early && early <= maxShift && p.seq() == e.irs+1-early {
		e.isn, e.irs = e.isn-early, e.irs-early
	}
}

// maxShift is how many octets early a client's stream may begin.
const maxShift = 20

// ones is how many sequence numbers the flags take.
func ones(f flow.Flags) int {
	n := 0
	if f&flow.SYN != 0 {
		n++
	}
	if f&flow.FIN != 0 {
		n++
	}
	return n
}

// acceptable is RFC 9293's table of four cases.
func (e *endpoint) acceptable(pos, length int) bool {
	next, wnd := e.next(), e.offered-e.next()
	switch {
	case length == 0 && wnd <= 0:
		return pos == next
	case length == 0:
		return next <= pos && pos < next+wnd
	case wnd <= 0:
		return false
	}
	return next <= pos && pos < next+wnd || next < pos+length && pos+length-1 < next+wnd || pos < next && pos+length > next+wnd
}

// unacceptable answers a segment outside the window. What an honest end sends,
// old text and probes, gets its answer always: the ACK for it may be lost.
func (e *endpoint) unacceptable(pos, length int) {
	if length > 0 || pos == e.next()-1 {
		e.ackNow()
		return
	}
	e.challenge()
}

// outdated is PAWS (RFC 7323 section 5).
func (e *endpoint) outdated(p *packet) bool {
	o := p.option(optTime)
	return e.stamps && len(o) == 8 && int32(binary.BigEndian.Uint32(o)-e.recent) < 0
}

// stamp keeps the timestamp to echo (RFC 7323 section 4.3).
func (e *endpoint) stamp(p *packet, pos int) {
	if o := p.option(optTime); e.stamps && len(o) == 8 && pos <= e.lastAck {
		e.recent = binary.BigEndian.Uint32(o)
	}
}

// receiveACK takes the acknowledgement and the window. It reports false for one
// that no segment may carry (RFC 5961 section 5.2).
func (e *endpoint) receiveACK(p *packet, pos int) bool {
	acked := int(int32(p.ack()-e.isn-1-uint32(e.una))) + e.una
	if e.phase == hostSYNReceived {
		if acked != 0 {
			return false
		}
		e.phase = hostOpen
		e.wl1, e.wl2 = pos, acked
		e.takeWindow(p, acked)
		e.established()
		return true
	}
	if acked > e.max || acked < e.una-e.maxWnd {
		e.challenge()
		return false
	}
	edge := e.edge
	if e.wl1 < pos || e.wl1 == pos && e.wl2 <= acked {
		e.wl1, e.wl2 = pos, acked
		e.takeWindow(p, acked)
	}
	switch {
	case acked > e.una:
		e.una, e.nxt, e.dups = acked, max(e.nxt, acked), 0
		e.flight, e.wait = min(e.flight+1, 64), firstWait
		e.arm(timerResend, 0)
	case acked == e.una && e.max > e.una && len(p.payload()) == 0 && e.edge == edge && p.flags()&flow.FIN == 0:
		if e.dups++; e.dups == 3 {
			e.resendOne()
		}
	}
	e.push()
	return true
}

// takeWindow takes the receiver's window. Its right edge does not move left in
// what is sent: a receiver may not shrink it (RFC 9293 section 3.8.6).
func (e *endpoint) takeWindow(p *packet, acked int) {
	wnd := int(p.window()) << max(0, e.shift[e.dir.Other()])
	e.edge, e.maxWnd = acked+wnd, max(e.maxWnd, wnd)
}

// delayedACK is how long an ACK may wait for company.
const delayedACK = 40 * time.Millisecond

// receiveText takes the payload and the FIN.
func (e *endpoint) receiveText(p *packet, pos int) {
	text, fin := p.payload(), p.flags()&flow.FIN != 0
	if len(text) == 0 && !fin {
		return
	}
	before, end := e.next(), e.offered
	if at := pos + len(text); fin && e.fin < 0 && at >= e.in.next && at < end && !e.eof {
		e.fin = at
	}
	if e.fin >= 0 {
		end = min(end, e.fin) // nothing counts behind the end
	}
	if pos+len(text) > end {
		text = text[:max(0, end-pos)]
	}
	if !e.eof {
		e.in.put(pos, text, p.id)
	}
	if e.fin >= 0 && e.in.next >= e.fin {
		e.in.next, e.eof = e.fin, true
	}
	e.acknowledge(before, pos)
	if e.next() > before {
		e.w.delivered(e)
		e.arrived()
	}
}

// acknowledge decides when to answer a segment at pos.
func (e *endpoint) acknowledge(before, pos int) {
	e.unacked++
	switch {
	case e.next() == before || pos > before || e.eof || e.unacked >= 2 || e.traits.quickAck || e.in.end() > e.in.next:
		e.ackNow()
	case e.timers[timerAck].at == 0:
		e.arm(timerAck, delayedACK)
	}
}

// arrived tells the application that there is something to read.
func (e *endpoint) arrived() {
	if e.traits.readEach == 0 {
		e.takeSome()
	} else if e.timers[timerRead].at == 0 {
		e.arm(timerRead, e.traits.readWait)
	}
}
