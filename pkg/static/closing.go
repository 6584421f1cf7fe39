package static

import (
	"net/netip"
	"time"
)

const (
	// closingFor is how long the entry of a connection that has ended stays in
	// conntrack: what was lost of its last segments is sent again meanwhile.
	closingFor = 2 * time.Second

	// freshFor is how long it stays at least: the segment that ended it may wait in
	// a queue, and its answer too.
	freshFor = 250 * time.Millisecond

	// maxFresh is how many entries are younger than that, of all hosts. Overflow:
	// those that come then are deleted at once.
	maxFresh = 1 << 16

	// mostAtOnce is how many entries are deleted a Tick: of a dump thousands may be
	// due at the same time, and the daemon has room for some thousands. The others
	// wait for the next one.
	mostAtOnce = 1024

	// killedFor is how long the deletion of an entry may take once it is asked for.
	killedFor = 500 * time.Millisecond
)

// closed is a connection that conntrack takes for closed, and no longer counts.
type closed struct {
	key      connKey
	original netip.AddrPort
	id       uint32
	at       time.Duration // when it ended; of one whose entry is deleted, when that was asked for
	serial   uint64
	waited   bool // for what conntrack makes of a SYN of its addresses
}

// ending is what becomes of the entry of a connection that has ended.
type ending struct {
	serial uint64 // of the last connection of the addresses
	killed bool   // it is being deleted
}

// Kill is a connection whose conntrack entry is to be deleted.
type Kill struct {
	Conn
	Original netip.AddrPort // the destination as the client wrote it, invalid if not known
	ID       uint32         // of the entry
	Cause    Cause
}

// Cause is why an entry is to be deleted.
type Cause uint8

// The causes.
const (
	Closed      Cause = iota // conntrack takes the connection for closed
	Intercepted              // it is half-open, and its host in intercept
	TimedOut                 // it is half-open, and has been for too long
)

// close has conntrack forget a connection that it takes for closed. It would go on
// forwarding what comes of it, and it is easily fooled: a RST or two FINs behind a
// gap are an end to conntrack and none to the server. Whoever stops counting must
// have nothing left to count.
func (t *Tracker) close(key connKey, e Entry) {
	if t.mostClosing(t.hosts[key.host()]) == 0 {
		return // nobody counts how many there are
	}
	t.serial++
	c := closed{key: key, original: e.Original, id: e.ID, at: t.now, serial: t.serial}
	t.ended[key] = ending{serial: c.serial}
	if len(t.fresh) >= maxFresh {
		t.kill(c)
		return
	}
	t.fresh = append(t.fresh, c)
}

// mostClosing is how many entries of a host may stay for the sake of segments that
// were lost: as many as it may have connections. 0 is no limit.
func (t *Tracker) mostClosing(h *host) uint32 {
	if h.limits.Max > 0 {
		return h.limits.Max
	}
	return t.cfg.Client.Max
}

// closeUnknown does the same with an entry of a dump whose connection is not
// counted: its end came while nobody listened.
func (t *Tracker) closeUnknown(e Entry) {
	key := e.key()
	_, known := t.conns[key]
	_, told := t.ended[key]
	if known || told || e.State != TimeWait && e.State != Close {
		return
	}
	if h := t.host(key.host()); h != nil {
		t.close(key, e)
		t.pruneHost(h)
	}
}

// closeOld deletes the entries that have stayed long enough.
func (t *Tracker) closeOld() {
	most := len(t.kills) + mostAtOnce
	for len(t.fresh) > 0 && len(t.kills) < most && t.now-t.fresh[0].at >= freshFor {
		first := t.fresh[0]
		t.fresh = t.fresh[1:]
		h := t.hosts[first.key.host()]
		switch {
		case !t.stays(first), t.waits(first):
		case first.waited, h == nil, h.closing >= t.mostClosing(h):
			t.kill(first)
		default:
			h.closing++
			t.closing = append(t.closing, first)
		}
	}
	for len(t.closing) > 0 && len(t.kills) < most && t.now-t.closing[0].at >= closingFor {
		first := t.closing[0]
		t.closing = t.closing[1:]
		if h := t.hosts[first.key.host()]; h != nil && h.closing > 0 { // it may have been forgotten meanwhile
			h.closing--
		}
		if t.stays(first) && !t.waits(first) {
			t.kill(first)
		}
	}
	for len(t.killed) > 0 && t.now-t.killed[0].at >= killedFor {
		if first := t.killed[0]; t.stays(first) {
			delete(t.ended, first.key)
		}
		t.killed = t.killed[1:]
	}
}

// waits lets an entry stay as long as a SYN of its addresses was admitted of which
// conntrack has not told: it may be another connection's by now, with the same id,
// or the SYN was ignored.
func (t *Tracker) waits(c closed) bool {
	conn, known := t.conns[c.key]
	if !known || conn.phase != admitted {
		return false
	}
	c.at, c.waited = t.now, true
	t.fresh = append(t.fresh, c)
	return true
}

// stays reports whether no later connection of the addresses has begun or ended.
func (t *Tracker) stays(c closed) bool {
	e, ok := t.ended[c.key]
	return ok && e.serial == c.serial
}

// kill has an entry deleted.
func (t *Tracker) kill(c closed) {
	t.kills = append(t.kills, Kill{Conn: c.key.conn(), Original: c.original, ID: c.id})
	t.ended[c.key] = ending{c.serial, true}
	c.at = t.now
	t.killed = append(t.killed, c)
}

// spare leaves the entry of addresses whose last connection has ended: conntrack
// has told of another one, which has its place and often its id. What is being
// deleted cannot be spared.
func (t *Tracker) spare(key connKey) {
	if e, ok := t.ended[key]; ok && !e.killed {
		delete(t.ended, key)
	}
}

// reopens reports whether a SYN may pass whose addresses had a connection that has
// ended. While the old entry is being deleted it has to come again. Before that,
// conntrack is to say whether a new connection begins: it ignores a SYN if what
// ended the old one may have been a fake, and whoever sends one must not keep the
// entry by it.
func (t *Tracker) reopens(key connKey, proven bool) bool {
	return proven || !t.ended[key].killed // synproxy sends its SYN once
}
