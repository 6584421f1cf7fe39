package engine

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// held is a packet that waits for its decision.
type held struct {
	packet Packet
	since  time.Duration
}

// heldUntil is an entry of the queue that drops held packets in time. The packet
// may have been decided since.
type heldUntil struct {
	entry    *entry
	dir      flow.Dir
	id       uint32
	deadline time.Duration
}

// holdPacket keeps a packet until it can be judged. Over the bounds it is
// dropped: TCP sends it again.
func (e *Engine) holdPacket(en *entry, dir flow.Dir, p *Packet) {
	h, c := &en.Value.more().hold[dir], &e.counters
	if h.Len() >= e.limits.HeldPerFlow || c.HeldNow >= uint64(e.limits.Held) || c.HeldOctets+uint64(len(p.Data)) > uint64(e.limits.HeldOctets) {
		e.drop(p, ReasonHoldFull)
		return
	}
	h.Add(e.pkt.seg.Seq, held{packet: *p, since: e.now})
	e.holds = append(e.holds, heldUntil{en, dir, p.ID, e.now + e.tcp.QueueTimeout})
	c.Held++
	c.HeldNow++
	c.HeldOctets += uint64(len(p.Data))
	if len(e.holds) > 4*e.limits.Held {
		e.forgetDecided()
	}
}

// unheld counts a packet that waits no more.
func (e *Engine) unheld(h *held) *Packet {
	e.counters.HeldNow--
	e.counters.HeldOctets -= uint64(len(h.packet.Data))
	return &h.packet
}

// takeFirst takes the first held packet of a direction.
func (e *Engine) takeFirst(s *session, dir flow.Dir) *Packet {
	h := s.held(dir).TakeFirst()
	return e.unheld(&h)
}

// settle judges the held packets whose turn has come.
func (e *Engine) settle(en *entry) {
	s := &en.Value
	for progress := true; progress; {
		progress = false
		for dir := flow.Original; dir <= flow.Reply; dir++ {
			for s.phase == phaseLive && e.judgeable(s, dir) {
				e.live(en, dir, e.takeFirst(s, dir))
				progress = true
			}
		}
	}
	if s.phase == phaseBypass {
		e.releaseAll(en)
		for dir := range s.ledger {
			s.ledger[dir].Drop(e.pool)
		}
	}
}

// judgeable reports whether the first held packet of dir can be judged now. It
// leaves that packet decoded.
func (e *Engine) judgeable(s *session, dir flow.Dir) bool {
	h, ok := s.held(dir).First()
	if !ok || s.tcb.Next(dir).Less(h.Seq) || !e.pkt.decode(h.Packet.packet.Data) {
		return false
	}
	s.tcb.Translate(dir, &e.pkt.seg)
	return s.dialogue.Ready(smtp.Side(dir)) || s.tcb.Check(dir, &e.pkt.seg) != flow.InOrder
}

// expireHolds drops the packets that have waited too long.
func (e *Engine) expireHolds() {
	n := 0
	for ; n < len(e.holds) && e.holds[n].deadline <= e.now; n++ {
		u := e.holds[n]
		u.entry.Value.held(u.dir).TakeIf(func(h held) bool {
			late := h.packet.ID == u.id && h.since+e.tcp.QueueTimeout <= e.now
			if late {
				e.drop(e.unheld(&h), ReasonHoldTimeout)
			}
			return late
		})
	}
	e.holds = append(e.holds[:0], e.holds[n:]...)
}

// forgetDecided takes the packets off the queue of time-outs that were decided
// long before theirs: nothing of a past peak stays.
func (e *Engine) forgetDecided() {
	waiting := e.holds[:0]
	for _, u := range e.holds {
		if u.entry.Value.held(u.dir).Has(func(h held) bool { return h.packet.ID == u.id }) {
			waiting = append(waiting, u)
		}
	}
	clear(e.holds[len(waiting):])
	e.holds = waiting
}
