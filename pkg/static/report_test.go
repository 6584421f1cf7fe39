package static

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// Two hosts of a network and one alone in intercept, in both families.
func TestSets(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Mappings: []Mapping{
		mapping("203.0.113.0/24", "192.168.2.0/24", Limits{0, 1}),
		mapping("9.9.9.9", "192.168.2.77", Limits{1, 1}), // inside the network
		mapping("8.8.8.8", "192.168.2.77", Limits{}),     // by a second address
		mapping("2001:db8::25", "fd00::25", Limits{1, 1}),
		mapping("192.168.3.3", "192.168.3.3", Limits{0, 1}), // without NAT
	}})
	for _, host := range []string{"fd00::25", "192.168.3.3", "192.168.2.200", "192.168.2.77", "192.168.2.3"} {
		r.half(to(host, 1))
	}
	r.openProven(to("fd00::25", 2))
	r.openProven(to("192.168.2.77", 2))
	s := r.Sets()
	check(t, "limited", fmt.Sprint(s.Limited), "[192.168.2.0/24 192.168.3.3/32 fd00::25/128]")
	check(t, "intercept", fmt.Sprint(s.Intercept),
		"[8.8.8.8 9.9.9.9 192.168.2.3 192.168.2.77 192.168.2.200 192.168.3.3 203.0.113.3 203.0.113.77 203.0.113.200 2001:db8::25 fd00::25]")
	check(t, "full", fmt.Sprint(s.Full), "[8.8.8.8 9.9.9.9 192.168.2.77 203.0.113.77 2001:db8::25 fd00::25]")
}

// A host that is reached by its own mapping and by its network's: a flood by
// either address is the kernel's.
func TestSetsOfHostInMappedNetwork(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Mappings: []Mapping{
		mapping("203.0.113.0/24", "192.168.1.0/24", Limits{0, 9}),
		mapping(global, local, Limits{0, 1}),
	}})
	r.half(conn(1))
	check(t, "intercept", fmt.Sprint(r.Sets().Intercept), "[1.1.1.1 192.168.1.1 203.0.113.1]")
}

// The address of a host that has a mapping of its own does not lead to the host
// of a network that would have it otherwise.
func TestSetsOfShadowedAddress(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Mappings: []Mapping{
		mapping("1.1.1.0/24", "10.0.0.0/24", Limits{0, 1}),
		mapping(global, local, Limits{0, 100}),
	}})
	r.half(to("10.0.0.1", 1))
	check(t, "intercept", fmt.Sprint(r.Sets().Intercept), "[10.0.0.1]")
	r.Resume(r.now, netip.MustParseAddr(global))
	check(t, "intercept, resumed", fmt.Sprint(r.Sets().Intercept), "[1.1.1.1 10.0.0.1 192.168.1.1]")

	r = newRig(t, r.cfg)
	r.Resume(r.now, netip.MustParseAddr(global))
	check(t, "only its own", fmt.Sprint(r.Sets().Intercept), "[1.1.1.1 192.168.1.1]")
}

// Who refuses the next connection, whose client answers a cookie where the host is
// in intercept.
func TestReportFull(t *testing.T) {
	for _, tt := range []struct {
		name string
		counts
		most            uint32
		intercept, want bool
	}{
		{"one below", counts{49, 0, 0}, 50, false, false},
		{"all open", counts{50, 0, 0}, 50, false, true},
		{"half-open ones count", counts{0, 50, 0}, 50, false, true},
		{"in intercept they do not", counts{0, 50, 0}, 50, true, false},
		{"but those that have answered a cookie do", counts{49, 3, 1}, 50, true, true},
		{"in intercept, all open", counts{50, 10, 0}, 50, true, true},
		{"unlimited", counts{1000, 0, 0}, 0, false, false},
	} {
		h := host{local: netip.MustParseAddr(local), counts: tt.counts, limits: Limits{Max: tt.most}}
		if tt.intercept {
			h.flood = &flood{}
		}
		check(t, tt.name, mapping(global, local, h.limits).report(&h).Full, tt.want)
	}
}

func TestReport(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Host: Limits{Max: 40}, Mappings: []Mapping{
		mapping("203.0.113.0/24", "192.168.2.0/24", Limits{0, 3}),
		mapping(global, local, Limits{50, 2}),
		mapping("2.2.2.2", local, Limits{30, 100}),
		mapping("198.18.0.0/24", "192.168.9.0/24", Limits{7, 0}),
		mapping("198.18.1.0/24", "192.168.9.0/24", Limits{8, 5}),
		mapping("1.1.1.3", "192.168.1.3", Limits{1, 0}),
	}})
	line := func(h HostReport) string {
		return fmt.Sprintf("%s %s %v: %d %d %d %d %d %v", h.Global, h.Local, h.Limits,
			h.Connections, h.HalfOpen, h.Peak, h.Denied, h.Intercepted, h.Intercept)
	}
	want := func(lines ...string) {
		t.Helper()
		var got []string
		for _, h := range r.Report().Hosts {
			got = append(got, line(h))
		}
		if !slices.Equal(got, lines) {
			t.Errorf("report:\n%q, want\n%q", got, lines)
		}
	}
	// Nobody was heard of: the limits are those in force, of the host whatever
	// its address.
	want("203.0.113.0/24 192.168.2.0/24 tcp 40 3: 0 0 0 0 0 false",
		"1.1.1.1/32 192.168.1.1/32 tcp 30 2: 0 0 0 0 0 false",
		"2.2.2.2/32 192.168.1.1/32 tcp 30 2: 0 0 0 0 0 false",
		"198.18.0.0/24 192.168.9.0/24 tcp 7 5: 0 0 0 0 0 false",
		"198.18.1.0/24 192.168.9.0/24 tcp 7 5: 0 0 0 0 0 false",
		"1.1.1.3/32 192.168.1.3/32 tcp 1 0: 0 0 0 0 0 false")

	r.open(to("192.168.2.9", 1))
	r.half(to("192.168.2.9", 2))
	r.open(to("192.168.2.4", 3))
	r.becomes(to("192.168.2.4", 3), TimeWait)
	for n := range 3 {
		r.open(conn(n))
	}
	r.becomes(conn(2), Close)
	r.spoof(10, 11)
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr("2.2.2.2"): 100})
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr("2.2.2.2"): 140})
	r.open(to("192.168.1.3", 1))
	r.syn(to("192.168.1.3", 2))
	r.syn(to("192.168.1.3", 3))
	want("203.0.113.4/32 192.168.2.4/32 tcp 40 3: 0 0 1 0 0 false",
		"203.0.113.9/32 192.168.2.9/32 tcp 40 3: 2 1 2 0 0 false",
		"1.1.1.1/32 192.168.1.1/32 tcp 30 2: 4 2 4 0 40 true",
		"2.2.2.2/32 192.168.1.1/32 tcp 30 2: 4 2 4 0 40 true",
		"198.18.0.0/24 192.168.9.0/24 tcp 7 5: 0 0 0 0 0 false",
		"198.18.1.0/24 192.168.9.0/24 tcp 7 5: 0 0 0 0 0 false",
		"1.1.1.3/32 192.168.1.3/32 tcp 1 0: 1 0 1 2 0 false")
}

// Refusals are told once a second for a host and once in ten for a client, with
// the number of those that were not told.
func TestSilence(t *testing.T) {
	const second = time.Second
	for _, tt := range []struct {
		name         string
		host, client Limits
		at           []time.Duration // of refused SYNs
		told         []time.Duration
		suppressed   []uint64
	}{
		{"host", Limits{Max: 1}, Limits{},
			[]time.Duration{0, 1, second / 2, second - 1, second, second + 1, 5 * second, 6*second - 1},
			[]time.Duration{0, second, 5 * second}, []uint64{0, 3, 1}},
		{"host, half-open", Limits{Embryonic: 1}, Limits{},
			[]time.Duration{0, second / 2, second},
			[]time.Duration{0, second}, []uint64{0, 1}},
		{"client", Limits{}, Limits{Max: 1},
			[]time.Duration{0, second, 9 * second, 10*second - 1, 10 * second, 11 * second, 25 * second},
			[]time.Duration{0, 10 * second, 25 * second}, []uint64{0, 3, 1}},
		{"client, half-open", Limits{}, Limits{Embryonic: 1},
			[]time.Duration{0, 5 * second, 10 * second},
			[]time.Duration{0, 10 * second}, []uint64{0, 1}},
	} {
		cfg := one(tt.host, false)
		cfg.Client = tt.client
		r := newRig(t, cfg)
		r.half(of("198.51.100.9", 1, local))
		for _, at := range tt.at {
			r.now = boot + at
			check(t, tt.name+": passes", r.syn(of("198.51.100.9", 2, local)), false)
		}
		var told []time.Duration
		var suppressed []uint64
		for _, ev := range r.TakeEvents() {
			told, suppressed = append(told, ev.Time-boot), append(suppressed, ev.Suppressed)
			check(t, tt.name+": SYN", ev.SYN, SYN{Conn: of("198.51.100.9", 2, local), Interface: 3})
		}
		if !slices.Equal(told, tt.told) || !slices.Equal(suppressed, tt.suppressed) {
			t.Errorf("%s: told at %v, suppressed %v, want %v and %v", tt.name, told, suppressed, tt.told, tt.suppressed)
		}
		check(t, tt.name+": refused", r.Counters().Refused, uint64(len(tt.at)))
	}
}

// Each host and each client has a silence of its own.
func TestSilenceIsNotShared(t *testing.T) {
	r := newRig(t, Config{Client: Limits{Max: 2}, Mappings: []Mapping{
		mapping(global, local, Limits{Max: 1}), mapping("1.1.1.2", other, Limits{Max: 2})}})
	r.open(conn(1))
	r.open(to(other, 1))
	r.open(to(other, 2))
	for range 3 {
		r.syn(conn(5))                            // the host is full
		r.syn(to(other, 6))                       // and the other
		r.syn(of("198.51.0.1", 7, "192.168.1.2")) // a full client of a full host: the host is told of
	}
	check(t, "events", r.kinds(), "connection-limit connection-limit ")
}

// Nor do the two kinds of refusal share one.
func TestSilenceByKind(t *testing.T) {
	r := newRig(t, one(Limits{2, 1}, false))
	r.half(conn(1))
	r.syn(conn(3))
	r.becomes(conn(1), Established)
	r.open(conn(2))
	r.syn(conn(3))
	r.syn(conn(3))
	check(t, "events", r.kinds(), "embryonic-limit connection-limit ")
}

// Nobody takes the events: so many wait, the others are counted.
func TestEventsAreBounded(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	r.open(conn(1))
	for range maxEvents + 10 {
		r.now += time.Second
		r.syn(conn(2))
	}
	check(t, "events", len(r.TakeEvents()), maxEvents)
	check(t, "lost", r.Counters().EventsLost, 10)
	check(t, "taken", len(r.TakeEvents()), 0)
	r.now += time.Second
	r.syn(conn(2))
	check(t, "then", len(r.TakeEvents()), 1)
}

func TestEventKindNames(t *testing.T) {
	for kind, want := range map[EventKind]string{
		Refused: "connection-limit", EmbryonicRefused: "embryonic-limit",
		InterceptEntered: "intercept-entered", InterceptLeft: "intercept-left",
	} {
		check(t, "name", kind.String(), want)
	}
}
