package static

import (
	"fmt"
	"testing"
	"time"
)

// Half-open connections that are older than a handshake takes are removed while
// the host is in intercept: those there are, and those that get as old.
func TestOldHalfOpenAreCut(t *testing.T) {
	r := newRig(t, one(Limits{0, 5}, true))
	r.half(conn(1))
	r.open(conn(2))
	r.pass(3 * time.Second)
	r.half(conn(3))
	r.begins(conn(4)) // its SYN was not seen
	r.pass(2 * time.Second)
	check(t, "before", len(r.TakeKills()), 0)
	r.half(conn(5))
	r.half(conn(6)) // the fifth
	check(t, "in intercept", r.Flooded(), true)
	check(t, "proven", r.proven(conn(7)), true)
	r.begins(conn(7))
	r.half(to(other, 8)) // no limits: not counted

	cut := map[Conn]time.Duration{}
	for range 12 {
		r.pass(time.Second)
		for _, c := range r.TakeKills() {
			if cut[c.Conn] == 0 && c.Cause == Intercepted {
				cut[c.Conn] = r.now - boot
			}
		}
		check(t, "taken", len(r.TakeKills()), 0)
	}
	for _, tt := range []struct {
		n           int
		first, last time.Duration // seconds from boot; 0 if never
	}{
		{1, 5, 7}, // at entry: five seconds old
		{2, 0, 0}, // open
		{3, 8, 9},
		{5, 10, 11},
		{6, 10, 11},
		{7, 0, 0}, // proven
		{8, 0, 0},
	} {
		at := cut[conn(tt.n)]
		check(t, fmt.Sprintf("connection %d, cut after %v: in time", tt.n, at), at >= tt.first*time.Second && at <= tt.last*time.Second, true)
	}
	r.want(local, 1, 6) // until conntrack tells of it
	r.ends(conn(1))
	r.want(local, 1, 5)
}

// Half-open connections lose their entries after 30 seconds, also those whose SYN
// was not seen, and without a flood; those that have opened or ended meanwhile do
// not.
func TestHalfOpenTimeOut(t *testing.T) {
	r := newRig(t, one(Limits{9, 0}, true))
	for n := range 4 {
		r.half(conn(n))
	}
	r.begins(conn(4)) // its SYN was not seen
	r.open(conn(5))
	r.pass(20 * time.Second)
	check(t, "a repeated SYN passes", r.syn(conn(1)), true)
	r.becomes(conn(2), Established)
	r.ends(conn(3))
	r.half(conn(3)) // again
	r.pass(9900 * time.Millisecond)
	check(t, "before", r.taken(), "")
	r.pass(100 * time.Millisecond)
	check(t, "after 30 s", r.taken(), "40000t 40000t 40000t") // 0, 1 and 4
	for _, n := range []int{0, 1, 4} {
		r.ends(conn(n))
	}
	r.want(local, 2, 1)
	r.pass(20 * time.Second)
	check(t, "after 50 s", r.taken(), "40000t")
	check(t, "connections remembered", len(r.young)+len(r.silent), 0)
}
