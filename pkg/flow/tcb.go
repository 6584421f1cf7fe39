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
	Len      int    // payload octets
	Window   uint16 // as it stands in the header, unscaled
	Options  Options
}

// Options are the TCP options that change what an end host accepts.
type Options struct {
	MSS      uint16 // of a SYN; 0: absent
	Scale    uint8  // of a SYN: the window scale (RFC 7323 section 2.2), if HasScale
	HasScale bool
	HasStamp bool
	Stamp    uint32 // TSval (RFC 7323 section 3.2), if HasStamp
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
	BadACK                   // it acknowledges what was never forwarded, or what was long ago
	BadRST                   // a RST that its receiver refuses
	BadFIN                   // octets or a FIN that contradict the FIN before
	Beyond                   // octets behind the window that the receiver has offered
	OldStamp                 // a timestamp that its receiver refuses (PAWS)
)

// state is how far the handshake is.
type state uint8

const (
	synSent state = iota
	synReceived
	established
)

// half is one direction of a connection: what its sender has sent and what its
// receiver has said about it.
type half struct {
	isn   wire.Seq
	next  wire.Seq // the next octet to forward in order: what the receiver expects next
	acked wire.Seq // the highest acknowledgement of this direction's octets that was forwarded
	edge  wire.Seq // the first octet behind the window that the receiver has offered; it never moves back

	widest  uint32 // the largest window that the receiver has offered, in octets
	stamp   uint32 // TS.Recent as the receiver has it, or older; if stamped
	mss     uint16 // the sender's own MSS option: what it takes, not what it sends; 0: none
	scale   uint8  // of the windows in the sender's segments
	stamped bool
	scaled  bool // the SYN had the window scale option
	fin     bool // the FIN was forwarded; next is behind it
	far     bool // next is so far behind isn that what stands before isn cannot be told
}

// beforeFirst reports whether text at seq stands before the first octet there is.
// Whoever has a SYN cookie of Linux for one number of his own has one for another
// (the number is a summand): the connection that he opens with it begins earlier
// than both SYNs have said.
func (h *half) beforeFirst(seq wire.Seq) bool { return !h.far && seq.LessEq(h.isn) }

// reach moves next.
func (h *half) reach(next wire.Seq) {
	h.next = next
	h.far = h.far || next.Sub(h.isn) < 0 || next.Sub(h.isn) > 1<<30
}

// TCB is a passive control block: it knows what either end would accept next
// (RFC 9293 section 3.10.7.4, RFC 5961, RFC 7323). Its zero value needs Open or
// OpenProxied.
//
// The client's pure ACKs do not come through the queue. What the client has
// acknowledged and offered may therefore lie ahead of what its TCB knows; the
// rules that would be too strict then are those of the client's octets only.
type TCB struct {
	half  [2]half
	state state

	// A synproxy answered the SYN with a number of its own, so that the client's
	// acknowledgements are off by a constant at the forward hook.
	proxied bool
	learned bool
	offset  uint32 // client's acknowledgement number minus the server's sequence number
	slack   uint32 // how much larger offset may turn out to be
}

// Open begins a connection with the client's SYN.
func (t *TCB) Open(s *Segment) {
	*t = TCB{}
	t.half[Original].begin(s, s.Seq.Add(1))
}

// OpenProxied begins a connection whose SYN the kernel's synproxy has sent: the
// first that comes is the server's SYN-ACK.
func (t *TCB) OpenProxied(s *Segment) {
	*t = TCB{proxied: true}
	client := Segment{Seq: s.Ack.Add(-1), Options: s.Options}
	t.half[Original].begin(&client, s.Ack)
}

// begin places a half at its SYN.
func (h *half) begin(s *Segment, edge wire.Seq) {
	o := &s.Options
	*h = half{
		isn: s.Seq, next: s.Seq.Add(1), acked: s.Seq, edge: edge,
		mss: o.MSS, scale: min(o.Scale, maxScale), scaled: o.HasScale, stamp: o.Stamp, stamped: o.HasStamp,
	}
}

// maxScale is the largest window scale (RFC 7323 section 2.3).
const maxScale = 14

// First is the sequence number of the SYN of direction d.
func (t *TCB) First(d Dir) wire.Seq { return t.half[d].isn }

// Next is the sequence number of the next octet of direction d.
func (t *TCB) Next(d Dir) wire.Seq { return t.half[d].next }

// Acked is the first octet of direction d that its receiver has not
// acknowledged.
func (t *TCB) Acked(d Dir) wire.Seq { return t.half[d].acked }

// Embryonic reports whether the SYN-ACK has not come.
func (t *TCB) Embryonic() bool { return t.state == synSent }

// Closed reports whether both FINs were forwarded.
func (t *TCB) Closed() bool { return t.half[Original].fin && t.half[Reply].fin }

// defaultMSS is what a host takes that has not said so (RFC 9293 section 3.7.1).
const defaultMSS = 536

// MSS is how many payload octets the receiver of direction d takes in a segment.
func (t *TCB) MSS(d Dir) int {
	if mss := t.half[d.Other()].mss; mss != 0 {
		return int(mss)
	}
	return defaultMSS
}

// Translate puts the acknowledgement number of a client's segment behind a
// synproxy into the server's sequence space, and learns the difference from the
// first one that stands where the client's octets go on. A client that has not acknowledged all that the server sent by
// then makes it too small; a later segment shows it.
func (t *TCB) Translate(d Dir, s *Segment) {
	if !t.proxied || d == Reply || s.Flags&ACK == 0 || t.state == synSent {
		return
	}
	server := &t.half[Reply]
	if !t.learned && (s.Flags&RST != 0 || s.Seq != t.half[Original].next) {
		return // anybody's, and its acknowledgement is refused
	}
	if !t.learned {
		t.learned = true
		t.offset = uint32(s.Ack - server.next)
		t.slack = uint32(server.next - server.isn.Add(1))
	}
	s.Ack -= wire.Seq(t.offset)
	if more := uint32(s.Ack - server.next); server.next.Less(s.Ack) && more <= t.slack {
		t.offset, t.slack = t.offset+more, t.slack-more
		s.Ack = server.next
	}
}

// Acknowledges reports whether a client's segment acknowledges all that the server
// has sent so far. Behind a synproxy that is as sure as Translate is.
func (t *TCB) Acknowledges(s *Segment) bool { return t.half[Reply].next.LessEq(s.Ack) }

// sure is what the client has acknowledged at least when its translated
// acknowledgement is ack: Translate may have put it up to slack too far.
func (t *TCB) sure(ack wire.Seq) wire.Seq {
	least := ack.Add(-int(t.slack))
	if first := t.half[Reply].isn.Add(1); least.Less(first) {
		return first
	}
	return least
}

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
	if !t.half[d.Other()].acceptable(s.Ack) {
		return BadACK
	}
	if t.half[d].outdated(s) {
		return OldStamp
	}
	return t.checkText(d, s)
}

// minWindow is the window that a sender may have seen at least: the largest
// without scaling.
const minWindow = 1 << 16

// acceptable is RFC 5961 section 5.2: an acknowledgement of what was never sent,
// or of what was acknowledged more than a window ago, is refused together with
// the octets that come with it.
func (h *half) acceptable(ack wire.Seq) bool {
	return ack.LessEq(h.next) && h.acked.Add(-int(max(h.widest, minWindow))).LessEq(ack)
}

// paws bounds how old a timestamp is recognised as old. A client that was silent
// for weeks has wrapped its clock (RFC 7323 section 5.5); what is further back
// is therefore let through: octets cannot change whatever their timestamp says.
const paws = 1 << 30

// outdated is PAWS (RFC 7323 section 5.3), for segments that say something. One
// tick is forgiven, as by Linux.
func (h *half) outdated(s *Segment) bool {
	if !h.stamped || !s.Options.HasStamp || s.Len == 0 && s.Flags&FIN == 0 {
		return false
	}
	age := int32(h.stamp - s.Options.Stamp)
	return age > 1 && age < paws
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
// expects (RFC 5961 section 3.2), and behind a FIN at the FIN itself (macOS sends
// that one). That is the octet forwarded next, or one between it and what was
// acknowledged where octets are on their way or lost. One in between is taken for
// stale: it passes, and whether its receiver answers with a challenge ACK or
// closes, the session is judged on.
func (t *TCB) checkRST(d Dir, s *Segment) Verdict {
	h := &t.half[d]
	switch {
	case s.Seq == h.next, h.fin && s.Seq == h.next.Add(-1):
		return Closes
	case s.Seq.Less(h.acked), d == Original && h.edge.Less(s.Seq):
		return BadRST
	}
	return Old
}

// checkText judges a segment with or without payload and FIN.
func (t *TCB) checkText(d Dir, s *Segment) Verdict {
	h := &t.half[d]
	end, fin := s.end(), s.Flags&FIN != 0
	if fin {
		end = end.Add(1)
	}
	switch {
	case (s.Len > 0 || fin) && h.beforeFirst(s.Seq):
		return Beyond
	case h.fin && (h.next.Less(end) || s.Len > 0 && h.next.Add(-1).Less(s.end())):
		return BadFIN // beyond the FIN, or text at the sequence number that it took
	case end.LessEq(h.next):
		if fin && (!h.fin || end != h.next) {
			return BadFIN // inside octets that were forwarded without it
		}
		return Old
	case s.Len == 0 && !fin:
		return Old // a pure ACK ahead of octets that are held
	case d == Original && h.edge.Less(s.Seq):
		return Beyond // a probe of a closed window stands at its edge, not behind it
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

// Window is the largest window that the server's segment s may offer when octets
// of the client are kept room at a time: unscaled, as it stands in a header.
// What was offered once is never taken back.
func (t *TCB) Window(s *Segment, room int) uint16 {
	h, scale := &t.half[Original], t.half[Reply].scale
	if t.state == synSent || s.Flags&(SYN|ACK|RST) != ACK {
		return s.Window // of another connection, or never scaled, or of none
	}
	room = max(room, h.edge.Sub(s.Ack), 1)
	lowered := (room + 1<<scale - 1) >> scale
	return uint16(min(int(s.Window), lowered))
}

// Forward notes that a segment, which Check called InOrder, Old or Ahead, goes
// to its receiver.
func (t *TCB) Forward(d Dir, s *Segment, v Verdict) {
	h := &t.half[d]
	if s.Flags&SYN != 0 {
		switch {
		case t.state == established:
		case d == Reply:
			t.answer(s)
		default:
			t.repeat(s)
		}
		return
	}
	if s.Flags&(ACK|RST) == ACK && t.state != synSent {
		t.half[d.Other()].offer(s, h.scale)
		if h.acked.LessEq(s.end()) {
			t.learn(d, s)
		}
	}
	if v != InOrder {
		return
	}
	t.state = established
	h.reach(s.end())
	if s.Flags&FIN != 0 {
		h.next, h.fin = h.next.Add(1), true
	}
}

// repeat notes a retransmission of the SYN: some clients leave the options out
// after a few.
func (t *TCB) repeat(s *Segment) {
	client := &t.half[Original]
	before := *client
	client.begin(s, before.edge)
	client.acked, client.widest = before.acked, before.widest
	if t.state == synReceived {
		t.agree()
	}
}

// learn notes what a segment without SYN or RST says beside its octets. One that
// ends before what its receiver has acknowledged says nothing: its receiver does
// not look at it (RFC 9293 section 3.10.7.4), and anybody can send it.
func (t *TCB) learn(d Dir, s *Segment) {
	h, other := &t.half[d], &t.half[d.Other()]
	sure := *s
	if d == Original {
		sure.Ack = t.sure(s.Ack)
	}
	other.receive(&sure, h.scale)
	if h.stamped && s.Options.HasStamp && s.Seq.LessEq(h.acked) && int32(s.Options.Stamp-h.stamp) > 0 {
		h.stamp = s.Options.Stamp // RFC 7323 section 4.3
	}
}

// answer notes the SYN-ACK s, or its retransmission, which may be the first that
// arrives.
func (t *TCB) answer(s *Segment) {
	t.half[Reply].begin(s, s.Seq.Add(1))
	t.state = synReceived
	t.agree()
	t.half[Original].receive(s, 0) // the window of a SYN is never scaled
}

// agree settles the options that need both ends (RFC 7323 sections 2.2 and 3.2).
func (t *TCB) agree() {
	client, server := &t.half[Original], &t.half[Reply]
	if !client.scaled || !server.scaled {
		client.scale, server.scale = 0, 0
	}
	if !client.stamped || !server.stamped {
		client.stamped, server.stamped = false, false
	}
}

// receive notes the acknowledgement and the window in s, a segment of the
// receiver of h, whose windows have the scale given.
func (h *half) receive(s *Segment, scale uint8) {
	if h.acked.Less(s.Ack) && s.Ack.LessEq(h.next) {
		h.acked = s.Ack
	}
	h.widest = max(h.widest, uint32(s.Window)<<scale)
	h.offer(s, scale)
}

// offer notes the window in s alone: its sender may have meant it.
func (h *half) offer(s *Segment, scale uint8) {
	if edge := s.Ack.Add(int(s.Window) << scale); h.edge.Less(edge) {
		h.edge = edge
	}
}

// Reach notes that octets which were forwarded Ahead follow without a gap up to
// next.
func (t *TCB) Reach(d Dir, next wire.Seq) {
	if h := &t.half[d]; h.next.Less(next) {
		h.reach(next)
	}
}
