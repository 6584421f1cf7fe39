package static

import (
	"net/netip"
	"time"
)

// State is what conntrack says of a TCP connection; the values are the kernel's
// (enum tcp_conntrack).
type State uint8

// The states that are told apart here.
const (
	SYNSent     State = 1
	SYNRecv     State = 2
	Established State = 3
	TimeWait    State = 7
	Close       State = 8
	SYNSent2    State = 9
)

// Entry is an entry of conntrack.
type Entry struct {
	Conn
	Original netip.AddrPort // the destination as the client wrote it
	ID       uint32         // tells entries of the same connection apart
	State    State
}

// phase is how an entry counts, and false for one that does not: a connection
// counts until TIME_WAIT or CLOSE.
func (s State) phase() (phase, bool) {
	switch {
	case s == SYNSent, s == SYNRecv, s == SYNSent2:
		return halfOpen, true
	case s >= Established && s < TimeWait:
		return opened, true
	}
	return 0, false
}

// Update takes an entry that is new or has changed.
func (t *Tracker) Update(now time.Duration, e Entry) {
	t.now = now
	t.update(e)
}

// update is Update; it reports whether the entry was news.
func (t *Tracker) update(e Entry) bool {
	key := e.key()
	e.Conn = key.conn()
	to, counts := e.State.phase()
	conn, known := t.conns[key]
	switch {
	case known && !counts && (conn.phase == admitted || conn.id != e.ID):
		return false // the entry of an earlier connection of these addresses
	case known && !counts:
		t.close(key, e)
		t.remove(key)
	case known:
		news := conn.phase != to
		if conn.phase != admitted && conn.id != e.ID { // another one, of the same addresses
			conn.proven, conn.since = false, t.now
			t.begin(key, to)
		}
		if conn.phase == admitted {
			t.spare(key)
		}
		conn.phase, conn.id, conn.dump = to, e.ID, t.dump
		t.change(key, conn)
		return news
	case counts:
		return t.discover(key, e, to)
	default:
		return false
	}
	return true
}

// discover counts a connection whose SYN was not seen: it was open before the
// tracker was, or its host had no limits.
func (t *Tracker) discover(key connKey, e Entry, p phase) bool {
	h := t.host(e.Server.Addr())
	if h == nil {
		return false
	}
	if len(t.conns) >= MaxConns {
		t.count.Overflow++
		t.pruneHost(h)
		return false
	}
	t.add(key, h, t.client(e.Client.Addr()), tracked{id: e.ID, phase: p, dump: t.dump, since: t.now})
	t.spare(key)
	t.begin(key, p)
	return true
}

// begin notes when a half-open connection began whose SYN was not seen.
func (t *Tracker) begin(key connKey, p phase) {
	if p == halfOpen {
		t.young = append(t.young, start{key, t.now})
	}
}

// Destroy takes an entry that conntrack has removed. Only that of the connection
// counted ends it: that of an earlier one of the same addresses may come late.
func (t *Tracker) Destroy(now time.Duration, e Entry) {
	t.now = now
	key := e.key()
	if conn, known := t.conns[key]; known && conn.phase != admitted && conn.id == e.ID {
		t.remove(key)
	}
}

// Resync compares the count with all entries of conntrack, which were read after
// the last event taken and before the next one.
func (t *Tracker) Resync(now time.Duration, entries []Entry) {
	t.now = now
	t.dump++
	for _, e := range entries {
		t.closeUnknown(e)
		if t.update(e) {
			t.count.Missed++
		}
	}
	for key, conn := range t.conns {
		if conn.dump != t.dump && conn.phase != admitted {
			t.count.Missed++
			t.remove(key)
		}
	}
}
