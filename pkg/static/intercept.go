package static

import (
	"net/netip"
	"slices"
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
	aggressive = confirmWithin
)

// seconds is halfOpenFor.
const seconds = int(halfOpenFor / time.Second)

// flood is what is known of a host in intercept.
type flood struct {
	pending [seconds]int64        // SYNs answered less handshakes completed, by second
	at      int                   // the second in hand
	since   time.Duration         // when it began
	calm    time.Duration         // since when fewer than the limit are half-open
	reading map[netip.Addr]uint64 // of the cookie counter of each address, at the last call of Cookies
}

// newFlood is the flood of a host that enters intercept.
func newFlood(now time.Duration) *flood {
	return &flood{since: now, calm: now, reading: map[netip.Addr]uint64{}}
}

// halfOpen estimates how many handshakes are not complete.
func (f *flood) halfOpen() int64 {
	var sum int64
	for _, n := range f.pending {
		sum += n
	}
	return max(0, sum)
}

// enter puts a host into intercept.
func (t *Tracker) enter(h *host, ev Event) {
	if h.flood != nil {
		return
	}
	if !t.cfg.Synproxy {
		return
	}
	h.flood = newFlood(t.now)
	t.flooded[h.local] = h
	t.changed = true
	ev.Global = h.globals[0]
	t.emit(ev)
	for key, conn := range t.conns {
		if netip.AddrFrom16(key.server).Unmap() == h.local {
			t.cut(key, conn)
		}
	}
}

// cut has conntrack remove a half-open connection that holds a place too long. It
// counts until conntrack tells of it.
func (t *Tracker) cut(key connKey, conn tracked) {
	if conn.phase == halfOpen && !conn.proven && t.now-conn.since >= aggressive {
		t.kills = append(t.kills, key.conn())
	}
}

// Resume puts a host into intercept that was when the daemon ended.
func (t *Tracker) Resume(now time.Duration, global netip.Addr) {
	t.now = now
	for _, m := range t.cfg.Mappings {
		if !m.Global.Contains(global) {
			continue
		}
		local := Mapping{Global: m.Local, Local: m.Global}.global(global)
		if h := t.host(local); h != nil && h.flood == nil && t.cfg.Synproxy {
			h.flood = newFlood(now)
			t.flooded[local] = h
			t.changed = true
		}
	}
}

// Cookies takes the kernel's count of SYNs to a global address that it answered
// with a cookie. The count only grows, or begins anew.
func (t *Tracker) Cookies(global netip.Addr, count uint64) {
	for _, h := range t.flooded {
		if slices.Contains(h.globals, global) || h.local == global {
			h.answered(global, count)
		}
	}
}

// answered takes a reading of a cookie counter of the host.
func (h *host) answered(by netip.Addr, count uint64) {
	f := h.flood
	if before, ok := f.reading[by]; ok && count >= before {
		h.cookies += count - before
		f.pending[f.at] += int64(count - before)
	}
	f.reading[by] = count
}

// Tick tells the Tracker the time: about every tenth of a second, and at least
// once a second.
func (t *Tracker) Tick(now time.Duration) {
	t.now = now
	t.confirm()
	if t.second == 0 || now-t.second > halfOpenFor {
		t.second = now
	}
	for ; now-t.second >= time.Second; t.second += time.Second {
		for _, h := range t.flooded {
			t.calm(h)
		}
	}
}

// confirm looks after the connections that have just got as old as conntrack may
// take to tell of them.
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
		case t.flooded[netip.AddrFrom16(first.key.server).Unmap()] != nil:
			t.cut(first.key, conn)
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
	if t.now-f.calm < holdDown {
		return
	}
	t.emit(Event{
		Kind: InterceptLeft, SYN: SYN{Conn: Conn{Server: netip.AddrPortFrom(h.local, 0)}}, Global: h.globals[0],
		Count: uint32(half), Limit: h.limits.Embryonic, Duration: t.now - f.since, Cookies: h.cookies,
	})
	h.flood = nil
	delete(t.flooded, h.local)
	t.changed = true
}

// calmWith reports whether a host with so many half-open connections would not be
// put into intercept.
func (h *host) calmWith(half int64, ofClient uint32) bool {
	limit := h.limits.Embryonic
	if limit == 0 {
		limit = ofClient
	}
	proven := int64(h.open + h.proven)
	most := int64(h.limits.Max)
	return limit == 0 || half < int64(limit) && (most == 0 || proven >= most || proven+half < most)
}
