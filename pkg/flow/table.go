package flow

import "time"

// Timer is a class of time-outs. All time-outs of a class last equally long, so
// that their order of expiry is their order of setting.
type Timer uint8

// The classes. An established connection has no timer: it leaves by FIN, RST or
// when conntrack forgets it, never by idleness (design.md section 6).
const (
	NoTimer   Timer = iota
	Embryonic       // a SYN that has no answer
	Greeting        // a SYN-ACK was forwarded, but no payload yet
	Closing         // both FINs or a RST were forwarded: retransmissions may come
	Draining        // ended by the inspection, replies are still owed
	Tombstone       // ended by the inspection: packets are refused
	NumTimers
)

// timeouts are how long each class lasts.
var timeouts = [NumTimers]time.Duration{
	Embryonic: 30 * time.Second, // the ASA's embryonic time-out (asa.md 5.2)
	Greeting:  6 * time.Minute,  // RFC 5321 section 4.5.3.2.1 lets a client wait 5 for the greeting
	Closing:   30 * time.Second, // a last retransmission; conntrack keeps TIME_WAIT for 120 s
	Draining:  60 * time.Second, // what a server may take for a reply it owes
	Tombstone: 120 * time.Second,
}

// Entry is a connection in a Table.
type Entry[V any] struct {
	Value V

	key        Key
	timer      Timer
	deadline   time.Duration
	prev, next *Entry[V]
}

// Table holds at most max connections. When it is full, it takes no new one:
// an established connection is never evicted.
type Table[V any] struct {
	max     int
	entries map[Key]*Entry[V]
	queues  [NumTimers]Entry[V] // heads of circular lists, soonest deadline first
}

// NewTable returns an empty table.
func NewTable[V any](max int) *Table[V] {
	t := &Table[V]{max: max, entries: make(map[Key]*Entry[V])}
	for i := range t.queues {
		q := &t.queues[i]
		q.prev, q.next = q, q
	}
	return t
}

// Len is the number of connections.
func (t *Table[V]) Len() int { return len(t.entries) }

// Lookup returns the entry of k, or nil.
func (t *Table[V]) Lookup(k Key) *Entry[V] { return t.entries[k] }

// Insert adds a connection; k must be new. It returns nil when the table is
// full.
func (t *Table[V]) Insert(k Key) *Entry[V] {
	if len(t.entries) >= t.max {
		return nil
	}
	e := &Entry[V]{key: k}
	t.entries[k] = e
	return e
}

// Delete removes e.
func (t *Table[V]) Delete(e *Entry[V]) {
	t.SetTimer(e, NoTimer, 0)
	delete(t.entries, e.key)
}

// SetTimer starts e's time-out anew, or stops it with NoTimer. now must never
// run backwards.
func (t *Table[V]) SetTimer(e *Entry[V], class Timer, now time.Duration) {
	if e.timer != NoTimer {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
	}
	e.timer = class
	if class == NoTimer {
		return
	}
	e.deadline = now + timeouts[class]
	last := &t.queues[class]
	e.prev, e.next = last.prev, last
	last.prev.next, last.prev = e, e
}

// Timer returns the class of e's time-out.
func (e *Entry[V]) Timer() Timer { return e.timer }

// Expired returns an entry whose time-out has passed, or nil. The caller must
// delete it or set its timer.
func (t *Table[V]) Expired(now time.Duration) *Entry[V] {
	for i := range t.queues {
		q := &t.queues[i]
		if e := q.next; e != q && e.deadline <= now {
			return e
		}
	}
	return nil
}
