package asa

import (
	"fmt"
	"net/netip"
	"slices"
)

// pair tells which ways an access list names a host.
type pair struct {
	s        *statement // the first entry
	to, from bool
}

// maxExceptions bounds the entries that each other entry of a list is compared
// with; of a list with more, none is taken.
const maxExceptions = 1000

// exempt takes the hosts that the permit or deny entries of a list name for mail.
// A set of hosts has no exceptions: an entry whose connections one of the other
// kind excepts is not taken, because mail that is inspected without need does
// less harm than mail that is not.
func (im *importer) exempt(l *list, permit bool) {
	way := 0
	if permit {
		way = 1
	}
	if l.used[way] {
		return
	}
	l.used[way] = true
	entries := im.entriesOf(l)
	var others []*entry // of the other kind
	for i := range entries {
		e := &entries[i]
		if (e.permit != permit || e.neither) && (e.mail || e.broken) {
			others = append(others, e)
		}
	}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.broken:
		case e.permit == permit && !e.mail:
			im.lose(e.s, "it is not for mail: TCP to port 25")
		case e.permit == permit:
			im.exemptEntry(l, e, others)
		case e.mail && !e.permit && !e.all():
			im.lose(e.s, "exempt.nft has no exceptions")
		}
	}
}

// exemptEntry takes the host of one entry, unless the others narrow it.
func (im *importer) exemptEntry(l *list, e *entry, others []*entry) {
	p, to, err := e.host()
	if err != nil {
		im.lose(e.s, err.Error())
		return
	}
	if err := e.exception(others); err != nil {
		im.lose(e.s, err.Error())
		return
	}
	if len(im.exempts) >= maxElements {
		im.lose(e.s, fmt.Sprintf("more than %d exempt hosts", maxElements))
		return
	}
	for _, local := range im.localOf(e.s, p) {
		im.exempts = append(im.exempts, Exempt{local, l.name})
		ways := im.pairs[local]
		if ways == nil {
			ways = &pair{s: e.s}
			im.pairs[local] = ways
		}
		ways.to, ways.from = ways.to || to, ways.from || !to
	}
}

// exception tells which entry of the other kind keeps e from being taken: one
// above it, or one anywhere for connections the other way, which a set of hosts
// would exempt too. One that holds for all hosts says nothing about the host.
func (e *entry) exception(others []*entry) error {
	if len(others) > maxExceptions {
		return fmt.Errorf("the list has more than %d exceptions", maxExceptions)
	}
	reversed := e.reversed()
	for _, o := range others {
		above := o.s.line < e.s.line
		switch {
		case o.broken && above:
			return fmt.Errorf("line %d above it could not be read, and may except hosts from it", o.s.line)
		case !o.broken && (above && o.overlaps(e) || !o.all() && o.overlaps(reversed)):
			return fmt.Errorf("line %d excepts hosts from it", o.s.line)
		}
	}
	return nil
}

// unpaired warns of hosts that an ASA exempts in one direction only.
func (im *importer) unpaired() {
	for p, ways := range im.pairs {
		if !ways.to {
			im.warn(ways.s, fmt.Sprintf("mail to %s is not inspected either: exempt.nft does not tell who connects", element(p)))
		}
		if !ways.from {
			im.warn(ways.s, fmt.Sprintf("mail from %s is not inspected either: exempt.nft does not tell who connects", element(p)))
		}
	}
}

// localOf returns p as chain forward sees it: global addresses of mappings are
// local ones there. Of a network that holds mapped addresses and others, both
// are returned.
func (im *importer) localOf(s *statement, p netip.Prefix) []netip.Prefix {
	to, line, around := p, 0, 0 // around: length of the global network that to is of
	var inside []netip.Prefix
	for i := range im.mapped {
		switch m := &im.mapped[i]; {
		case m.Global != m.Local && m.Local.Bits() <= p.Bits() && m.Local.Overlaps(p):
			return []netip.Prefix{p}
		case !m.Global.Overlaps(p):
		case m.Global.Bits() > p.Bits():
			inside = append(inside, m.Local)
		case line == 0 || m.Global.Bits() > around: // a host's own mapping goes before its network's
			around, line = m.Global.Bits(), m.line
			to = netip.PrefixFrom(transplant(p.Addr(), m.Local), p.Bits())
		}
	}
	if to != p {
		im.warn(s, fmt.Sprintf("%s is a global address of line %d: exempt.nft has the local one, %s", element(p), line, element(to)))
	}
	if len(inside) > 0 {
		im.warn(s, fmt.Sprintf("%s holds the global addresses of %d mappings: exempt.nft has their local ones too", element(p), len(inside)))
	}
	return append(inside, to)
}

// transplant gives an address the network part of p.
func transplant(a netip.Addr, p netip.Prefix) netip.Addr {
	host, network := a.AsSlice(), p.Masked().Addr().AsSlice()
	for i := range host {
		free := max(0, min(8, 8*(i+1)-p.Bits())) // bits of this byte that tell hosts apart
		host[i] = network[i] | host[i]&byte(1<<free-1)
	}
	to, _ := netip.AddrFromSlice(host)
	return to
}

// joined puts the exempt hosts into the order of their addresses and leaves out
// those inside another one: an interval set refuses overlaps.
func joined(all []Exempt) (kept []Exempt) {
	slices.SortStableFunc(all, func(a, b Exempt) int { return a.Prefix.Compare(b.Prefix) })
	for _, e := range all {
		if n := len(kept); n == 0 || !kept[n-1].Prefix.Overlaps(e.Prefix) {
			kept = append(kept, e)
		}
	}
	return kept
}
