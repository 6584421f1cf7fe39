package sim

import "github.com/smtpwall/smtpwall/pkg/flow"

// emit sends a segment of the endpoint: flags without ACK, which stands on all
// but the first SYN, at position pos (-1 for a SYN).
func (e *endpoint) emit(flags flow.Flags, pos int, payload []byte) {
	s := segment{seq: e.isn + 1 + uint32(pos), flags: flags, payload: payload, scale: -1}
	if e.phase != hostSYNSent {
		s.flags |= flow.ACK
		s.ack = e.irs + 1 + uint32(e.next())
		if e.traits.mute && flags&flow.SYN == 0 {
			s.ack = e.irs + 1
		}
		e.lastAck, e.unacked = e.next(), 0
		e.timers[timerAck].at = 0
	}
	if flags&flow.SYN != 0 {
		s.mss, s.scale, s.stamped = uint16(e.traits.mss), e.traits.scale, e.traits.stamps
		if e.phase == hostSYNReceived {
			s.scale, s.stamped = e.shift[e.dir], e.stamps
		}
		s.window = uint16(min(e.room(), 65535))
		e.offered = max(e.offered, int(s.window))
	} else {
		s.window, s.stamped = e.offer(), e.stamps
	}
	if s.stamped {
		s.stamp, s.echo = e.clock(), e.recent
	}
	e.w.send(e.c, e.dir, &s)
}

// clock is the endpoint's timestamp clock, in milliseconds.
func (e *endpoint) clock() uint32 { return e.base + uint32(e.w.now.Milliseconds()) }

// offer is the window field: what is free, but its right edge never moves left.
func (e *endpoint) offer() uint16 {
	shift := max(0, e.shift[e.dir])
	field := min(e.room()>>shift, 65535)
	if left := e.offered - e.next(); field<<shift < left {
		field = min((left+1<<shift-1)>>shift, 65535)
	}
	e.offered = max(e.offered, e.next()+field<<shift)
	return uint16(field)
}

// ackNow acknowledges what has come.
func (e *endpoint) ackNow() {
	if e.phase == hostOpen {
		e.emit(0, e.max, nil)
	}
}

// challenge answers a segment that may be a forgery (RFC 5961).
func (e *endpoint) challenge() {
	if e.troubles++; e.troubles < maxTroubles {
		e.ackNow()
	}
}

// refuse answers a segment of a connection that is not there.
func (e *endpoint) refuse(p *packet) {
	if e.troubles++; e.troubles < maxTroubles && p.flags()&(flow.RST|flow.ACK) == flow.ACK {
		e.w.send(e.c, e.dir, &segment{seq: p.ack(), flags: flow.RST, scale: -1})
	}
}

// push sends what may be sent.
func (e *endpoint) push() {
	if e.phase != hostOpen {
		return
	}
	for e.nxt < e.length() {
		limit := min(e.edge, e.una+e.flight*e.mss)
		n := min(len(e.out)-e.nxt, limit-e.nxt, e.piece())
		fin := e.closing && e.nxt+max(n, 0) == len(e.out) && limit > len(e.out)
		if n <= 0 && !fin {
			break
		}
		if e.traits.nagle && !fin && n < e.mss && e.nxt == e.max && e.max > e.una {
			break // RFC 9293 section 3.7.4
		}
		e.sendText(max(n, 0), fin)
	}
	if e.max > e.una || e.nxt < e.length() {
		if e.timers[timerResend].at == 0 {
			e.arm(timerResend, e.wait)
		}
	}
}

// piece is how long the next segment may be.
func (e *endpoint) piece() int {
	if e.traits.pieces >= e.mss {
		return e.mss
	}
	return min(e.mss, 1+e.w.rnd.IntN(e.traits.pieces))
}

// sendText sends n octets from nxt on, and the FIN behind them.
func (e *endpoint) sendText(n int, fin bool) {
	pos := e.nxt
	e.nxt += n
	flags := flow.Flags(0)
	if n > 0 && e.nxt == len(e.out) {
		flags = flow.PSH
	}
	if fin {
		flags |= flow.FIN
		e.nxt++
	}
	e.max = max(e.max, e.nxt)
	e.emit(flags, pos, e.out[pos:pos+n])
}

// resend is the retransmission timer: it goes back to the first octet that is
// not acknowledged and begins anew from there (RFC 6298 section 5), or probes a
// window that is closed (RFC 9293 section 3.8.6.1).
func (e *endpoint) resend() {
	switch {
	case e.phase == hostSYNSent:
		e.emit(flow.SYN, -1, nil)
	case e.phase == hostSYNReceived:
		e.emit(flow.SYN, -1, nil)
	case e.phase != hostOpen || e.una == e.length():
		return
	case e.edge <= e.una:
		e.probe()
	default:
		e.nxt, e.flight, e.dups = e.una, 1, 0
		e.push()
	}
	e.wait = min(2*e.wait, lastWait)
	e.arm(timerResend, e.wait)
}

// probe asks for the window.
func (e *endpoint) probe() {
	if e.traits.probes && e.una < len(e.out) {
		e.nxt = e.una
		e.sendText(1, false)
		return
	}
	e.emit(0, e.una-1, nil)
}

// resendOne sends the first segment that is not acknowledged again, for three
// duplicate ACKs (RFC 5681 section 3.2).
func (e *endpoint) resendOne() {
	nxt := e.nxt
	e.nxt = e.una
	n := min(e.mss, len(e.out)-e.una)
	e.sendText(max(n, 0), e.closing && e.una+max(n, 0) == len(e.out) && e.max > len(e.out))
	e.nxt = max(nxt, e.nxt)
}
