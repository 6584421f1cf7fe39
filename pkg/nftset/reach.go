package nftset

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// maxReach is how many mappings are looked after for packets that never come: each
// costs a route lookup. The rest is taken to be right.
const maxReach = 1024

// port is an interface whose neighbours ask for link-layer addresses.
type port struct {
	name     string
	index    int
	networks []netip.Prefix      // its neighbours'
	proxied  map[netip.Addr]bool // it is to answer for (`ip neighbour add proxy`)
	proxyARP bool                // it answers for all that is routed to another interface
	pvlan    bool                // and for what is routed to this one
	proxyNDP bool                // proxied holds for IPv6
}

// way is where the box routes an address.
type way struct {
	local      bool // it is the box's own
	unroutable bool // there is no route for it
	out        int  // interface
}

// readUnreached tells of the global addresses that no packet can reach the box
// for, in the network namespace of the calling thread.
func readUnreached(ms []static.Mapping, asked static.Limits) ([]string, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open route socket: %w", err)
	}
	defer h.Close()
	ports, err := readPorts(h)
	if err != nil {
		return nil, err
	}
	return unreached(ms, asked, ports, func(a netip.Addr) way {
		routes, err := h.RouteGet(a.AsSlice())
		if err != nil || len(routes) == 0 {
			return way{unroutable: true}
		}
		return way{local: routes[0].Type == unix.RTN_LOCAL, out: routes[0].LinkIndex}
	}), nil
}

// readPorts lists the interfaces with neighbours.
func readPorts(h *netlink.Handle) ([]port, error) {
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var ports []port
	for _, l := range links {
		a := l.Attrs()
		if a.RawFlags&unix.IFF_NOARP != 0 || a.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		p := port{name: a.Name, index: a.Index, proxied: map[netip.Addr]bool{},
			proxyARP: sysctlOn("ipv4", a.Name, "proxy_arp"), pvlan: sysctlOn("ipv4", a.Name, "proxy_arp_pvlan"),
			proxyNDP: sysctlOn("ipv6", a.Name, "proxy_ndp")}
		addrs, err := h.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
		}
		for _, addr := range addrs {
			if ip, ok := netip.AddrFromSlice(addr.IP); ok {
				ones, _ := addr.Mask.Size()
				p.networks = append(p.networks, netip.PrefixFrom(ip.Unmap(), ones).Masked())
			}
		}
		ports = append(ports, p)
	}
	return ports, readProxied(h, ports)
}

// readProxied fills in for whom each port is to answer.
func readProxied(h *netlink.Handle, ports []port) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		neighbours, err := h.NeighProxyList(0, family)
		if err != nil {
			return fmt.Errorf("list proxy neighbours: %w", err)
		}
		for _, n := range neighbours {
			ip, _ := netip.AddrFromSlice(n.IP)
			for _, p := range ports {
				if p.index == n.LinkIndex {
					p.proxied[ip.Unmap()] = true
				}
			}
		}
	}
	return nil
}

// sysctlOn reports whether a switch is on for an interface or for all.
func sysctlOn(family, name, key string) bool {
	for _, n := range []string{"all", name} {
		if v, err := readSysctl("net/" + family + "/conf/" + n + "/" + key); err == nil && v != "0" {
			return true
		}
	}
	return false
}

// unreached tells what is wrong with the global addresses of ms; of a network the
// first host is looked at. What a neighbour of the box routes here cannot be seen:
// an address that is in no network of the box is taken to be. A route is needed only
// by hosts with an embryonic limit, their own or the one asked for.
func unreached(ms []static.Mapping, asked static.Limits, ports []port, route func(netip.Addr) way) []string {
	var texts []string
	for _, m := range ms[:min(len(ms), maxReach)] {
		if m.Global == m.Local {
			continue // the host itself has it
		}
		global := firstHost(m.Global)
		w := route(global)
		switch on := unanswered(global, ports, w); {
		case w.local:
		case w.unroutable && m.Lower(asked).Embryonic > 0:
			texts = append(texts, fmt.Sprintf("this box has no route for the global address %s: SYNs to it cannot be answered with cookies; route it to the inside, as with `ip route add %s via %s`, if that host is a neighbour", global, m.Global.Masked(), firstHost(m.Local)))
		case on != "":
			texts = append(texts, fmt.Sprintf("nobody answers for the global address %s on %s, in whose network it is, so that no packet comes: give it to the box with `ip address add %s dev %s`, or route it to the inside and set proxy_arp (IPv6: proxy_ndp and `ip neighbour add proxy`)", global, on, netip.PrefixFrom(global, global.BitLen()), on))
		}
	}
	return texts
}

// firstHost is the address of a host's mapping, or of a network's first host.
func firstHost(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr()
	if p.Addr().BitLen()-p.Bits() > 1 {
		return a.Next()
	}
	return a
}

// unanswered names a port whose neighbours ask for an address that is routed as w
// says, and get no answer; it is empty if none does, or another port answers.
func unanswered(a netip.Addr, ports []port, w way) string {
	var silent string
	for _, p := range ports {
		if !p.neighbours(a) {
			continue
		}
		if p.answers(a, w.out) {
			return ""
		}
		silent = p.name
	}
	return silent
}

// neighbours reports whether the address is in one of p's networks.
func (p *port) neighbours(a netip.Addr) bool {
	for _, n := range p.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// answers reports whether p answers for an address that is routed to interface
// out (kernel: arp_process in net/ipv4/arp.c, ndisc_recv_ns in net/ipv6/ndisc.c).
func (p *port) answers(a netip.Addr, out int) bool {
	switch {
	case a.Is6():
		return p.proxyNDP && p.proxied[a]
	case out == p.index:
		return p.pvlan
	}
	return p.proxyARP || p.proxied[a]
}
