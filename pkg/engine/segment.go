package engine

import (
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// feeding is the segment that the assembler is being fed with.
type feeding struct {
	entry  *entry
	dir    flow.Dir
	edited bool
	ended  bool
	over   bool // judged: the session has ended, or passes unjudged from here
	events int  // index in Engine.events of its first event
}

// session decides on a packet of a known connection.
func (e *Engine) session(en *entry, p *Packet) {
	s := &en.Value
	dir := flow.Original
	if e.pkt.src != s.conn.Client.AddrPort {
		dir = flow.Reply
	}
	if s.spoofed(dir, p.In) {
		e.drop(p, ReasonSpoofed)
		return
	}
	if e.pkt.seg.Flags&flow.SYN != 0 && e.pkt.seg.Len > 0 {
		e.drop(p, ReasonSYNPayload)
		return
	}
	switch s.phase {
	case phaseLive:
		e.live(en, dir, p)
		e.settle(en)
	case phaseDraining:
		e.draining(en, dir, p)
	case phaseDead:
		e.refuse(s, dir, p)
	case phaseBypass:
		e.bypass(en, dir, p)
	}
}

// refusals are the reasons for the control block's refusals.
var refusals = map[flow.Verdict]Reason{
	flow.NotSYN:    ReasonNotSYN,
	flow.Duplicate: ReasonDuplicateSYN,
	flow.BadACK:    ReasonInvalidACK,
	flow.BadRST:    ReasonInvalidRST,
	flow.BadFIN:    ReasonBeyondFIN,
}

// live judges a packet of a session.
func (e *Engine) live(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	switch v := s.tcb.Check(dir, &e.pkt.seg); v {
	case flow.InOrder:
		e.inOrder(en, dir, p)
	case flow.Old:
		e.old(en, dir, p)
	case flow.Ahead:
		e.holdPacket(en, dir, p)
	case flow.Closes:
		e.closes(en, dir, p)
	default:
		e.drop(p, refusals[v])
	}
}

// old forwards a segment without anything new: what it says again is what was
// said before.
func (e *Engine) old(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if e.forgotten(s, dir) {
		e.drop(p, ReasonLedgerFull)
		return
	}
	edited := s.ledger[dir].Overwrite(e.pkt.seg.Seq, p.Data[e.pkt.payload:])
	e.forward(s, dir, p, flow.Old, edited)
}

// forgotten reports whether the segment repeats octets that its receiver may
// still want and that the ledger had no room to keep.
func (e *Engine) forgotten(s *session, dir flow.Dir) bool {
	acked, base := s.tcb.Acked(dir), s.ledger[dir].Base()
	end := e.pkt.seg.Seq.Add(e.pkt.seg.Len)
	return e.pkt.seg.Len > 0 && e.pkt.seg.Seq.Less(base) && acked.Less(base) && acked.Less(end)
}

// inOrder judges the segment that comes next. Whatever keeps the session while
// the packet is dropped or held is decided before a byte of it is fed.
func (e *Engine) inOrder(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if e.pkt.seg.Flags&flow.SYN != 0 {
		e.synAck(en, p)
		return
	}
	skip := s.tcb.Skip(dir, &e.pkt.seg)
	payload := p.Data[e.pkt.payload:]
	fresh := payload[min(skip, len(payload)):]
	if len(fresh) > 0 {
		if !s.dialogue.Ready(smtp.Side(dir)) {
			e.holdPacket(en, dir, p)
			return
		}
		if why := e.noRoom(s, dir, fresh); why != ReasonNone {
			e.drop(p, why)
			return
		}
	}
	edited := s.ledger[dir].Overwrite(e.pkt.seg.Seq, payload[:len(payload)-len(fresh)])
	owed := s.dialogue.Owed()
	fed := e.feedAssembler(en, dir, skip)
	if fed.ended && s.phase != phaseBypass {
		e.end(en, dir, p, owed)
		return
	}
	if len(fresh) > 0 {
		s.ledger[dir].Append(fresh)
		e.establish(en)
	}
	s.bytes += uint64(len(fresh))
	e.forward(s, dir, p, flow.InOrder, edited || fed.edited)
	e.finished(en)
}

// noRoom says why fresh client or server bytes cannot be taken now; TCP sends
// them again. A ledger of replies forgets its oldest octets instead: the
// client's pure ACKs, which would free them, do not come through the queue.
func (e *Engine) noRoom(s *session, dir flow.Dir, fresh []byte) Reason {
	if dir == flow.Original && !s.dialogue.Room(fresh) {
		return ReasonPending
	}
	l := &s.ledger[dir]
	limit := e.ledgerLimit(dir)
	if dir == flow.Reply && l.Len()+len(fresh) > limit && len(fresh) <= limit {
		l.Release(e.pool, l.Base().Add(l.Len()+len(fresh)-limit))
	}
	if !l.Reserve(e.pool, len(fresh), limit) {
		return ReasonLedgerFull
	}
	return ReasonNone
}

// feedAssembler gives the assembler the segment without its first skip octets.
func (e *Engine) feedAssembler(en *entry, dir flow.Dir, skip int) feeding {
	e.feed = feeding{entry: en, dir: dir, events: len(e.events)}
	e.ending, e.endReason = Event{Do: dropAndLog}, ReasonPolicy
	tcp := &e.pkt.tcp
	tcp.Seq += uint32(skip)
	tcp.Payload = tcp.Payload[min(skip, len(tcp.Payload)):]
	e.assembler.Feed(e.pkt.net, tcp, e.sink)
	return e.feed
}

// reassembled takes octets in order from the assembler: a part of the packet in
// hand, to be edited in place.
func (e *Engine) reassembled(b []byte) {
	f := &e.feed
	if f.ended {
		return
	}
	s := &f.entry.Value
	edited, ok := s.dialogue.Feed(smtp.Side(f.dir), b, e.judgement)
	f.edited = f.edited || edited
	f.ended = !ok
}

// forward lets a packet of a session pass.
func (e *Engine) forward(s *session, dir flow.Dir, p *Packet, v flow.Verdict, edited bool) {
	s.tcb.Forward(dir, &e.pkt.seg, v)
	if e.pkt.seg.Flags&flow.ACK != 0 {
		other := dir.Other()
		s.ledger[other].Release(e.pool, s.tcb.Acked(other))
	}
	edited = e.pkt.clearUrgent(p.Data) || edited
	mark := MarkNone
	if s.phase == phaseBypass {
		mark = MarkOffload
	}
	e.accept(p, edited, mark)
}

// holdPacket keeps a packet until it can be judged. Over the bounds it is
// dropped: TCP sends it again.
func (e *Engine) holdPacket(en *entry, dir flow.Dir, p *Packet) {
	h := &en.Value.hold[dir]
	if h.Len() >= e.limits.HeldPerFlow || e.counters.HeldNow >= uint64(e.limits.Held) {
		e.drop(p, ReasonHoldFull)
		return
	}
	h.Add(e.pkt.seg.Seq, held{packet: *p, since: e.now})
	e.holds = append(e.holds, heldUntil{en, dir, p.ID, e.now + holdTimeout})
	e.counters.Held++
	e.counters.HeldNow++
}

// settle judges the held packets whose turn has come.
func (e *Engine) settle(en *entry) {
	s := &en.Value
	for progress := true; progress; {
		progress = false
		for dir := flow.Original; dir <= flow.Reply; dir++ {
			for s.phase == phaseLive && e.judgeable(s, dir) {
				h := s.hold[dir].TakeFirst()
				e.counters.HeldNow--
				e.live(en, dir, &h.packet)
				progress = true
			}
		}
	}
	if s.phase == phaseBypass {
		e.releaseAll(en)
	}
}

// judgeable reports whether the first held packet of dir can be judged now. It
// leaves that packet decoded.
func (e *Engine) judgeable(s *session, dir flow.Dir) bool {
	h, ok := s.hold[dir].First()
	if !ok || s.tcb.Next(dir).Less(h.Seq) || !e.pkt.decode(h.Packet.packet.Data) {
		return false
	}
	return s.dialogue.Ready(smtp.Side(dir)) || s.tcb.Check(dir, &e.pkt.seg) != flow.InOrder
}

// expireHolds drops the packets that have waited too long.
func (e *Engine) expireHolds() {
	n := 0
	for ; n < len(e.holds) && e.holds[n].deadline <= e.now; n++ {
		u := e.holds[n]
		u.entry.Value.hold[u.dir].TakeIf(func(h held) bool {
			late := h.packet.ID == u.id && h.since+holdTimeout <= e.now
			if late {
				e.counters.HeldNow--
				e.drop(&h.packet, ReasonHoldTimeout)
			}
			return late
		})
	}
	e.holds = append(e.holds[:0], e.holds[n:]...)
}
