package flow

import "github.com/smtpwall/smtpwall/pkg/wire"

// Flags are TCP control bits (RFC 9293 section 3.1).
type Flags uint8

// The bits that are looked at.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is what the control block must know of a TCP segment.
type Segment struct {
	Seq, Ack wire.Seq
	Flags    Flags
	Len      int // payload octets
}

// end is the sequence number behind the segment's payload, without SYN and FIN.
func (s *Segment) end() wire.Seq { return s.Seq.Add(s.Len) }

// Verdict is what the control block says of a segment.
type Verdict uint8

// The verdicts. All but the first four refuse the segment.
const (
	InOrder   Verdict = iota // its payload behind the octets already forwarded, or its FIN, comes next
	Old                      // nothing in it is new: a retransmission, a probe or a pure ACK
	Ahead                    // octets are missing before it
	Closes                   // a RST that its receiver accepts
	NotSYN                   // it does not fit the handshake
	Duplicate                // a SYN on a living connection
	BadACK                   // it acknowledges what was never forwarded
	BadRST                   // a RST that its receiver refuses
	BadFIN                   // octets or a FIN that contradict the FIN before
)

// state is how far the handshake is.
type state uint8

const (
	synSent state = iota
	synReceived
	established
)

// half is one direction of a connection.
type half struct {
	isn   wire.Seq
	next  wire.Seq // the next octet to forward: what the receiver expects next
	acked wire.Seq // the highest acknowledgement of this direction's octets that was forwarded
	fin   bool     // the FIN was forwarded; next is behind it
}

// TCB is a passive control block: it knows what either end would accept next.
// Its zero value needs Open.
type TCB struct {
	half  [2]half
	state state
}

// Open begins a connection with the SYN whose sequence number is isn.
func (t *TCB) Open(isn wire.Seq) {
	*t = TCB{}
	t.half[Original] = half{isn: isn, next: isn.Add(1), acked: isn}
}

// Next is the sequence number of the next octet of direction d.
func (t *TCB) Next(d Dir) wire.Seq { return t.half[d].next }

// Acked is the first octet of direction d that its receiver has not
// acknowledged.
func (t *TCB) Acked(d Dir) wire.Seq { return t.half[d].acked }

// Embryonic reports whether the SYN-ACK has not come.
func (t *TCB) Embryonic() bool { return t.state == synSent }

// Closed reports whether both FINs were forwarded.
func (t *TCB) Closed() bool { return t.half[Original].fin && t.half[Reply].fin }

// Check judges a segment of direction d and changes nothing. Segments with SYN
// have no payload: the caller has seen to that.
func (t *TCB) Check(d Dir, s *Segment) Verdict {
	if s.Flags&SYN != 0 {
		return t.checkSYN(d, s)
	}
	if t.state == synSent {
		return t.checkUnanswered(d, s)
	}
	if s.Flags&RST != 0 {
		return t.checkRST(d, s)
	}
	if s.Flags&ACK == 0 {
		return NotSYN
	}
	if t.half[d.Other()].next.Less(s.Ack) {
		return BadACK
	}
	return t.checkText(d, s)
}

// checkSYN judges a SYN or SYN-ACK. Split handshakes and simultaneous opens do
// not happen in SMTP: a SYN of the server's own is refused.
func (t *TCB) checkSYN(d Dir, s *Segment) Verdict {
	h := &t.half[d]
	switch {
	case s.Flags&(RST|FIN) != 0 || (d == Reply) != (s.Flags&ACK != 0):
		return NotSYN
	case d == Reply && s.Ack != t.half[Original].isn.Add(1):
		return BadACK
	case d == Reply && t.state == synSent:
		return InOrder
	case s.Seq == h.isn:
		return Old
	}
	return Duplicate
}

// checkUnanswered judges what comes between SYN and SYN-ACK. A server that holds
// an older connection answers with a challenge ACK, and the client with a RST
// (RFC 5961 section 4): both pass and change nothing.
func (t *TCB) checkUnanswered(d Dir, s *Segment) Verdict {
	switch {
	case d == Reply && s.Flags&RST != 0 && s.Flags&ACK != 0 && s.Ack == t.half[Original].next:
		return Closes
	case s.Len == 0 && s.Flags&FIN == 0 && (d == Reply || s.Flags&RST != 0):
		return Old
	}
	return NotSYN
}

// checkRST judges a RST. Its receiver accepts it only at the exact octet that it
// expects (RFC 5961 section 3.2), which lies between what it has acknowledged
// and what was forwarded; one ahead of that makes it send a challenge ACK.
func (t *TCB) checkRST(d Dir, s *Segment) Verdict {
	h := &t.half[d]
	switch {
	case s.Seq.Less(h.acked):
		return BadRST
	case h.next.Less(s.Seq):
		return Old
	}
	return Closes
}

// checkText judges a segment with or without payload and FIN.
func (t *TCB) checkText(d Dir, s *Segment) Verdict {
	h := &t.half[d]
	end, fin := s.end(), s.Flags&FIN != 0
	if fin {
		end = end.Add(1)
	}
	switch {
	case h.fin && (h.next.Less(end) || s.Len > 0 && h.next.Add(-1).Less(s.end())):
		return BadFIN // beyond the FIN, or text at the sequence number that it took
	case end.LessEq(h.next):
		if fin && (!h.fin || end != h.next) {
			return BadFIN // inside octets that were forwarded without it
		}
		return Old
	case s.Len == 0 && !fin:
		return Old // a pure ACK ahead of octets that are held
	case h.next.Less(s.Seq):
		return Ahead
	}
	return InOrder
}

// Skip is how many payload octets of an InOrder segment were forwarded before.
func (t *TCB) Skip(d Dir, s *Segment) int {
	if s.Flags&SYN != 0 {
		return 0
	}
	return t.half[d].next.Sub(s.Seq)
}

// Forward notes that a segment, which Check called InOrder or Old, goes to its
// receiver.
func (t *TCB) Forward(d Dir, s *Segment, v Verdict) {
	h, other := &t.half[d], &t.half[d.Other()]
	if s.Flags&SYN != 0 {
		if v == InOrder {
			*h = half{isn: s.Seq, next: s.Seq.Add(1), acked: s.Seq}
			t.state = synReceived
			other.acked = s.Ack
		}
		return
	}
	if s.Flags&ACK != 0 && s.Flags&RST == 0 && other.acked.Less(s.Ack) && s.Ack.LessEq(other.next) && t.state != synSent {
		other.acked = s.Ack
	}
	if v != InOrder {
		return
	}
	t.state = established
	h.next = s.end()
	if s.Flags&FIN != 0 {
		h.next, h.fin = h.next.Add(1), true
	}
}
