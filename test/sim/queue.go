package sim

import "time"

// eventKind says what happens at an event.
type eventKind uint8

const (
	atEngine eventKind = iota // a packet comes to the engine
	atHost                    // a packet comes to its receiver
	atTimer                   // a timer of an endpoint may have run out
	atStart                   // a connection begins
)

// event is something that will happen.
type event struct {
	at    time.Duration
	order uint64 // events of the same time happen in the order in which they were made
	kind  eventKind
	timer uint8     // atTimer
	host  *endpoint // atTimer
	p     *packet   // atEngine, atHost
	c     *conn     // atStart
}

// before orders events.
func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.order < f.order
}

// events is a binary heap, soonest first.
type events struct {
	heap []event
	made uint64
}

// push adds an event and numbers it.
func (q *events) push(e event) {
	q.made++
	e.order = q.made
	q.heap = append(q.heap, e)
	h := q.heap
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop removes the soonest event; there must be one.
func (q *events) pop() event {
	h := q.heap
	first, n := h[0], len(h)-1
	h[0] = h[n]
	h[n] = event{}
	q.heap = h[:n]
	h = q.heap
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < n; child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
