package static

import (
	"maps"
	"net/netip"
	"slices"
)

// Sets are the contents of the ruleset's sets that belong to the daemon, each
// sorted.
type Sets struct {
	Limited   []netip.Prefix // local addresses; none overlaps another
	Full      []netip.Addr   // as clients write them: global addresses, and the local one
	Intercept []netip.Addr   // as clients write them
}

// Changed reports whether Sets may differ from what the last call returned.
func (t *Tracker) Changed() bool { return t.changed }

// Sets returns what the sets are to hold.
func (t *Tracker) Sets() Sets {
	t.changed = false
	s := Sets{Limited: t.cfg.Limited()}
	for _, h := range t.flooded {
		addrs := append([]netip.Addr{h.local}, h.globals...)
		s.Intercept = append(s.Intercept, addrs...)
		h.flood.full = h.full()
		if h.flood.full {
			s.Full = append(s.Full, addrs...)
		}
	}
	for _, list := range []*[]netip.Addr{&s.Full, &s.Intercept} {
		slices.SortFunc(*list, netip.Addr.Compare)
		*list = slices.Compact(*list)
	}
	return s
}

// full reports whether nobody else is admitted. Only in intercept do others than
// the Tracker need to know: synproxy must not answer who will be refused.
func (h *host) full() bool { return h.limits.Max > 0 && h.open+h.proven >= h.limits.Max }

// HostReport is a host, or a network none of whose hosts was heard of, for the
// operator.
type HostReport struct {
	Mapping            // Limits are those in force
	Connections uint32 // half-open ones included
	HalfOpen    uint32
	Peak        uint32 // of Connections
	Denied      uint64 // SYNs refused
	Intercepted uint64 // SYNs answered with a cookie
	Intercept   bool   // it is in intercept
	Full        bool   // the next connection is refused
}

// Report is what is known of all hosts, or of as many as can be told.
type Report struct {
	Hosts   []HostReport
	Omitted int // known hosts of networks that are not in Hosts
}

// maxReported is how many hosts of networks are reported: as many as are remembered
// without connections. An attacker can make known as many as there are connections,
// and to sort a million takes seconds in which no SYN is decided. Overflow: hosts in
// intercept are reported, of the others any.
const maxReported = keepHosts

// Report returns every mapping in the order of the configuration, with one line
// for each known host of a network.
func (t *Tracker) Report() Report {
	hosts := t.reported()
	byMapping := map[Mapping][]*host{}
	for addr, h := range hosts {
		for _, m := range t.index.of(addr) {
			byMapping[m] = append(byMapping[m], h)
		}
	}
	byLocal := map[netip.Prefix][]Mapping{}
	for _, m := range t.cfg.Mappings {
		byLocal[m.Local.Masked()] = append(byLocal[m.Local.Masked()], m)
	}
	var all []HostReport
	for _, m := range t.cfg.Mappings {
		hosts := byMapping[m]
		slices.SortFunc(hosts, func(a, b *host) int { return a.local.Compare(b.local) })
		for _, h := range hosts {
			all = append(all, m.report(h))
		}
		if len(hosts) == 0 {
			r := HostReport{Mapping: m}
			r.Limits = t.cfg.limits(byLocal[m.Local.Masked()])
			all = append(all, r)
		}
	}
	return Report{all, len(t.hosts) - len(hosts)}
}

// reported are the hosts of a report.
func (t *Tracker) reported() map[netip.Addr]*host {
	if len(t.hosts) <= maxReported {
		return t.hosts
	}
	some := maps.Clone(t.flooded)
	for _, m := range t.cfg.Mappings {
		if h := t.hosts[m.Local.Addr()]; h != nil && m.Local.IsSingleIP() {
			some[h.local] = h
		}
	}
	for addr, h := range t.hosts {
		if len(some) >= maxReported+len(t.cfg.Mappings) {
			break
		}
		some[addr] = h
	}
	return some
}

// report is the report of one host of m.
func (m Mapping) report(h *host) HostReport {
	global := m.global(h.local)
	full := h.limits.Max > 0 && h.total() >= h.limits.Max
	if h.flood != nil {
		full = h.full() // others may be an attacker's
	}
	return HostReport{
		Mapping:     Mapping{netip.PrefixFrom(global, global.BitLen()), netip.PrefixFrom(h.local, h.local.BitLen()), h.limits},
		Connections: h.total(), HalfOpen: h.half, Peak: h.peak,
		Denied: h.denied, Intercepted: h.cookies, Intercept: h.flood != nil, Full: full,
	}
}

// Counters returns what the Tracker has done.
func (t *Tracker) Counters() Counters {
	c := t.count
	c.Connections = uint64(len(t.conns))
	return c
}
