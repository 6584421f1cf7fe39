package static

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// SYNs of invented addresses: they come as far as the server's answer.
func (r *rig) spoof(first, last int) {
	r.t.Helper()
	for n := first; n <= last; n++ {
		r.half(conn(n))
	}
}

func TestEnteredAtTheEmbryonicLimit(t *testing.T) {
	r := newRig(t, one(Limits{50, 10}, true))
	r.open(conn(100))
	r.spoof(1, 9)
	check(t, "one below", r.kinds(), "")
	check(t, "in intercept", r.Flooded(), false)
	check(t, "the sets are as they were", r.intercepted(), false)
	r.pass(time.Second)
	r.half(conn(10)) // still admitted; the next one is the kernel's
	evs := r.TakeEvents()
	if len(evs) != 1 {
		t.Fatalf("events %+v, want one", evs)
	}
	ev := evs[0]
	check(t, "kind", ev.Kind, InterceptEntered)
	check(t, "half-open", ev.Count, 10)
	check(t, "limit", ev.Limit, 10)
	check(t, "SYN", ev.SYN, SYN{Conn: conn(10), Interface: 3})
	check(t, "global", ev.Global.String(), global)
	check(t, "per client", ev.PerClient, false)
	check(t, "dropped", ev.Dropped, false)
	check(t, "time", ev.Time, boot+time.Second)
	check(t, "the sets have changed", r.Changed(), true)
	check(t, "intercept", fmt.Sprint(r.Sets().Intercept), "[1.1.1.1 192.168.1.1]")
	check(t, "once they were read", r.Changed(), false)
	check(t, "in intercept", r.Report().Hosts[0].Intercept, true)

	check(t, "a SYN that came before the set was written", r.syn(conn(11)), false)
	check(t, "told again", r.kinds(), "")
	check(t, "delayed", r.Counters().Delayed, 1)
	check(t, "refused", r.Counters().Refused+r.Report().Hosts[0].Denied, 0)
	r.openProven(conn(11))
	r.want(local, 2, 10)
}

// 50 SYNs of invented addresses must not shut out mail where the limits are
// `tcp 50 100`; the 51st connection is refused all the same.
func TestSeedUnderFlood(t *testing.T) {
	r := newRig(t, one(Limits{50, 100}, true))
	r.spoof(1, 50)
	check(t, "50 of 50, none open", r.kinds(), "")
	check(t, "the 51st, of an honest client", r.syn(conn(1000)), false)
	check(t, "events", r.kinds(), "intercept-entered ")
	check(t, "not refused", r.Counters().Refused, 0)
	for n := 1000; n < 1050; n++ {
		r.openProven(conn(n)) // the kernel has seen to its cookie
	}
	r.want(local, 50, 50)
	check(t, "the 51st", r.proven(conn(1050)), false)
	check(t, "the 51st, without a cookie", r.syn(conn(1051)), false)
	evs := r.TakeEvents()
	if len(evs) != 1 || evs[0].Kind != Refused || evs[0].Count != 100 || evs[0].Limit != 50 || evs[0].Embryonic != 100 || !evs[0].Dropped {
		t.Errorf("%+v, want connection-limit with 100 connections, limits 50 and 100", evs)
	}
	check(t, "refused", r.Counters().Refused, 2)
}

// Established and half-open ones together reach the limit.
func TestEnteredWhereTheTotalIsReached(t *testing.T) {
	r := newRig(t, one(Limits{5, 100}, true))
	r.open(conn(1))
	r.open(conn(2))
	r.spoof(11, 13)
	check(t, "one more", r.syn(conn(3)), false)
	if evs := r.TakeEvents(); len(evs) != 1 || evs[0].Kind != InterceptEntered || evs[0].Count != 3 || evs[0].Limit != 100 || !evs[0].Dropped {
		t.Errorf("%+v, want intercept-entered at 3 half-open of 100", evs)
	}
	check(t, "the other half of a cookie", r.proven(conn(3)), true)
}

// Not yet open, but proven: they count against the total limit, and no flood is
// seen in them.
func TestProvenAreNoFlood(t *testing.T) {
	r := newRig(t, one(Limits{6, 3}, true))
	r.spoof(1, 3)
	check(t, "events", r.kinds(), "intercept-entered ")
	for n := 10; n < 16; n++ {
		check(t, "proven", r.proven(conn(n)), true)
		check(t, "and repeated", r.proven(conn(n)), true)
		r.begins(conn(n))
	}
	r.want(local, 0, 9)
	check(t, "the seventh", r.proven(conn(16)), false)
	check(t, "full", fmt.Sprint(r.Sets().Full), "[1.1.1.1 192.168.1.1]")
	for n := range 4 {
		r.becomes(conn(n), Close)
	}
	r.pass(time.Minute)
	check(t, "left although six are half-open", r.Flooded(), false)
}

// Without synproxy in the kernel SYNs over the limit are dropped.
func TestWithoutSynproxy(t *testing.T) {
	r := newRig(t, one(Limits{50, 2}, false))
	r.spoof(1, 2)
	check(t, "at the limit", r.kinds(), "")
	check(t, "passes", r.syn(conn(3)), false)
	check(t, "events", r.kinds(), "embryonic-limit ")
	check(t, "denied", r.Report().Hosts[0].Denied, 1)
	check(t, "in intercept", r.Flooded(), false)
	r.Resume(r.now, netip.MustParseAddr(global))
	check(t, "resumed", r.Flooded(), false)
	r.becomes(conn(1), Established)
	check(t, "passes", r.syn(conn(3)), true)
}

// In full4 while as many are open as may be, of a host in intercept only.
func TestFullSet(t *testing.T) {
	r := newRig(t, one(Limits{2, 3}, true))
	full := func() string { return fmt.Sprint(r.Sets().Full) }
	r.open(conn(1))
	r.open(conn(2))
	check(t, "without a flood", full(), "[]")
	r.becomes(conn(2), TimeWait)
	r.half(conn(11))
	check(t, "at the limit", r.syn(conn(12)), false)
	check(t, "one place", full(), "[]")
	r.proven(conn(2))
	check(t, "asked for", r.Changed(), true)
	check(t, "no place", full(), "[1.1.1.1 192.168.1.1]")
	r.begins(conn(2))
	r.becomes(conn(2), Established)
	check(t, "nothing new", r.Changed(), false)
	r.becomes(conn(2), TimeWait)
	check(t, "asked for", r.Changed(), true)
	check(t, "one place", full(), "[]")
	r.becomes(conn(1), Close)
	check(t, "nothing new", r.Changed(), false)
}

// The limit changes while the host is full.
func TestFullSetAfterNewLimits(t *testing.T) {
	r := newRig(t, one(Limits{3, 1}, true))
	r.half(conn(11))
	r.openProven(conn(1))
	r.openProven(conn(2))
	check(t, "two of three", len(r.Sets().Full), 0)
	r.Configure(r.now, one(Limits{2, 1}, true))
	check(t, "two of two", len(r.Sets().Full), 2)
	r.becomes(conn(1), TimeWait)
	check(t, "asked for", r.Changed(), true)
	check(t, "one of two", len(r.Sets().Full), 0)
}

// flood has the kernel answer n SYNs a second for a while.
func (r *rig) flood(d time.Duration, n uint64, counter *uint64) {
	for range int(d / time.Second) {
		*counter += n
		r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): *counter})
		r.pass(time.Second)
	}
}

// The host stays in intercept while the kernel sends cookies that nobody answers,
// and leaves ten seconds after fewer than the limit are on their way.
func TestCookiesKeepItIn(t *testing.T) {
	r := newRig(t, one(Limits{50, 10}, true))
	r.spoof(1, 10)
	for n := 1; n <= 10; n++ {
		r.becomes(conn(n), Close)
	}
	var cookies uint64
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): 0})
	r.flood(60*time.Second, 1000, &cookies)
	check(t, "in intercept while it lasts", r.Flooded(), true)
	check(t, "answered", r.Report().Hosts[0].Intercepted, 60000)
	r.flood(28*time.Second, 0, &cookies)
	check(t, "its last SYNs are still half-open", r.Flooded(), true)
	r.flood(10*time.Second, 0, &cookies)
	check(t, "not yet calm for ten seconds", r.Flooded(), true)
	r.TakeEvents()
	r.flood(3*time.Second, 0, &cookies)
	check(t, "left", r.Flooded(), false)
	check(t, "the sets", r.Changed() && len(r.Sets().Intercept) == 0, true)
	evs := r.TakeEvents()
	if len(evs) != 1 || evs[0].Kind != InterceptLeft {
		t.Fatalf("%+v, want intercept-left", evs)
	}
	check(t, "whose", evs[0].Server.Addr().String()+" "+evs[0].Global.String(), local+" "+global)
	check(t, "how many cookies", evs[0].Cookies, 60000)
	if d := evs[0].Duration; d < 98*time.Second || d > 101*time.Second {
		t.Errorf("it lasted %v, want 60 s, 30 s and 10 s", d)
	}
	check(t, "the next one", r.syn(conn(1)), true)
}

// Without any cookie: ten seconds, whatever the second began with.
func TestLeavesAfterTenCalmSeconds(t *testing.T) {
	for _, offset := range []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond} {
		r := newRig(t, one(Limits{50, 2}, true))
		r.pass(offset)
		r.spoof(1, 2)
		r.pass(20 * time.Second)
		check(t, "two half-open keep it in", r.Flooded(), true)
		r.becomes(conn(1), Established)
		r.pass(holdDown - time.Second)
		check(t, "nine calm seconds", r.Flooded(), true)
		r.pass(2 * time.Second)
		check(t, "eleven", r.Flooded(), false)
	}
}

// A single second over the limit, and the ten begin anew.
func TestCalmBeginsAnew(t *testing.T) {
	r := newRig(t, one(Limits{50, 2}, true))
	r.spoof(1, 2)
	r.becomes(conn(1), Close)
	r.pass(8 * time.Second)
	r.half(conn(3))
	r.pass(2 * time.Second)
	r.becomes(conn(3), Close)
	r.pass(8 * time.Second)
	check(t, "in intercept", r.Flooded(), true)
	r.pass(4 * time.Second)
	check(t, "in intercept", r.Flooded(), false)
}

// As many as the total limit: it would be entered again at once.
func TestTotalKeepsItIn(t *testing.T) {
	r := newRig(t, one(Limits{5, 100}, true))
	r.open(conn(1))
	r.spoof(11, 14)
	r.syn(conn(2))
	r.pass(25 * time.Second)
	check(t, "one open, four half-open, of five", r.Flooded(), true)
	r.ends(conn(11))
	r.pass(12 * time.Second)
	check(t, "one less", r.Flooded(), false)

	r = newRig(t, one(Limits{5, 100}, true))
	r.spoof(11, 15)
	r.syn(conn(1))
	for n := range 5 {
		r.openProven(conn(n))
	}
	r.pass(12 * time.Second)
	check(t, "five open: nobody is intercepted, all are refused", r.Flooded(), false)
}

// Clients that answer their cookie are no flood, as many as they may be.
func TestAnsweredCookies(t *testing.T) {
	r := newRig(t, one(Limits{0, 10}, true))
	r.spoof(1, 10)
	for n := 1; n <= 10; n++ {
		r.becomes(conn(n), Close)
	}
	counter := uint64(0)
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): counter})
	for i := range 20 {
		counter += 40
		r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): counter})
		for n := range 40 {
			r.openProven(of("198.51.100.9", uint16(i*40+n), local))
		}
		r.pass(time.Second)
	}
	check(t, "in intercept", r.Flooded(), false)
	check(t, "answered", r.Report().Hosts[0].Intercepted, 40*10)
	r.want(local, 800, 0)
}

// The counters of the two addresses of a host; one is made anew.
func TestCookieCounters(t *testing.T) {
	r := newRig(t, one(Limits{0, 1}, true))
	g, l := netip.MustParseAddr(global), netip.MustParseAddr(local)
	read := func(addr netip.Addr, n, want uint64) {
		t.Helper()
		r.Cookies(map[netip.Addr]uint64{addr: n})
		check(t, "answered", r.Report().Hosts[0].Intercepted, want)
	}
	read(g, 500, 0) // nobody is in intercept
	r.spoof(1, 1)
	read(g, 700, 0) // of an earlier flood, as far as one knows
	read(g, 710, 10)
	read(g, 710, 10)
	read(l, 1000, 1010) // it had none before
	read(l, 1001, 1011)
	read(netip.MustParseAddr("9.9.9.9"), 5, 1011)
	read(netip.MustParseAddr("9.9.9.9"), 9, 1011)
	read(g, 4, 1015) // the ruleset was loaded anew
	read(g, 6, 1017)
}

// Of each flood its own cookies are told; the report has them all.
func TestCookiesOfTheSecondFlood(t *testing.T) {
	r := newRig(t, one(Limits{0, 1}, true))
	counter := uint64(0)
	for i, n := range []uint64{100, 7} {
		r.spoof(1, 1)
		r.becomes(conn(1), Close)
		r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): counter})
		counter += n
		r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): counter})
		r.pass(50 * time.Second)
		evs := r.TakeEvents()
		if len(evs) != 2 || evs[1].Kind != InterceptLeft || evs[1].Cookies != n {
			t.Errorf("flood %d: %+v, want intercept-left with %d cookies", i, evs, n)
		}
	}
	check(t, "answered in both", r.Report().Hosts[0].Intercepted, 107)
}

// The kernel's sets say who was in intercept when the daemon ended.
func TestResume(t *testing.T) {
	cfg := Config{Synproxy: true, Mappings: []Mapping{
		mapping(global, local, Limits{50, 100}),
		mapping("203.0.113.32/27", "192.168.2.128/27", Limits{0, 10}),
		mapping("10.0.0.1", "10.0.0.1", Limits{0, 10}),
		mapping("1.1.1.9", "192.168.1.9", Limits{}),
		mapping("2001:db8:0:8::/61", "fd00:0:0:10::/61", Limits{0, 10}),
	}}
	for _, tt := range []struct{ addr, want string }{
		{global, "[1.1.1.1 192.168.1.1]"},
		{"203.0.113.34", "[192.168.2.130 203.0.113.34]"},
		{"10.0.0.1", "[10.0.0.1]"},
		{"2001:db8:0:f::5", "[2001:db8:0:f::5 fd00:0:0:17::5]"},
		{"1.1.1.9", "[]"}, // it has no limits any more
		{"9.9.9.9", "[]"}, // nor is it mapped
		{local, "[]"},     // its global address stands beside it
	} {
		r := newRig(t, cfg)
		r.Resume(r.now, netip.MustParseAddr(tt.addr))
		check(t, "after "+tt.addr, fmt.Sprint(r.Sets().Intercept), tt.want)
		r.Resume(r.now, netip.MustParseAddr(tt.addr))
		check(t, "events", r.kinds(), "")
		r.pass(9 * time.Second)
		check(t, tt.addr+": nine seconds later", len(r.Sets().Intercept) > 0, tt.want != "[]")
		r.pass(2 * time.Second)
		check(t, tt.addr+": eleven", len(r.Sets().Intercept), 0)
		check(t, "events", r.kinds(), strings.Repeat("intercept-left ", min(1, len(tt.want)-2)))
	}
}

// One client with too many half-open connections brings its server into intercept.
func TestEnteredByOneClient(t *testing.T) {
	cfg := one(Limits{}, true)
	cfg.Client = Limits{0, 3}
	r := newRig(t, cfg)
	for port := range uint16(3) {
		r.half(of("198.51.100.9", port, local))
	}
	check(t, "the fourth", r.syn(of("198.51.100.9", 3, local)), false)
	if evs := r.TakeEvents(); len(evs) != 1 || evs[0].Kind != InterceptEntered || !evs[0].PerClient || evs[0].Count != 3 || evs[0].Limit != 3 {
		t.Errorf("%+v, want intercept-entered with 3 of 3, per client", evs)
	}
	check(t, "the fourth, proven", r.proven(of("198.51.100.9", 3, local)), true)
	r.pass(15 * time.Second)
	check(t, "it stays", r.Flooded(), true)
	r.ends(of("198.51.100.9", 1, local))
	r.ends(of("198.51.100.9", 2, local))
	r.pass(12 * time.Second)
	check(t, "it has left", r.Flooded(), false)
}

// A client that the host did not answer was admitted before intercept; its ACK of
// a cookie proves that connection.
func TestProvenLater(t *testing.T) {
	r := newRig(t, one(Limits{3, 1}, true))
	r.syn(conn(1))
	r.begins(conn(1))
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): 0})
	r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): 1})
	check(t, "proven", r.proven(conn(1)), true)
	h := r.hosts[conn(1).Server.Addr()]
	check(t, "counts", h.counts, counts{half: 1, proven: 1})
	check(t, "cookies that nobody answered", h.flood.halfOpen(), 0)
	r.pass(12 * time.Second)
	check(t, "cut", len(r.TakeKills()), 0)
	check(t, "in intercept", r.Flooded(), false)
}

// Limits go while the host is in intercept.
func TestConfiguredWhileInIntercept(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no limits": one(Limits{}, true), "no mapping": {Synproxy: true},
	} {
		r := newRig(t, one(Limits{0, 2}, true))
		r.spoof(1, 2)
		r.TakeEvents()
		r.Configure(r.now, cfg)
		check(t, name+": in intercept", r.Flooded() || r.intercepted(), false)
		check(t, name+": a record on the way out", r.kinds(), "intercept-left ")
		r.pass(time.Minute)
		r.Cookies(map[netip.Addr]uint64{netip.MustParseAddr(global): 5})
		check(t, name+": connections", r.Counters().Connections, 0)
	}
	r := newRig(t, one(Limits{0, 2}, true))
	r.spoof(1, 2)
	r.Configure(r.now, one(Limits{9, 0}, true))
	r.pass(11 * time.Second)
	check(t, "a total limit only: in intercept", r.Flooded(), false)
	r.want(local, 0, 2)
}

// After a flood of every address of a network, its hosts are forgotten.
func TestFloodedHostsAreForgotten(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Mappings: []Mapping{mapping("2001:db8::/64", "fd00::/64", Limits{0, 1})}})
	host := netip.MustParseAddr("fd00::").As16()
	for n := range 2 * keepHosts {
		host[14], host[15] = byte(n>>8), byte(n)
		c := Conn{conn(n).Client, netip.AddrPortFrom(netip.AddrFrom16(host), 25)}
		r.half(c)
		r.becomes(c, Close)
	}
	check(t, "in intercept", len(r.flooded), maxFlooded)
	check(t, "the sets", len(r.Sets().Intercept), 2*maxFlooded)
	late := netip.AddrPortFrom(netip.AddrFrom16(host), 25) // the others are as without synproxy
	r.TakeEvents()
	check(t, "the first", r.syn(Conn{conn(1).Client, late}), true)
	check(t, "the second", r.syn(Conn{conn(2).Client, late}), false)
	check(t, "events", r.kinds(), "embryonic-limit ")
	for n := range keepHosts { // as many with connections
		host[13], host[14], host[15] = 1, byte(n>>8), byte(n)
		r.open(Conn{conn(n).Client, netip.AddrPortFrom(netip.AddrFrom16(host), 25)})
	}
	r.pass(20 * time.Second)
	check(t, "in intercept", r.Flooded(), false)
	check(t, "hosts: those with connections", len(r.hosts), keepHosts)
}

// The clock stands still for an hour, as that of a machine that slept: the flood
// of an hour ago is over.
func TestLongSilenceBetweenTicks(t *testing.T) {
	r := newRig(t, one(Limits{0, 2}, true))
	r.spoof(1, 2)
	r.now += time.Hour
	r.Tick(r.now)
	r.ends(conn(1))
	r.ends(conn(2))
	r.pass(12 * time.Second)
	check(t, "in intercept", r.Flooded(), false)
	check(t, "SYNs remembered", len(r.young), 0)
}
