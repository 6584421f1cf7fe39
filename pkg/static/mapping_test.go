package static

import (
	"net/netip"
	"slices"
	"testing"
)

// mapping is `static GLOBAL LOCAL` with limits; an address is its host.
func mapping(global, local string, l Limits) Mapping {
	return Mapping{prefix(global), prefix(local), l}
}

// prefix reads an address or a network.
func prefix(s string) netip.Prefix {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen())
	}
	return netip.MustParsePrefix(s)
}

// Both ways: of a network, the host part of the address stays.
func TestGlobalAndLocal(t *testing.T) {
	for _, tt := range []struct{ globalNet, localNet, global, local string }{
		{"1.1.1.1", "192.168.1.1", "1.1.1.1", "192.168.1.1"},
		{"192.168.1.1", "192.168.1.1", "192.168.1.1", "192.168.1.1"},
		{"203.0.113.0/24", "192.168.2.0/24", "203.0.113.255", "192.168.2.255"},
		{"203.0.113.32/27", "192.168.2.128/27", "203.0.113.32", "192.168.2.128"},
		{"203.0.113.32/27", "192.168.2.128/27", "203.0.113.34", "192.168.2.130"},
		{"203.0.113.32/27", "192.168.2.128/27", "203.0.113.63", "192.168.2.159"},
		{"203.0.113.37/27", "192.168.2.150/27", "203.0.113.33", "192.168.2.129"}, // with a host part: ignored
		{"203.0.112.0/20", "10.1.48.0/20", "203.0.117.7", "10.1.53.7"},
		{"203.0.112.0/20", "10.1.48.0/20", "203.0.127.255", "10.1.63.255"},
		{"20.128.0.0/9", "10.0.0.0/9", "20.255.3.4", "10.127.3.4"},
		{"203.0.113.6/31", "10.0.0.8/31", "203.0.113.7", "10.0.0.9"},
		{"2001:db8::25", "fd00::25", "2001:db8::25", "fd00::25"},
		{"2001:db8:0:8::/61", "fd00:0:0:10::/61", "2001:db8:0:8::1", "fd00:0:0:10::1"},
		{"2001:db8:0:8::/61", "fd00:0:0:10::/61", "2001:db8:0:f::5", "fd00:0:0:17::5"},
		{"2001:db8::80/121", "fd00::/121", "2001:db8::ff", "fd00::7f"},
		{"2001:db8:1::/48", "fd00:9:9::/48", "2001:db8:1:ffff:1:2:3:4", "fd00:9:9:ffff:1:2:3:4"},
	} {
		m := mapping(tt.globalNet, tt.localNet, Limits{})
		back := Mapping{Global: m.Local, Local: m.Global}
		global, local := netip.MustParseAddr(tt.global), netip.MustParseAddr(tt.local)
		if got := m.global(local); got != global {
			t.Errorf("%s to %s: clients reach %s by %s, want %s", tt.globalNet, tt.localNet, local, got, global)
		}
		if got := back.global(global); got != local {
			t.Errorf("%s to %s: %s leads to %s, want %s", tt.globalNet, tt.localNet, global, got, local)
		}
	}
}

// lookupConfig has a host in a network in a network, and a host with two addresses.
var lookupConfig = Config{Mappings: []Mapping{
	mapping("203.0.113.0/24", "192.168.2.0/24", Limits{24, 240}),
	mapping("198.18.0.32/27", "192.168.2.128/27", Limits{27, 0}),
	mapping("198.18.9.9", "192.168.2.130", Limits{}),
	mapping("203.0.115.0/24", "192.168.4.0/24", Limits{}),
	mapping("203.0.114.0/24", "192.168.4.0/24", Limits{44, 0}),
	mapping("203.0.116.0/24", "192.168.4.0/24", Limits{45, 4}),
	mapping("1.1.1.1", "192.168.1.1", Limits{50, 100}),
	mapping("2.2.2.2", "192.168.1.1", Limits{60, 10}),
	mapping("2001:db8:0:8::/61", "fd00:0:0:10::/61", Limits{61, 0}),
	mapping("2001:db8::25", "fd00:0:0:11::25", Limits{0, 128}),
}}

func TestMappingOfHost(t *testing.T) {
	all := Limits{30, 200} // of `set connection`
	for _, tt := range []struct {
		local          string
		globals        []string
		limits, within Limits // without and with `set connection`
	}{
		{"192.168.1.1", []string{"1.1.1.1", "2.2.2.2"}, Limits{50, 10}, Limits{30, 10}},
		{"192.168.2.7", []string{"203.0.113.7"}, Limits{24, 240}, Limits{24, 200}},
		{"192.168.2.127", []string{"203.0.113.127"}, Limits{24, 240}, Limits{24, 200}},
		{"192.168.2.129", []string{"198.18.0.33", "203.0.113.129"}, Limits{27, 0}, Limits{27, 200}},          // limits of the longest network
		{"192.168.4.4", []string{"203.0.115.4", "203.0.114.4", "203.0.116.4"}, Limits{44, 4}, Limits{30, 4}}, // the lower of each of its networks'
		{"192.168.2.130", []string{"198.18.9.9", "198.18.0.34", "203.0.113.130"}, Limits{}, all},             // those of the host, also if none
		{"fd00:0:0:12::25", []string{"2001:db8:0:a::25"}, Limits{61, 0}, Limits{30, 200}},
		{"fd00:0:0:11::25", []string{"2001:db8::25", "2001:db8:0:9::25"}, Limits{0, 128}, Limits{30, 128}},
		{"192.168.3.1", nil, Limits{}, Limits{}},
		{"1.1.1.1", nil, Limits{}, Limits{}}, // a global address is nobody's local one
		{"fd00:0:0:18::1", nil, Limits{}, Limits{}},
	} {
		for host, want := range map[Limits]Limits{{}: tt.limits, all: tt.within} {
			tr, cfg := New(), lookupConfig
			cfg.Host = host
			tr.Configure(0, cfg)
			h := tr.host(netip.MustParseAddr(tt.local))
			if (h != nil) != (want != Limits{}) {
				t.Errorf("%s, all hosts %v: counted %v, want limits %v", tt.local, host, h != nil, want)
				continue
			}
			if h == nil {
				continue
			}
			var globals []string
			for _, g := range h.globals {
				globals = append(globals, g.String())
			}
			if h.limits != want || !slices.Equal(globals, tt.globals) {
				t.Errorf("%s, all hosts %v: %v by %v, want %v by %v", tt.local, host, h.limits, globals, want, tt.globals)
			}
		}
	}
}

// With a limit for each client, hosts without limits of their own are counted.
func TestHostsOfClientLimits(t *testing.T) {
	tr := New()
	tr.Configure(0, Config{Mappings: lookupConfig.Mappings, Client: Limits{Max: 3}})
	if tr.host(netip.MustParseAddr("192.168.2.130")) == nil || tr.host(netip.MustParseAddr("192.168.3.1")) != nil {
		t.Error("want every mapped host, and no other")
	}
}

func TestLimited(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{"nothing", Config{Host: Limits{1, 1}}, nil},
		{"hosts inside limited networks", lookupConfig,
			[]string{"192.168.1.1/32", "192.168.2.0/24", "192.168.4.0/24", "fd00:0:0:10::/61"}},
		{"no limits", Config{Mappings: []Mapping{mapping("1.1.1.1", "10.0.0.1", Limits{})}}, nil},
		{"`set connection` limits every host", Config{Host: Limits{Embryonic: 1}, Mappings: []Mapping{mapping("1.1.1.1", "10.0.0.1", Limits{})}},
			[]string{"10.0.0.1/32"}},
		{"every client", Config{Client: Limits{Max: 1}, Mappings: []Mapping{mapping("1.1.1.1", "10.0.0.1", Limits{})}},
			[]string{"10.0.0.1/32"}},
		{"a limited host in a network without limits", Config{Mappings: []Mapping{
			mapping("203.0.113.0/24", "10.0.0.0/24", Limits{}), mapping("1.1.1.1", "10.0.0.1", Limits{Max: 1})}},
			[]string{"10.0.0.1/32"}},
		{"the same host twice, the same network at two lengths", Config{Mappings: []Mapping{
			mapping("1.1.1.1", "10.0.0.1", Limits{Max: 1}), mapping("2.2.2.2", "10.0.0.1", Limits{Max: 1}),
			mapping("203.0.113.128/25", "10.0.1.0/25", Limits{Max: 1}), mapping("203.0.112.0/24", "10.0.1.0/24", Limits{Max: 1})}},
			[]string{"10.0.0.1/32", "10.0.1.0/24"}},
		{"host parts are cut off", Config{Mappings: []Mapping{mapping("203.0.113.77/24", "10.0.1.77/24", Limits{Max: 1})}},
			[]string{"10.0.1.0/24"}},
		{"sorted", Config{Mappings: []Mapping{
			mapping("2001:db8::1", "fd00::1", Limits{Max: 1}), mapping("1.1.1.2", "10.0.0.20", Limits{Max: 1}), mapping("1.1.1.3", "10.0.0.3", Limits{Max: 1})}},
			[]string{"10.0.0.3/32", "10.0.0.20/32", "fd00::1/128"}},
	} {
		var got []string
		for _, p := range tt.cfg.Limited() {
			got = append(got, p.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
