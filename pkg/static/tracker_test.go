package static

import (
	"net/netip"
	"testing"
	"time"
)

// The document's own limit, on a PIX without intercept: 50 pass, the 51st does not.
func TestConnectionNPlusOne(t *testing.T) {
	for _, opened := range []bool{true, false} {
		r := newRig(t, one(Limits{50, 100}, false))
		for n := range 50 {
			r.half(conn(n))
			if opened {
				r.becomes(conn(n), Established)
			}
		}
		for n := 50; n < 60; n++ {
			check(t, "one more passes", r.syn(conn(n)), false)
		}
		check(t, "connections", r.Counters().Connections, 50)
		check(t, "refused", r.Counters().Refused, 10)
		check(t, "denied", r.Report().Hosts[0].Denied, 10)
		r.becomes(conn(7), Established) // the handshake may be complete only now
		r.becomes(conn(7), TimeWait)
		check(t, "passes when one has ended", r.syn(conn(50)), true)
		check(t, "and one more", r.syn(conn(51)), false)
		check(t, "peak", r.Report().Hosts[0].Peak, 50)
	}
}

func TestNoLimits(t *testing.T) {
	r := newRig(t, one(Limits{}, true))
	check(t, "passes", r.syn(conn(1)), true)
	r.begins(conn(1))
	check(t, "a host without limits: counted", r.Counters().Connections, 0)
	check(t, "a stranger passes", r.syn(to("10.9.9.9", 1)), true)
	check(t, "hosts and clients remembered", len(r.hosts)+len(r.clients), 0)
	check(t, "decided on", r.Counters().SYNs, 2)
}

// Each host of a network has its own count.
func TestNetworkHosts(t *testing.T) {
	r := newRig(t, Config{Mappings: []Mapping{mapping("203.0.113.0/24", "192.168.2.0/24", Limits{Max: 2})}})
	for _, host := range []string{"192.168.2.1", "192.168.2.2", "192.168.2.255"} {
		r.open(to(host, 1))
		r.open(to(host, 2))
		check(t, "the third to "+host, r.syn(to(host, 3)), false)
	}
	check(t, "connections", r.Counters().Connections, 6)
}

func TestRepeatedSYN(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	for range 3 {
		check(t, "a repeated SYN passes", r.syn(conn(1)), true)
		r.want(local, 0, 1)
		r.pass(time.Second)
	}
	check(t, "another client passes", r.syn(conn(2)), false)
	r.begins(conn(1))
	check(t, "repeated when conntrack knows of it", r.syn(conn(1)), true)
	r.want(local, 0, 1)
	check(t, "of the same client, by another port", r.syn(of("198.51.0.1", 40001, local)), false)
	check(t, "to another port of the host", r.syn(Conn{conn(2).Client, netip.MustParseAddrPort(local + ":443")}), false)
}

// A SYN that another chain has dropped after it was admitted.
func TestUnconfirmed(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	check(t, "passes", r.syn(conn(1)), true)
	r.pass(confirmWithin - time.Millisecond)
	r.want(local, 0, 1)
	check(t, "another passes meanwhile", r.syn(conn(2)), false)
	r.pass(time.Millisecond)
	r.want(local, 0, 0)
	check(t, "unconfirmed", r.Counters().Unconfirmed, 1)
	check(t, "another passes then", r.syn(conn(2)), true)

	r.begins(conn(2))
	r.pass(29 * time.Second)
	r.want(local, 0, 1) // conntrack's timeout decides
	check(t, "unconfirmed", r.Counters().Unconfirmed, 1)
	check(t, "SYNs remembered", len(r.young), 0)
}

// An admitted SYN, its end, and another SYN of the same ports: the second has
// five seconds of its own.
func TestUnconfirmedTwice(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	r.half(conn(1))
	r.pass(3 * time.Second)
	r.becomes(conn(1), Close)
	check(t, "passes", r.syn(conn(1)), true)
	r.pass(4 * time.Second)
	r.want(local, 0, 1)
	r.pass(time.Second)
	r.want(local, 0, 0)
}

func TestClientLimits(t *testing.T) {
	mappings := []Mapping{mapping(global, local, Limits{}), mapping("1.1.1.2", other, Limits{})}
	for _, tt := range []struct {
		name     string
		client   Limits
		synproxy bool
		opened   int // connections of the client
		half     int // those on their way
		pass     bool
		kind     string
		count    uint32 // in the record
	}{
		{"below both", Limits{3, 2}, false, 1, 1, true, "", 0},
		{"as many as it may", Limits{3, 0}, false, 3, 0, false, "connection-limit ", 3},
		{"half-open ones count too", Limits{3, 0}, true, 1, 2, false, "connection-limit ", 3},
		{"half-open", Limits{0, 2}, false, 5, 2, false, "embryonic-limit ", 2},
		{"half-open, with cookies", Limits{0, 2}, true, 5, 2, false, "intercept-entered ", 2},
		{"both", Limits{4, 2}, false, 2, 2, false, "connection-limit ", 4},
	} {
		r := newRig(t, Config{Mappings: mappings, Client: tt.client, Synproxy: tt.synproxy})
		for n := range tt.opened + tt.half {
			c := of("198.51.100.9", uint16(1000+n), []string{local, other}[n%2]) // of all hosts together
			if r.half(c); n < tt.opened {
				r.becomes(c, Established)
			}
		}
		check(t, tt.name+": passes", r.syn(of("198.51.100.9", 2000, local)), tt.pass)
		check(t, tt.name+": of another client", r.syn(of("198.51.100.8", 2000, other)), true)
		evs := r.TakeEvents()
		if tt.kind == "" && len(evs) == 0 {
			continue
		}
		if len(evs) != 1 || evs[0].Kind.String()+" " != tt.kind || !evs[0].PerClient || evs[0].Count != tt.count {
			t.Errorf("%s: %+v, want %swith count %d, per client", tt.name, evs, tt.kind, tt.count)
		}
	}
}

// The worse of two verdicts holds; of two like ones the host's is told.
func TestHostAndClientLimit(t *testing.T) {
	for _, tt := range []struct {
		host, client Limits
		kind         EventKind
		perClient    bool
		limit        uint32
	}{
		{Limits{2, 0}, Limits{2, 0}, Refused, false, 2},
		{Limits{3, 0}, Limits{2, 0}, Refused, true, 2},
		{Limits{0, 2}, Limits{2, 0}, Refused, true, 2},
		{Limits{2, 0}, Limits{0, 2}, Refused, false, 2},
		{Limits{0, 2}, Limits{0, 1}, EmbryonicRefused, false, 2},
	} {
		r := newRig(t, one(tt.host, false))
		r.cfg.Client = Limits{} // two connections, whatever a client may have
		r.half(of("198.51.100.9", 1, local))
		r.half(of("198.51.100.9", 2, local))
		r.cfg.Client = tt.client
		check(t, "passes", r.syn(of("198.51.100.9", 3, local)), false)
		evs := r.TakeEvents()
		if len(evs) != 1 || evs[0].Kind != tt.kind || evs[0].PerClient != tt.perClient || evs[0].Limit != tt.limit || evs[0].Count != 2 {
			t.Errorf("host %v, client %v: %+v, want kind %v, per client %v", tt.host, tt.client, evs, tt.kind, tt.perClient)
		}
	}
}

func TestLimitsChangeAtRunTime(t *testing.T) {
	r := newRig(t, one(Limits{Max: 3}, false))
	for n := range 3 {
		r.open(conn(n))
	}
	check(t, "at the limit", r.syn(conn(9)), false)

	check(t, "raised: resync", r.Configure(r.now, one(Limits{Max: 4}, false)), true)
	check(t, "the fourth", r.syn(conn(3)), true)
	check(t, "the fifth", r.syn(conn(4)), false)

	r.Configure(r.now, one(Limits{Max: 2}, false)) // lowered: whoever is in stays
	r.want(local, 3, 1)
	r.becomes(conn(0), TimeWait)
	r.becomes(conn(1), TimeWait)
	check(t, "as many as the new limit", r.syn(conn(5)), false)
	r.becomes(conn(2), TimeWait)
	check(t, "below it", r.syn(conn(5)), true)

	r.Configure(r.now, one(Limits{}, false)) // removed
	check(t, "counted", r.Counters().Connections, 0)
	check(t, "clients", len(r.clients), 0)
	check(t, "without limits", r.syn(conn(6)), true)
	check(t, "the set", len(r.Sets().Limited), 0)
	r.becomes(conn(5), TimeWait) // late news of what is not counted any more
	r.ends(conn(5))

	check(t, "anew: resync", r.Configure(r.now, one(Limits{Max: 1}, false)), true)
	r.Resync(r.now, []Entry{{Conn: conn(3), ID: 9, State: Established}, {Conn: conn(6), ID: 10, State: SYNSent}})
	r.want(local, 1, 1)
	check(t, "over the limit", r.syn(conn(7)), false)
}

// Only a change after which more is counted asks for a dump.
func TestConfigureAsksForResync(t *testing.T) {
	base := Config{Mappings: []Mapping{mapping(global, local, Limits{1, 1})}, Synproxy: true}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   bool
	}{
		{"nothing", func(*Config) {}, false},
		{"synproxy", func(c *Config) { c.Synproxy = false }, false},
		{"another host", func(c *Config) { c.Mappings = append(c.Mappings, mapping("1.1.1.2", other, Limits{1, 1})) }, true},
		{"hosts' limits", func(c *Config) { c.Host.Max = 1 }, true},
		{"clients' limits", func(c *Config) { c.Client.Max = 1 }, true},
	} {
		r := newRig(t, base)
		r.Sets()
		cfg := Config{Mappings: []Mapping{base.Mappings[0]}, Synproxy: true}
		tt.change(&cfg)
		check(t, tt.name, r.Configure(r.now, cfg), tt.want)
		check(t, tt.name+": the sets are asked for", r.Changed(), true)
	}
}

// A host that moves to another global address keeps its connections.
func TestGlobalAddressChanges(t *testing.T) {
	r := newRig(t, one(Limits{1, 2}, true))
	r.open(conn(1))
	r.Configure(r.now, Config{Mappings: []Mapping{mapping("2.2.2.2", local, Limits{1, 2})}})
	check(t, "passes", r.syn(conn(2)), false)
	check(t, "told by", r.TakeEvents()[0].Global.String(), "2.2.2.2")
}

// The table is as large as it may be. The host of a network must not be
// remembered because of a SYN that was refused for that: there are as many as
// the network has addresses.
func TestMaxConns(t *testing.T) {
	cfg := one(Limits{Embryonic: 2000000}, false)
	cfg.Mappings = append(cfg.Mappings, mapping("2001:db8::/64", "fd00::/64", Limits{Max: 5}))
	r := newRig(t, cfg)
	c := conn(0)
	fill := func(n int) Conn {
		client := netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)})
		return Conn{netip.AddrPortFrom(client, 1), c.Server}
	}
	for n := range MaxConns {
		if !r.syn(fill(n)) {
			t.Fatalf("connection %d is refused", n)
		}
	}
	check(t, "one more", r.syn(fill(MaxConns)), false)
	check(t, "a repeated SYN", r.syn(fill(5)), true)
	host := netip.MustParseAddr("fd00::").As16()
	for n := range 2 * keepHosts {
		host[14], host[15] = byte(n>>8), byte(n)
		server := netip.AddrPortFrom(netip.AddrFrom16(host), 25)
		if n%2 == 0 {
			check(t, "a SYN to another host", r.syn(Conn{c.Client, server}), false)
		} else {
			r.Update(r.now, Entry{Conn: Conn{c.Client, server}, ID: 1, State: Established})
		}
	}
	check(t, "connections", r.Counters().Connections, MaxConns)
	check(t, "overflow", r.Counters().Overflow, 1+2*keepHosts)
	check(t, "clients", len(r.clients), MaxConns)
	if len(r.hosts) > keepHosts+1 {
		t.Errorf("%d hosts are remembered, want at most %d", len(r.hosts), keepHosts+1)
	}
	r.Update(r.now, Entry{Conn: fill(0), ID: 1, State: Close})
	r.Update(r.now, Entry{Conn: fill(1), ID: 1, State: SYNRecv})
	r.Update(r.now, Entry{Conn: fill(1), ID: 1, State: Close})
	check(t, "one has gone", r.syn(fill(MaxConns)), true)
	r.pass(confirmWithin)
	check(t, "connections that conntrack never saw", r.Counters().Connections, 0)
	check(t, "clients", len(r.clients), 0)
}

// Hosts of a large network do not stay for ever.
func TestHostsAreForgotten(t *testing.T) {
	r := newRig(t, Config{Synproxy: true, Mappings: []Mapping{
		mapping("2001:db8::/64", "fd00::/64", Limits{Max: 5}), mapping(global, local, Limits{Max: 5, Embryonic: 1})}})
	host := netip.MustParseAddr("fd00::").As16()
	server := func(n int) netip.AddrPort {
		host[14], host[15] = byte(n>>8), byte(n)
		return netip.AddrPortFrom(netip.AddrFrom16(host), 25)
	}
	for n := range 3 * keepHosts {
		c := Conn{conn(0).Client, server(n)}
		r.open(c)
		r.becomes(c, Close)
	}
	check(t, "hosts", len(r.hosts), keepHosts)
	check(t, "clients", len(r.clients), 0)
	for n := range 3 * keepHosts { // those with connections are not forgotten
		r.open(Conn{conn(0).Client, server(n)})
	}
	check(t, "hosts", len(r.hosts), 3*keepHosts)
	r.half(conn(1)) // nor are those in intercept
	r.becomes(conn(1), Close)
	check(t, "hosts", len(r.hosts), 3*keepHosts+1)
	report := r.Report()
	check(t, "omitted", report.Omitted, 2*keepHosts-1)
	check(t, "reported", len(report.Hosts), keepHosts+2) // and one for each mapping
	check(t, "in intercept", report.Hosts[len(report.Hosts)-1].Intercept, true)
	check(t, "connections", r.Counters().Connections, 3*keepHosts)
}

// An IPv4 address in the form of IPv6, as no packet should have it: nothing of it
// is left over, and it is the same client.
func TestMappedAddresses(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	mapped := of("::ffff:198.51.0.1", 40000, local)
	check(t, "passes", r.syn(mapped), true)
	check(t, "the same one", r.syn(conn(1)), true)
	r.begins(mapped)
	r.becomes(mapped, Close)
	r.want(local, 0, 0)
	check(t, "clients", len(r.clients), 0)
	r.open(of("198.51.0.1", 1, "::ffff:"+local))
	r.want(local, 1, 0)
}
