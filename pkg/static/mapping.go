package static

import (
	"cmp"
	"net/netip"
	"slices"
)

// Mapping is one static mapping. Global and Local have the same length; that of a
// host is /32 or /128. Both are the same for a host that has limits but no other
// address.
type Mapping struct {
	Global, Local netip.Prefix
	Limits
}

// Config is what is to be enforced. The Tracker keeps it.
type Config struct {
	Mappings []Mapping
	Host     Limits // of every mapped host: `set connection conn-max`, `embryonic-conn-max`
	Client   Limits // of every client of these: `per-client-max`, `per-client-embryonic-max`
	Synproxy bool   // the ruleset can answer SYNs with cookies
}

// mappings finds the mappings of a host.
type mappings struct {
	hosts map[netip.Addr][]Mapping
	nets  []Mapping // the longest first
}

// index prepares ms for searches.
func index(ms []Mapping) mappings {
	x := mappings{hosts: map[netip.Addr][]Mapping{}}
	for _, m := range ms {
		if m.Local.IsSingleIP() {
			x.hosts[m.Local.Addr()] = append(x.hosts[m.Local.Addr()], m)
		} else {
			x.nets = append(x.nets, m)
		}
	}
	slices.SortStableFunc(x.nets, func(a, b Mapping) int { return cmp.Compare(b.Local.Bits(), a.Local.Bits()) })
	return x
}

// of returns the mappings of a local address: its own, or else the longest of its
// networks'.
func (x *mappings) of(local netip.Addr) []Mapping {
	if own := x.hosts[local]; own != nil {
		return own
	}
	for i, m := range x.nets {
		if m.Local.Contains(local) {
			return x.nets[i : i+1]
		}
	}
	return nil
}

// limits are those of a local address. Where two mappings lead to it, the lower
// ones hold.
func (c *Config) limits(ms []Mapping) Limits {
	l := c.Host
	for _, m := range ms {
		l = l.lower(m.Limits)
	}
	return l
}

// global is the address by which m's clients reach local.
func (m Mapping) global(local netip.Addr) netip.Addr {
	if m.Global.IsSingleIP() {
		return m.Global.Addr()
	}
	g, l := m.Global.Masked().Addr().AsSlice(), local.AsSlice()
	for i := range g {
		free := max(0, min(8, 8*(i+1)-m.Global.Bits())) // bits of this byte that tell hosts apart
		g[i] |= l[i] & byte(1<<free-1)
	}
	addr, _ := netip.AddrFromSlice(g)
	return addr
}
