package flow

import (
	"hash/maphash"
	"iter"
	"time"
)

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
	Drained         // the same, and the last reply that was owed has passed: it may be lost and come again
	Tombstone       // ended by the inspection: packets are refused
	NumTimers
)

// timeouts are how long each class lasts.
var timeouts = [NumTimers]time.Duration{
	Embryonic: 30 * time.Second, // the ASA's embryonic time-out (asa.md 5.2)
	Greeting:  6 * time.Minute,  // RFC 5321 section 4.5.3.2.1 lets a client wait 5 for the greeting
	Closing:   30 * time.Second, // a last retransmission; conntrack keeps TIME_WAIT for 120 s
	Draining:  10 * time.Minute, // what a server may take for the reply to a message (RFC 5321 section 4.5.3.2.6)
	Drained:   4 * time.Second,  // a retransmission or two
	Tombstone: 120 * time.Second,
}

// Entry is a connection in a Table.
type Entry[V any] struct {
	Value V

	key        Key
	timer      Timer
	deadline   time.Duration
	prev, next *Entry[V] // in the queue of its timer
	chain      *Entry[V] // the next one in its bucket
}

// Table holds at most max connections. When it is full, it takes no new one:
// what may go is the caller's decision.
//
// It is a hash table whose entries are chained in their buckets. The built-in
// map would keep a second copy of each key and take five times the memory.
type Table[V any] struct {
	max     int
	len     int
	buckets []*Entry[V] // a power of two, at least as many as entries
	seed    maphash.Seed
	queues  [NumTimers]Entry[V] // heads of circular lists, soonest deadline first
	waiting [NumTimers]int      // length of each queue
}

// minBuckets is how many buckets an empty table has.
const minBuckets = 64

// NewTable returns an empty table.
func NewTable[V any](max int) *Table[V] {
	t := &Table[V]{max: max, buckets: make([]*Entry[V], minBuckets), seed: maphash.MakeSeed()}
	for i := range t.queues {
		q := &t.queues[i]
		q.prev, q.next = q, q
	}
	return t
}

// Len is the number of connections.
func (t *Table[V]) Len() int { return t.len }

// bucket is where the chain of k begins. The seed is a secret: nobody can send
// connections that all come to one bucket.
func (t *Table[V]) bucket(k Key) **Entry[V] {
	return &t.buckets[maphash.Comparable(t.seed, k)&uint64(len(t.buckets)-1)]
}

// Lookup returns the entry of k, or nil.
func (t *Table[V]) Lookup(k Key) *Entry[V] {
	e := *t.bucket(k)
	for e != nil && e.key != k {
		e = e.chain
	}
	return e
}

// Insert adds a connection; k must be new. It returns nil when the table is
// full.
func (t *Table[V]) Insert(k Key) *Entry[V] {
	if t.len >= t.max {
		return nil
	}
	if t.len == len(t.buckets) {
		t.grow()
	}
	e := &Entry[V]{key: k}
	t.link(e)
	t.len++
	return e
}

// All gives every entry once, in no order. The one in hand may be deleted or get
// another timer; nothing may be inserted meanwhile.
func (t *Table[V]) All() iter.Seq[*Entry[V]] {
	return func(yield func(*Entry[V]) bool) {
		for _, e := range t.buckets {
			for e != nil {
				next := e.chain
				if !yield(e) {
					return
				}
				e = next
			}
		}
	}
}

// link puts e into its bucket.
func (t *Table[V]) link(e *Entry[V]) {
	b := t.bucket(e.key)
	e.chain, *b = *b, e
}

// grow doubles the number of buckets. A quarter of a million entries take some
// ten milliseconds, once: the kernel's queue has room for what comes meanwhile.
func (t *Table[V]) grow() {
	old := t.buckets
	t.buckets = make([]*Entry[V], 2*len(old))
	for _, e := range old {
		for e != nil {
			next := e.chain
			t.link(e)
			e = next
		}
	}
}

// Delete removes e.
func (t *Table[V]) Delete(e *Entry[V]) {
	t.SetTimer(e, NoTimer, 0)
	b := t.bucket(e.key)
	for *b != e {
		b = &(*b).chain
	}
	*b = e.chain
	e.chain = nil
	t.len--
}

// SetTimer starts e's time-out anew, or stops it with NoTimer. now must never
// run backwards.
func (t *Table[V]) SetTimer(e *Entry[V], class Timer, now time.Duration) {
	if e.timer != NoTimer {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
		t.waiting[e.timer]--
	}
	e.timer = class
	if class == NoTimer {
		return
	}
	e.deadline = now + timeouts[class]
	last := &t.queues[class]
	e.prev, e.next = last.prev, last
	last.prev.next, last.prev = e, e
	t.waiting[class]++
}

// Key returns e's key.
func (e *Entry[V]) Key() Key { return e.key }

// Timer returns the class of e's time-out.
func (e *Entry[V]) Timer() Timer { return e.timer }

// Waiting is the number of entries with a time-out of class.
func (t *Table[V]) Waiting(class Timer) int { return t.waiting[class] }

// HalfOpen returns the entry without payload, answered or not, that has waited
// longest for what comes next; nil if there is none.
func (t *Table[V]) HalfOpen() *Entry[V] {
	var oldest *Entry[V]
	var since time.Duration
	for _, class := range [...]Timer{Embryonic, Greeting} {
		e := t.queues[class].next
		if e == &t.queues[class] {
			continue
		}
		if set := e.deadline - timeouts[class]; oldest == nil || set < since {
			oldest, since = e, set
		}
	}
	return oldest
}

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
