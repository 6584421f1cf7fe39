package nftset

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/static"
	"github.com/smtpwall/smtpwall/test/namespace"
)

// mapping is a static mapping without limits.
func mapping(global, local string) static.Mapping {
	return static.Mapping{Global: netip.MustParsePrefix(global), Local: netip.MustParsePrefix(local)}
}

// TestUnreached: a box with outside 192.0.2.0/24 and 2001:db8::/64 on eth0, index
// 2, and the inside behind eth1, index 3.
func TestUnreached(t *testing.T) {
	const silent, noRoute = "nobody answers for the global address ", "this box has no route for the global address "
	host4, host6 := mapping("192.0.2.9/32", "10.0.0.9/32"), mapping("2001:db8::9/128", "fd00::9/128")
	addr4, addr6 := host4.Global.Addr(), host6.Global.Addr()
	for _, c := range []struct {
		name    string
		mapping static.Mapping
		spoil   func(outside *port)
		way     way
		want    string // how it begins
		asked   static.Limits
	}{
		{"the box's own", host4, nil, way{local: true, out: 1}, "", static.Limits{}},
		{"in the outside's network", host4, nil, way{out: 2}, silent + "192.0.2.9 on eth0, in whose network it is, so that no packet comes: give it to the box with `ip address add 192.0.2.9/32 dev eth0`", static.Limits{}},
		{"the same, routed inside", host4, nil, way{out: 3}, silent + "192.0.2.9 on eth0", static.Limits{}},
		{"routed inside, proxy ARP", host4, func(p *port) { p.proxyARP = true }, way{out: 3}, "", static.Limits{}},
		{"proxy ARP, but routed outside: the kernel does not answer", host4, func(p *port) { p.proxyARP = true }, way{out: 2}, silent + "192.0.2.9 on eth0", static.Limits{}},
		{"routed inside, a proxied neighbour", host4, func(p *port) { p.proxied[addr4] = true }, way{out: 3}, "", static.Limits{}},
		{"a proxied neighbour, but routed outside", host4, func(p *port) { p.proxied[addr4] = true }, way{out: 2}, silent + "192.0.2.9 on eth0", static.Limits{}},
		{"private VLAN", host4, func(p *port) { p.pvlan = true }, way{out: 2}, "", static.Limits{}},
		{"another neighbour is proxied", host4, func(p *port) { p.proxied[addr4.Next()] = true }, way{out: 3}, silent + "192.0.2.9 on eth0", static.Limits{}},
		{"in no network, by the default route", mapping("203.0.113.9/32", "10.0.0.9/32"), nil, way{out: 2}, "", static.Limits{}},
		{"in no network, no route", mapping("203.0.113.9/32", "10.0.0.9/32"), nil, way{unroutable: true}, noRoute + "203.0.113.9: SYNs to it cannot be answered with cookies; route it to the inside, as with `ip route add 203.0.113.9/32 via 10.0.0.9`", static.Limits{Embryonic: 9}},
		{"the same, nobody sends cookies", mapping("203.0.113.9/32", "10.0.0.9/32"), nil, way{unroutable: true}, "", static.Limits{Max: 9}},
		{"a host without NAT", mapping("192.0.2.9/32", "192.0.2.9/32"), nil, way{out: 2}, "", static.Limits{}},
		{"a network, by its first host", mapping("192.0.2.64/26", "10.0.0.64/26"), nil, way{out: 2}, silent + "192.0.2.65 on eth0", static.Limits{}},
		{"two addresses, by the first", mapping("192.0.2.64/31", "10.0.0.64/31"), nil, way{out: 2}, silent + "192.0.2.64 on eth0", static.Limits{}},
		{"IPv6 in the outside's network", host6, nil, way{out: 3}, silent + "2001:db8::9 on eth0", static.Limits{}},
		{"IPv6, proxy ARP is not for it", host6, func(p *port) { p.proxyARP = true }, way{out: 3}, silent + "2001:db8::9 on eth0", static.Limits{}},
		{"IPv6, proxied but not on", host6, func(p *port) { p.proxied[addr6] = true }, way{out: 3}, silent + "2001:db8::9 on eth0", static.Limits{}},
		{"IPv6, on but not proxied", host6, func(p *port) { p.proxyNDP = true }, way{out: 3}, silent + "2001:db8::9 on eth0", static.Limits{}},
		{"IPv6, proxied", host6, func(p *port) { p.proxyNDP, p.proxied[addr6] = true, true }, way{out: 3}, "", static.Limits{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			outside := port{name: "eth0", index: 2, proxied: map[netip.Addr]bool{}, networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}}
			inside := port{name: "eth1", index: 3, networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}}
			if c.spoil != nil {
				c.spoil(&outside)
			}
			got := unreached([]static.Mapping{c.mapping}, c.asked, []port{outside, inside}, func(netip.Addr) way { return c.way })
			if len(got) > 1 || strings.Join(got, "") == "" != (c.want == "") || !strings.HasPrefix(strings.Join(got, ""), c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// TestUnreachedBound: no more lookups than the bound.
func TestUnreachedBound(t *testing.T) {
	ms, n := make([]static.Mapping, maxReach+5), 0
	for i := range ms {
		ms[i] = mapping("203.0.113.9/32", "10.0.0.9/32")
	}
	unreached(ms, static.Limits{}, nil, func(netip.Addr) way { n++; return way{} })
	if n != maxReach {
		t.Errorf("%d lookups, want %d", n, maxReach)
	}
}

// TestReadUnreached reads interfaces, addresses, routes and switches of a real
// box.
func TestReadUnreached(t *testing.T) {
	namespace.Enter(t)
	for _, c := range []string{
		"ip link set lo up",
		"ip link add out0 type veth peer name out1", "ip link set out0 up", "ip link set out1 up", "ip address add 192.0.2.1/24 dev out0", "ip address add 2001:db8::1/64 dev out0 nodad",
		"ip link add in0 type veth peer name in1", "ip link set in0 up", "ip link set in1 up", "ip address add 10.0.0.1/24 dev in0", "ip address add fd00::1/64 dev in0 nodad",
	} {
		run(t, "", strings.Fields(c)...)
	}
	ms := []static.Mapping{
		mapping("192.0.2.9/32", "10.0.0.9/32"), mapping("2001:db8::9/128", "fd00::9/128"),
		mapping("203.0.113.9/32", "10.0.0.8/32"), mapping("2001:db9::9/128", "fd00::8/128"),
	}
	for _, step := range []struct {
		do   string
		want string // the addresses told of
	}{
		{"ip link set lo up", "192.0.2.9 2001:db8::9 203.0.113.9 2001:db9::9"},
		{"ip address add 192.0.2.9/32 dev out0", "2001:db8::9 203.0.113.9 2001:db9::9"},
		{"ip address del 192.0.2.9/32 dev out0", "192.0.2.9 2001:db8::9 203.0.113.9 2001:db9::9"},
		{"ip route add 203.0.113.9 via 10.0.0.8", "192.0.2.9 2001:db8::9 2001:db9::9"},
		{"ip route add default via fd00::8", "192.0.2.9 2001:db8::9"},
		{"ip route add 192.0.2.9 via 10.0.0.9", "192.0.2.9 2001:db8::9"},
		{"ip neighbour add proxy 192.0.2.9 dev out0", "2001:db8::9"},
		{"ip neighbour del proxy 192.0.2.9 dev out0", "192.0.2.9 2001:db8::9"},
		{"sysctl -qw net.ipv4.conf.out0.proxy_arp=1", "2001:db8::9"},
		{"ip neighbour add proxy 2001:db8::9 dev out0", "2001:db8::9"},
		{"sysctl -qw net.ipv6.conf.all.proxy_ndp=1", ""},
		{"ip route add unreachable 203.0.113.9 metric 1", "203.0.113.9"},
	} {
		if strings.HasPrefix(step.do, "ip route add unreachable") {
			run(t, "", "ip", "route", "del", "203.0.113.9")
		}
		run(t, "", strings.Fields(step.do)...)
		texts, err := readUnreached(ms, static.Limits{Embryonic: 1})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, text := range texts {
			_, rest, _ := strings.Cut(text, "global address ")
			addr, _, _ := strings.Cut(strings.ReplaceAll(rest, ": ", " "), " ")
			got = append(got, addr)
		}
		if text := strings.Join(got, " "); text != step.want {
			t.Errorf("%s: told of %q, want %q", step.do, text, step.want)
		}
	}
}
