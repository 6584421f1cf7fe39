package static

import (
	"net/netip"
	"time"
)

const (
	// halfOpenFor is how long a half-open connection counts: the ASA's embryonic
	// timeout, and that of the ruleset. A SYN answered with a cookie leaves no
	// connection; it counts as long.
	halfOpenFor = 30 * time.Second

	// holdDown is how long the half-open connections must have been fewer than
	// the limit before a host leaves intercept.
	holdDown = 10 * time.Second

	// aggressive is the age at which a half-open connection of a host in
	// intercept is removed, as PIX OS does under attack: a handshake takes a
	// round trip, and what is older holds a place that a client needs.
	aggressive = 5 * time.Second

	// answersAfter is how long the kernel may take to answer a host's SYNs: the
	// sets are written, and what waits in the queue is decided.
	answersAfter = 2 * time.Second

	// maxFlooded is how many hosts are in intercept at once: each has a record
	// here and elements in the kernel's sets, and of a /64 network an attacker
	// could put in as many as they like. The limits of any other host hold as
	// they do without synproxy.
	maxFlooded = 4096
)

// seconds is halfOpenFor.
const seconds = int(halfOpenFor / time.Second)

// flood is what is known of a host in intercept.
type flood struct {
	pending  [seconds]int64        // SYNs answered less handshakes completed, by second
	full     bool                  // nobody else is admitted
	cookies  uint64                // SYNs answered with one
	at       int                   // the second in hand
	since    time.Duration         // when it began
	calm     time.Duration         // since when fewer than the limit are half-open
	refusals map[netip.Addr]uint64 // reading of the counter of full hosts, at the last call of Full
	reading  map[netip.Addr]uint64 // of the cookie counter of each address, at the last call of Cookies
}

// halfOpen estimates how many handshakes are not complete.
func (f *flood) halfOpen() int64 {
	var sum int64
	for _, n := range f.pending {
		sum += n
	}
	return max(0, sum)
}

// answer notes that a client of the host has answered a cookie.
func (h *host) answer() {
	if h.flood != nil {
		h.flood.pending[h.flood.at]--
	}
}

// synproxy reports whether synproxy answers for a host, or can.
func (t *Tracker) synproxy(h *host) bool {
	return t.cfg.Synproxy && (h.flood != nil || len(t.flooded) < maxFlooded)
}

// passesBy reports whether a SYN that opens a new connection to h, but for those of
// synproxy, has come by a way that synproxy does not see: clients reach the host by
// an address that no mapping names, by a dnat rule of the operator's. Its limits hold
// there as they do without synproxy.
func (t *Tracker) passesBy(h *host) bool {
	return h.flood != nil && t.now-h.flood.since >= answersAfter
}

// enter puts a host into intercept.
func (t *Tracker) enter(h *host, ev Event) {
	if h.flood != nil || !t.synproxy(h) {
		return
	}
	t.intercept(h)
	ev.Global = h.globals[0]
	t.emit(ev)
}

// intercept makes synproxy answer for a host.
func (t *Tracker) intercept(h *host) {
	h.flood = &flood{since: t.now, calm: t.now, full: h.full(), reading: map[netip.Addr]uint64{}, refusals: map[netip.Addr]uint64{}}
	t.flooded[h.local] = h
	t.changed = true
}

// Flooded reports whether any host is in intercept.
func (t *Tracker) Flooded() bool { return len(t.flooded) > 0 }

// cut has conntrack remove the half-open connections of hosts in intercept that
// hold a place too long. They count until conntrack tells of it.
func (t *Tracker) cut() {
	if len(t.flooded) == 0 {
		return
	}
	for key, conn := range t.conns {
		if conn.phase == halfOpen && !conn.proven && t.now-conn.since >= aggressive && t.flooded[key.host()] != nil {
			t.kills = append(t.kills, Kill{Conn: key.conn(), ID: conn.id, Cause: Intercepted})
		}
	}
}

// Resume puts a host into intercept that was when the daemon ended.
func (t *Tracker) Resume(now time.Duration, global netip.Addr) {
	t.now = now
	for _, m := range t.cfg.Mappings {
		if !m.Global.Contains(global) || !t.index.leads(m, global) {
			continue
		}
		local := Mapping{Global: m.Local, Local: m.Global}.global(global)
		if h := t.host(local); h != nil && h.flood == nil && t.synproxy(h) {
			t.intercept(h)
		}
	}
}

// Cookies takes the kernel's counts of SYNs that it answered with a cookie, by the
// address as clients write it; one that is missing has had none. A count only
// grows, or begins anew. What was counted before the first call with a host in
// intercept is no part of its flood.
func (t *Tracker) Cookies(counts map[netip.Addr]uint64) {
	for _, h := range t.flooded {
		h.answered(h.local, counts)
		for _, g := range h.globals {
			if g != h.local {
				h.answered(g, counts)
			}
		}
	}
}

// answered takes the reading of one of the host's cookie counters.
func (h *host) answered(by netip.Addr, counts map[netip.Addr]uint64) {
	count, counted := counts[by]
	f := h.flood
	before, read := f.reading[by]
	if read && !counted {
		return
	}
	if count < before {
		before = 0
	}
	if read {
		h.cookies += count - before
		f.cookies += count - before
		f.pending[f.at] += int64(count - before)
	}
	f.reading[by] = count
}

// Full takes the kernel's counts of SYNs that it dropped because their host was
// full, by the address as clients write it. A count grows while the address is in
// the set; one that is missing is not.
func (t *Tracker) Full(counts map[netip.Addr]uint64) {
	for _, h := range t.flooded {
		var refused uint64
		for _, addr := range append([]netip.Addr{h.local}, h.globals...) {
			n, before := counts[addr], h.flood.refusals[addr]
			if n < before {
				before = 0
			}
			h.flood.refusals[addr] = n
			refused += n - before
		}
		if refused == 0 {
			continue
		}
		h.denied += refused
		if refused >= mostInVain {
			h.flood.calm = t.now
		}
		t.emit(Event{
			Kind: KernelRefused, SYN: SYN{Conn: Conn{Server: netip.AddrPortFrom(h.local, 0)}}, Global: h.globals[0],
			Count: h.open + h.proven, Limit: h.limits.Max, Embryonic: h.limits.Embryonic, Dropped: true, Refusals: refused,
		})
	}
}

// Tick tells the Tracker the time: about every tenth of a second, and at least
// once a second.
func (t *Tracker) Tick(now time.Duration) {
	t.now = now
	t.confirm()
	t.expire()
	t.closeOld()
	if t.second == 0 || now-t.second > halfOpenFor {
		t.second = now
	}
	if now-t.second >= time.Second {
		t.cut()
	}
	for ; now-t.second >= time.Second; t.second += time.Second {
		for _, h := range t.flooded {
			t.calm(h)
		}
	}
}

// confirm forgets the connections of which conntrack has not told in time.
func (t *Tracker) confirm() {
	for len(t.young) > 0 && t.now-t.young[0].at >= confirmWithin {
		first := t.young[0]
		t.young = t.young[1:]
		conn, known := t.conns[first.key]
		switch {
		case !known || conn.since != first.at:
		case conn.phase == admitted:
			t.count.Unconfirmed++
			t.remove(first.key)
		case conn.phase == halfOpen:
			t.silent = append(t.silent, first)
		}
	}
}

// expire has conntrack remove the half-open connections whose time is up. Its own
// time-out does not: an entry that nobody looks for stays until conntrack clears
// up, once a minute on a quiet machine.
func (t *Tracker) expire() {
	most := len(t.kills) + mostAtOnce
	for len(t.silent) > 0 && len(t.kills) < most && t.now-t.silent[0].at >= halfOpenFor {
		first := t.silent[0]
		t.silent = t.silent[1:]
		conn, known := t.conns[first.key]
		if known && conn.since == first.at && conn.phase == halfOpen {
			t.kills = append(t.kills, Kill{Conn: first.key.conn(), ID: conn.id, Cause: TimedOut})
		}
	}
}

// calm ends a second of a host in intercept, and lets it leave if enough of them
// were calm.
func (t *Tracker) calm(h *host) {
	f := h.flood
	half := f.halfOpen() + int64(h.half-h.proven)
	if !h.calmWith(half, t.cfg.Client.Embryonic) {
		f.calm = t.now
	}
	f.at = (f.at + 1) % seconds
	f.pending[f.at] = 0
	if t.now-f.calm >= holdDown {
		t.leave(h, half)
	}
}

// leave takes a host with so many half-open connections out of intercept.
func (t *Tracker) leave(h *host, half int64) {
	f := h.flood
	t.emit(Event{
		Kind: InterceptLeft, SYN: SYN{Conn: Conn{Server: netip.AddrPortFrom(h.local, 0)}}, Global: h.globals[0],
		Count: uint32(half), Limit: h.embryonicLimit(t.cfg.Client.Embryonic), Duration: t.now - f.since, Cookies: f.cookies,
	})
	h.flood = nil
	delete(t.flooded, h.local)
	t.changed = true
	t.pruneHost(h)
}

// calmWith reports whether a host with so many half-open connections would not be
// put into intercept.
func (h *host) calmWith(half int64, ofClient uint32) bool {
	limit := h.embryonicLimit(ofClient)
	proven := int64(h.open + h.proven)
	most := int64(h.limits.Max)
	return limit == 0 || half < int64(limit) && (most == 0 || proven >= most || proven+half < most)
}

// embryonicLimit is what the half-open connections of a host in intercept are
// compared with: its own limit, or that of a client where only that holds.
func (h *host) embryonicLimit(ofClient uint32) uint32 {
	if h.limits.Embryonic > 0 {
		return h.limits.Embryonic
	}
	return ofClient
}
