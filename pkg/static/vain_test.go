package static

import (
	"net/netip"
	"testing"
	"time"
)

// A flood of SYNs that open nothing is for the kernel: those repeated, and those
// refused because the host is full. Fewer in a second are the daemon's.
func TestSYNsInVain(t *testing.T) {
	tests := []struct {
		name      string
		limits    Limits
		synproxy  bool
		full      bool // as many connections are open as may be
		most      int  // SYNs in vain of a second that are the daemon's
		intercept bool // one more is not
	}{
		{"repeated", Limits{5, 2}, true, false, 99, true},
		{"repeated, of a host that may have more half-open ones", Limits{500, 200}, true, false, 199, true},
		{"repeated, nobody to send cookies", Limits{5, 2}, false, false, 99, false},
		{"repeated, no embryonic limit", Limits{5, 0}, true, false, 99, false},
		{"refused", Limits{1, 2}, true, true, 99, true},
		{"refused, no embryonic limit", Limits{1, 0}, true, true, 99, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, one(tt.limits, tt.synproxy))
			again := conn(1)
			if r.half(again); tt.full {
				r.becomes(again, Established)
				again = conn(2)
			}
			for range 3 {
				for range tt.most {
					check(t, "passes", r.syn(again), !tt.full)
				}
				check(t, "in intercept", r.intercepted(), false)
				r.pass(time.Second)
			}
			r.TakeEvents()
			for range tt.most + 1 {
				r.syn(again)
			}
			check(t, "in intercept after one more", r.intercepted(), tt.intercept)
			for _, ev := range r.TakeEvents() {
				if ev.Kind == InterceptEntered && (ev.Count < ev.Limit || ev.Limit != tt.limits.Embryonic || ev.Dropped != tt.full) {
					t.Errorf("the record says %d of %d, dropped %v", ev.Count, ev.Limit, ev.Dropped)
				}
			}
			check(t, "in full", len(r.Sets().Full) > 0, tt.intercept && tt.full)
		})
	}
}

// A full host stays in intercept as long as the kernel has a flood to refuse.
func TestFullFloodStays(t *testing.T) {
	r := newRig(t, one(Limits{1, 2}, true))
	r.open(conn(1))
	for range 101 {
		r.syn(conn(2))
	}
	var refused uint64
	for range 60 {
		r.pass(time.Second)
		refused += 100
		r.Full(map[netip.Addr]uint64{netip.MustParseAddr(global): refused})
	}
	check(t, "in intercept during the flood", r.intercepted(), true)
	for range 11 {
		r.pass(time.Second)
		refused += 99 // clients that come again
		r.Full(map[netip.Addr]uint64{netip.MustParseAddr(global): refused})
	}
	check(t, "in intercept after it", r.intercepted(), false)
}

// While as many connections are counted as can be, refusals of all hosts are told
// once a second, of hosts that nobody has heard of too.
func TestRefusalsAtMaxConns(t *testing.T) {
	r := newRig(t, Config{Mappings: []Mapping{mapping("1.2.0.0/16", "10.1.0.0/16", Limits{Max: 1})}})
	for i := range MaxConns {
		r.Update(r.now, Entry{Conn: nth(i, netip.AddrFrom4([4]byte{10, 1, byte(i >> 6 & 127), byte(i)})), ID: uint32(i), State: Established})
	}
	if n := r.Counters().Connections; n != MaxConns {
		t.Fatalf("%d connections", n)
	}
	told := 0
	for i := range 3000 {
		if r.syn(to(netip.AddrFrom4([4]byte{10, 1, byte(128 + i>>8), byte(i)}).String(), 1)) {
			t.Fatal("passes")
		}
		if i%1000 == 999 {
			r.pass(time.Second)
		}
		told += len(r.TakeEvents())
	}
	check(t, "refusals told", told, 3)
}

// Invented SYNs in a client's name do not shut it out of a host that has an
// embryonic limit, though the client's own limit is of all connections only.
func TestSpoofedClient(t *testing.T) {
	cfg := one(Limits{50, 100}, true)
	cfg.Client = Limits{Max: 3}
	r := newRig(t, cfg)
	const client = "203.0.113.7"
	for port := range uint16(3) {
		r.half(of(client, 1000+port, local))
	}
	check(t, "the fourth SYN passes", r.syn(of(client, 2000, local)), false)
	check(t, "in intercept", r.intercepted(), true)
	evs := r.TakeEvents()
	if len(evs) != 1 || evs[0].Kind != InterceptEntered || evs[0].PerClient || evs[0].Count != 3 || evs[0].Limit != 100 {
		t.Errorf("events %+v, want one of entering, 3 of 100", evs)
	}
	for port := range uint16(3) {
		check(t, "one of three that answered a cookie passes", r.proven(of(client, 3000+port, local)), true)
	}
	check(t, "a fourth one passes", r.proven(of(client, 4000, local)), false)
	check(t, "events", r.kinds(), "connection-limit ")
}
