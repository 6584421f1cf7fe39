package static

import (
	"cmp"
	"iter"
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

// mappings finds the mappings of a host. What it costs does not grow with their
// number: it is asked about every connection that conntrack knows.
type mappings struct {
	hosts  map[netip.Addr][]Mapping
	locals networks            // by their local addresses
	global networks            // by their global ones
	taken  map[netip.Addr]bool // the global addresses of hosts
}

// networks finds mappings of networks by an address.
type networks struct {
	of   map[netip.Prefix][]Mapping
	bits []int // lengths of the prefixes, the longest first
}

// add adds a mapping by one of its two networks.
func (n *networks) add(p netip.Prefix, m Mapping) {
	p = p.Masked()
	if n.of == nil {
		n.of = map[netip.Prefix][]Mapping{}
	}
	n.of[p] = append(n.of[p], m)
	if at, found := slices.BinarySearchFunc(n.bits, p.Bits(), func(a, b int) int { return cmp.Compare(b, a) }); !found {
		n.bits = slices.Insert(n.bits, at, p.Bits())
	}
}

// holding gives the mappings of each network that holds addr, the longest first.
func (n *networks) holding(addr netip.Addr) iter.Seq[[]Mapping] {
	return func(yield func([]Mapping) bool) {
		for _, bits := range n.bits {
			p, err := addr.Prefix(bits)
			if err != nil {
				continue // longer than addresses of the family
			}
			if ms := n.of[p]; ms != nil && !yield(ms) {
				return
			}
		}
	}
}

// index prepares ms for searches.
func index(ms []Mapping) mappings {
	x := mappings{hosts: map[netip.Addr][]Mapping{}, taken: map[netip.Addr]bool{}}
	for _, m := range ms {
		if m.Local.IsSingleIP() {
			x.hosts[m.Local.Addr()] = append(x.hosts[m.Local.Addr()], m)
			x.taken[m.Global.Addr()] = true
		} else {
			x.locals.add(m.Local, m)
			x.global.add(m.Global, m)
		}
	}
	return x
}

// of returns the mappings of a local address: its own, or else those of the longest
// of its networks.
func (x *mappings) of(local netip.Addr) []Mapping {
	if own := x.hosts[local]; own != nil {
		return own
	}
	for ms := range x.locals.holding(local) {
		return ms
	}
	return nil
}

// globals are the addresses by which clients reach local: those of all mappings
// that lead to it, or else its own.
func (x *mappings) globals(local netip.Addr) []netip.Addr {
	var out []netip.Addr
	add := func(ms []Mapping) {
		for _, m := range ms {
			if g := m.global(local); x.leads(m, g) && !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	add(x.hosts[local])
	for ms := range x.locals.holding(local) {
		add(ms)
	}
	if len(out) == 0 {
		out = append(out, local)
	}
	return out
}

// leads reports whether it is m by which clients of the address global, one of
// m's, are translated: a host goes before a network, the longest one first.
func (x *mappings) leads(m Mapping, global netip.Addr) bool {
	if m.Global.IsSingleIP() {
		return true
	}
	for ms := range x.global.holding(global) {
		return !x.taken[global] && ms[0].Global.Masked() == m.Global.Masked()
	}
	return false
}

// limits are those of a local address. Where two mappings lead to it, the lower
// ones hold.
func (c *Config) limits(ms []Mapping) Limits {
	l := c.Host
	for _, m := range ms {
		l = l.Lower(m.Limits)
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

// Limited are the local addresses that have limits, sorted; none overlaps another.
func (c *Config) Limited() []netip.Prefix {
	var all []netip.Prefix
	for _, m := range c.Mappings {
		if !m.Limits.none() || !c.Host.none() || !c.Client.none() {
			all = append(all, m.Local.Masked())
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, p := range all { // a network stands before what it holds
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
