package engine

import (
	"maps"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// settling is how long after a SYN conntrack's word that a connection is gone
// may still be about the one before it, or older than the connection.
const settling = 5 * time.Second

// Reconcile ends every connection that conntrack no longer knows, as Forget does
// one: for when conntrack's events were lost. known is of a moment before now, by
// less than settling. It asks once for each connection.
func (e *Engine) Reconcile(now time.Duration, known func(flow.Key) bool) []Decision {
	e.begin(now)
	maps.DeleteFunc(e.known, func(k flow.Key, _ struct{}) bool { return !known(k) })
	for en := range e.table.All() {
		if e.settled(en) && !known(en.Key()) {
			e.vanished(en)
		}
	}
	return e.out
}

// settled reports whether conntrack must know the connection of en, if it is
// still there. It has an entry only when its SYN has passed the last hook, behind
// this queue: not one that nobody has answered, because the SYN, or its repetition,
// may just be on its way there; not one that is about to be opened anew; and not one
// that is younger than what conntrack was asked. The first two have a time-out. The
// last may stay although it is over, until Forget or the next Reconcile, which asks
// again.
func (e *Engine) settled(en *entry) bool {
	s, timer := &en.Value, en.Timer()
	opening := timer == flow.Embryonic || s.again() != nil && timer != flow.NoTimer
	return !opening && e.now-s.started >= settling
}

// vanished ends a connection that conntrack does not know any more.
func (e *Engine) vanished(en *entry) {
	s := &en.Value
	switch {
	case s.phase == phaseDead: // our own kill: the tombstone stays
	case s.phase == phaseDraining:
		e.bury(en)
	case s.again() != nil: // the new SYN has made conntrack forget the old connection
		e.table.SetTimer(en, flow.Closing, e.now)
	default:
		e.gone(en)
		e.remove(en)
	}
}
