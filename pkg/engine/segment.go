package engine

import (
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/wire"
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
	dir := dirOf(en, e.pkt.src)
	switch {
	case e.pkt.seg.Flags&flow.SYN != 0 && e.pkt.seg.Len > 0:
		e.drop(p, ReasonSYNPayload)
		return
	case e.opensAgain(en, dir, p):
		return
	case s.spoofed(dir, p.In):
		e.spoofed(en, dir, p)
		return
	}
	s.heard = e.now
	s.tcb.Translate(dir, &e.pkt.seg)
	switch s.phase {
	case phaseLive:
		e.live(en, dir, p)
		e.settle(en)
	case phaseDraining:
		e.draining(en, dir, p)
	case phaseDead:
		e.refuse(en, dir, p)
	case phaseBypass:
		e.bypass(en, dir, p)
	}
}

// spoofed drops a packet of one side that came in where the other's do.
func (e *Engine) spoofed(en *entry, dir flow.Dir, p *Packet) {
	if en.Value.first(notedSpoofed << dir) {
		e.emit(Event{Kind: EventSpoofed, Conn: connOf(en), Side: smtp.Side(dir), Interface: p.In, Do: dropAndLog})
	}
	e.drop(p, ReasonSpoofed)
}

// refusals are the reasons for the control block's refusals.
var refusals = map[flow.Verdict]Reason{
	flow.NotSYN:    ReasonNotSYN,
	flow.Duplicate: ReasonDuplicateSYN,
	flow.BadACK:    ReasonInvalidACK,
	flow.BadRST:    ReasonInvalidRST,
	flow.BadFIN:    ReasonBeyondFIN,
	flow.Beyond:    ReasonBeyondWindow,
	flow.OldStamp:  ReasonOldTimestamp,
}

// live judges a packet of a session.
func (e *Engine) live(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if e.exceedsMSS(en, dir, p) {
		return
	}
	if e.blindHello(s, dir, p) {
		e.drop(p, ReasonInvalidACK)
		return
	}
	switch v := s.tcb.Check(dir, &e.pkt.seg); v {
	case flow.InOrder:
		e.inOrder(en, dir, p)
	case flow.Old:
		if e.abortsBehindGap(s, dir) {
			e.closes(en, dir, p)
			return
		}
		e.old(en, dir, p)
	case flow.Ahead:
		e.ahead(en, dir, p)
	case flow.Closes:
		e.closes(en, dir, p)
	default:
		if v == flow.Duplicate && s.first(notedDuplicate) {
			e.emit(Event{Kind: EventDuplicateSYN, Conn: connOf(en), Side: smtp.Side(dir), Do: dropAndLog})
		}
		e.drop(p, refusals[v])
	}
}

// blindHello reports whether the segment brings bytes of a ClientHello and does not
// acknowledge the reply to STARTTLS. Behind the ServerHello nothing is masked any
// more: if the server could have got the ClientHello without an acknowledgement of
// the replies before it, it would send those again as they were.
func (e *Engine) blindHello(s *session, dir flow.Dir, p *Packet) bool {
	fed, ok := s.dialogue.Handshake()
	if !ok || dir != flow.Original {
		return false
	}
	from, text := s.tcb.Next(dir).Add(-fed), p.Data[e.pkt.payload:]
	switch before := from.Sub(e.pkt.seg.Seq); {
	case before >= len(text): // commands, or nothing
		return false
	case before >= 0 && !smtp.BeginsHandshake(text[before:]):
		return false // judged at once
	}
	return !s.tcb.Acknowledges(&e.pkt.seg)
}

// abortsBehindGap reports whether the segment is the RST of a client whose octets
// went on early: it stands behind them. Linux takes it there.
func (e *Engine) abortsBehindGap(s *session, dir flow.Dir) bool {
	last := s.ledger[dir].Last()
	return e.pkt.seg.Flags&flow.RST != 0 && e.pkt.seg.Seq == last && s.tcb.Next(dir).Less(last)
}

// old forwards a segment without anything new: what it says again is what was
// said before.
func (e *Engine) old(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if e.forgotten(s, dir) {
		e.drop(p, ReasonLedgerFull)
		return
	}
	if e.pkt.seg.Flags&flow.RST != 0 {
		s.noted |= notedReset << dir
	}
	e.forward(en, dir, p, flow.Old, e.overwrite(en, dir, p))
}

// forgotten reports whether the segment repeats octets that its receiver may
// still want and that the ledger had no room to keep.
func (e *Engine) forgotten(s *session, dir flow.Dir) bool {
	acked, base := s.tcb.Acked(dir), s.ledger[dir].Base()
	end := e.pkt.seg.Seq.Add(e.pkt.seg.Len)
	return e.pkt.seg.Len > 0 && e.pkt.seg.Seq.Less(base) && acked.Less(base) && acked.Less(end)
}

// notEarly are the flags of a segment that always waits for the gap before it.
const notEarly = flow.FIN | flow.RST | flow.URG

// ahead takes a segment before which octets are missing. Message octets are
// forwarded at once, so that the receiver's SACKs and the sender's fast
// retransmit work; everything else waits. What was forwarded is the truth: it is
// kept until acknowledged, and judged when the gap has closed.
func (e *Engine) ahead(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	l, seq, n := &s.ledger[dir], e.pkt.seg.Seq, e.pkt.seg.Len
	if dir == flow.Reply || e.pkt.seg.Flags&notEarly != 0 {
		e.holdPacket(en, dir, p)
		return
	}
	edited := e.overwrite(en, dir, p)
	payload := p.Data[e.pkt.payload:]
	repeats := seq.Add(n).LessEq(l.Reach(seq))
	switch {
	case repeats:
	case s.dialogue.Transparent(seq.Sub(s.tcb.Next(dir)), payload) && e.pool.Spacious() && l.Reserve(e.pool, seq, n, e.ledgerLimit(dir)):
		l.Put(seq, payload)
		e.counters.Early++
	case edited:
		e.drop(p, ReasonConflict)
		return
	default:
		e.holdPacket(en, dir, p)
		return
	}
	e.forward(en, dir, p, flow.Ahead, edited)
}

// inOrder judges the segment that comes next, together with the octets behind it
// that were forwarded early. Whatever keeps the session while the packet is
// dropped or held is decided before a byte of it is fed.
func (e *Engine) inOrder(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if e.pkt.seg.Flags&flow.SYN != 0 {
		e.synAck(en, p)
		return
	}
	l, skip, payload := &s.ledger[dir], s.tcb.Skip(dir, &e.pkt.seg), p.Data[e.pkt.payload:]
	fresh := payload[min(skip, len(payload)):]
	end := e.pkt.seg.Seq.Add(len(payload))
	switch {
	case len(fresh) > 0 && !s.dialogue.Ready(smtp.Side(dir)):
		e.holdPacket(en, dir, p)
		return
	case e.pkt.seg.Flags&flow.FIN != 0 && end.Less(l.Last()):
		e.drop(p, ReasonBeyondFIN)
		return
	}
	if why := e.noRoom(s, dir, fresh); why != ReasonNone {
		e.drop(p, why)
		return
	}
	if skip > 0 && e.forgotten(s, dir) { // now at the latest: to make room
		e.drop(p, ReasonLedgerFull)
		return
	}
	edited := e.overwrite(en, dir, p)
	owed := s.dialogue.Owed()
	reach := l.Reach(end)
	fed := e.feedAssembler(en, dir, skip)
	if !fed.ended {
		fed = e.feedEarly(s, p, end, reach)
	}
	if fed.ended && s.phase != phaseBypass {
		e.end(en, dir, p, owed)
		return
	}
	if len(fresh) > 0 {
		l.Put(s.tcb.Next(dir), fresh)
		e.establish(en)
	}
	s.bytes += uint64(len(fresh))
	e.forward(en, dir, p, flow.InOrder, edited || fed.edited)
	s.bytes += uint64(reach.Sub(end))
	s.tcb.Reach(dir, reach)
	e.finished(en)
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

// scratchSize is how many octets of a ledger are fed at a time.
const scratchSize = 64 << 10

// feedEarly gives the assembler the octets from from up to to, which the client
// had sent ahead of the packet in hand and which were forwarded then. An edit
// comes too late for them, and for those that the packet says again: it ends the
// session. The packet is not forwarded, and without it nobody reads them.
func (e *Engine) feedEarly(s *session, p *Packet, from, to wire.Seq) feeding {
	f := &e.feed
	l, seq := &s.ledger[f.dir], e.pkt.seg.Seq
	if changed, _ := l.Overwrite(seq, p.Data[e.pkt.payload:]); changed {
		e.tooLate(seq)
		return *f
	}
	edited := f.edited
	tcp := e.pkt.tcp
	if e.scratch == nil && from != to {
		e.scratch = make([]byte, scratchSize)
	}
	for from != to && !f.ended {
		b := e.scratch[:min(to.Sub(from), len(e.scratch))]
		l.Copy(from, b)
		tcp.Seq, tcp.Payload, f.edited = uint32(from), b, false
		e.assembler.Feed(e.pkt.net, &tcp, e.sink)
		if f.edited {
			e.tooLate(from)
		}
		from = from.Add(len(b))
	}
	f.edited = edited
	return *f
}

// tooLate ends the session: octets from seq on would have to be masked that were
// forwarded already.
func (e *Engine) tooLate(seq wire.Seq) {
	s := &e.feed.entry.Value
	e.feed.ended = true
	if e.feed.over {
		return
	}
	e.counters.EarlyBytes++
	fact := smtp.Fact{Side: smtp.Client, Offset: s.offset(e.feed.dir, seq)}
	e.ends(ReasonPolicy, e.fact(fact, Event{Kind: EventParameter, Rule: "early-bytes", Do: dropAndLog,
		Detail: "bytes had passed as text of the message before the end of it that was missing, and would have to be masked now"}))
}

// forward lets a packet of a session pass.
func (e *Engine) forward(en *entry, dir flow.Dir, p *Packet, v flow.Verdict, edited bool) {
	s := &en.Value
	if dir == flow.Reply && e.lowerWindow(s, p) {
		edited = true
	}
	s.tcb.Forward(dir, &e.pkt.seg, v)
	if en.Timer() == flow.Closing {
		e.table.SetTimer(en, flow.Closing, e.now) // as long as an end has something to say
	}
	if e.pkt.seg.Flags&flow.ACK != 0 {
		other := dir.Other()
		s.ledger[other].Release(e.pool, s.tcb.Acked(other))
	}
	edited = e.normalise(en, dir, p) || edited
	mark := MarkNone
	if s.phase == phaseBypass {
		mark = MarkOffload
	}
	e.accept(p, edited, mark)
}
