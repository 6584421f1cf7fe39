package engine

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// noRoom says why fresh client or server bytes cannot be taken now; TCP sends
// them again. A ledger of replies forgets its oldest octets instead: the
// client's pure ACKs, which would free them, do not come through the queue.
func (e *Engine) noRoom(s *session, dir flow.Dir, fresh []byte) Reason {
	if len(fresh) == 0 {
		return ReasonNone
	}
	if dir == flow.Original && !s.dialogue.Room(fresh) {
		return ReasonPending
	}
	l, limit := &s.ledger[dir], e.ledgerLimit(dir)
	if dir == flow.Reply && l.Len()+len(fresh) > limit && len(fresh) <= limit {
		l.Release(e.pool, l.Base().Add(l.Len()+len(fresh)-limit))
	}
	for tries := 0; !l.Reserve(e.pool, s.tcb.Next(dir), len(fresh), limit); tries++ {
		if tries == maxForgotten || !e.makeRoom(s) {
			return ReasonLedgerFull
		}
	}
	return ReasonNone
}

const (
	// repliesKept is how long the replies of a silent session are kept when the pool
	// is nearly full. Its client has long got them: only its bare ACKs, which do not
	// come, say so.
	repliesKept = 2 * time.Second

	// textKept is the same of a client's text that its server has not acknowledged:
	// longer than a sender pauses between two retransmissions that may still help.
	textKept = 30 * time.Second

	// maxSearched is how many buckets of the table are searched for such a session,
	// all of a small one, and maxForgotten how many are made to forget, for one
	// packet: some 30 microseconds. Overflow: the packet is dropped, and TCP sends it
	// again.
	maxSearched  = 64
	maxForgotten = 8
)

// makeRoom makes the session that was silent longest, of those it looks at, forget
// what it was keeping, and reports whether there was one. Whoever lets octets lie
// around unacknowledged must not take the room of all others. A repetition of what
// is forgotten is dropped.
func (e *Engine) makeRoom(needy *session) bool {
	if !e.pool.Tight() {
		return false
	}
	var idle *session
	look := func(en *entry) {
		s := &en.Value
		if s != needy && e.forgettable(s) && (idle == nil || s.heard < idle.heard) {
			idle = s
		}
	}
	for range maxSearched {
		e.search = e.table.Walk(e.search, look)
	}
	if idle == nil {
		return false
	}
	e.counters.Forgotten++
	e.empty(idle, flow.Reply)
	if e.now-idle.heard >= textKept {
		e.empty(idle, flow.Original)
	}
	return true
}

// forgettable reports whether a session may be made to forget something. Octets
// behind a gap, which nobody has judged, stay.
func (e *Engine) forgettable(s *session) bool {
	silent, text := e.now-s.heard, &s.ledger[flow.Original]
	return silent >= repliesKept && s.ledger[flow.Reply].Len() > 0 ||
		silent >= textKept && text.Len() > 0 && text.Last() == text.Base().Add(text.Len())
}

// empty makes a ledger forget what it keeps without a gap.
func (e *Engine) empty(s *session, dir flow.Dir) {
	l := &s.ledger[dir]
	l.Release(e.pool, l.Base().Add(l.Len()))
}
