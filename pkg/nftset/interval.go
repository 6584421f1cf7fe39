package nftset

import (
	"cmp"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// interval is a range of addresses, both ends included: one address, a network, or
// any interval that nft takes. The zero value is nft's `*`: all addresses that no
// other element has.
type interval struct{ from, to netip.Addr }

// intervalOf is the interval of a network.
func intervalOf(p netip.Prefix) interval { return interval{p.Masked().Addr(), last(p)} }

// last is the highest address of a network.
func last(p netip.Prefix) netip.Addr {
	a := p.Addr().AsSlice()
	for i := range a {
		free := max(0, min(8, 8*(i+1)-p.Bits())) // bits of this byte that tell hosts apart
		a[i] |= byte(1<<free - 1)
	}
	addr, _ := netip.AddrFromSlice(a)
	return addr
}

// prefix is the network that s is, if it is one.
func (s interval) prefix() (netip.Prefix, bool) {
	a, b := s.from.AsSlice(), s.to.AsSlice()
	same := 0 // bits; of a network, these are the first
	for i := range a {
		same += bits.LeadingZeros8(a[i] ^ b[i])
	}
	p := netip.PrefixFrom(s.from, same)
	return p, intervalOf(p) == s
}

// String is s as nft prints it.
func (s interval) String() string {
	p, ok := s.prefix()
	switch {
	case s == interval{}:
		return "*"
	case s.from == s.to:
		return s.from.String()
	case ok:
		return p.String()
	}
	return s.from.String() + "-" + s.to.String()
}

// compare orders intervals by their addresses.
func (s interval) compare(o interval) int { return cmp.Or(s.from.Compare(o.from), s.to.Compare(o.to)) }

// entry is one element of a set or map.
type entry struct {
	key, value interval // value is zero in a set
	comment    string
	packets    uint64 // that its counter has seen
	line       int    // of the file it stands in, 0 if it is live
}

// String is an element of a map as nft prints it.
func (e entry) String() string {
	key := e.key.String()
	if e.comment != "" {
		key += fmt.Sprintf(" comment \"%s\"", e.comment)
	}
	return key + " : " + e.value.String()
}

// decode returns the elements of a set or map of addresses, sorted by their keys.
func decode(set *nftables.Set, elements []nftables.SetElement) ([]entry, error) {
	var es []entry
	ends := map[netip.Addr]bool{} // behind an interval
	for _, e := range elements {
		key, ok := netip.AddrFromSlice(e.Key)
		if others := set.IsMap && len(e.Key) == 0; !ok && !others {
			return nil, fmt.Errorf("read set %s: its elements are no addresses; %s", set.Name, reload)
		}
		if e.IntervalEnd {
			ends[key] = true
			continue
		}
		d := entry{key: interval{key, key}, comment: e.Comment}
		if e.Counter != nil {
			d.packets = e.Counter.Packets
		}
		if d.value, ok = decodeValue(e.Val, cmp.Or(len(e.Key), int(set.KeyType.Bytes))); set.IsMap && !ok {
			return nil, fmt.Errorf("read map %s: its elements lead to no addresses; %s", set.Name, reload)
		}
		es = append(es, d)
	}
	slices.SortFunc(es, func(a, b entry) int { return a.key.compare(b.key) })
	if set.Interval {
		closeIntervals(es, ends)
	}
	return es, nil
}

// decodeValue reads what an element leads to: an address of size octets, or the
// first and the last address of an interval.
func decodeValue(b []byte, size int) (interval, bool) {
	switch len(b) {
	case size:
		a, ok := netip.AddrFromSlice(b)
		return interval{a, a}, ok
	case 2 * size:
		from, _ := netip.AddrFromSlice(b[:size])
		to, ok := netip.AddrFromSlice(b[size:])
		return interval{from, to}, ok
	}
	return interval{}, false
}

// closeIntervals gives the elements of an interval set their ends. The kernel has the
// first address of each interval, and the one behind its last unless that is the
// highest there is.
func closeIntervals(es []entry, ends map[netip.Addr]bool) {
	behind := make([]netip.Addr, 0, len(ends))
	for a := range ends {
		behind = append(behind, a)
	}
	slices.SortFunc(behind, netip.Addr.Compare)
	for i := range es {
		from := es[i].key.from
		if !from.IsValid() {
			continue // *
		}
		at, exact := slices.BinarySearchFunc(behind, from, netip.Addr.Compare)
		if exact {
			at++ // the end of the interval before
		}
		es[i].key.to = last(netip.PrefixFrom(from, 0))
		if at < len(behind) {
			es[i].key.to = behind[at].Prev()
		}
	}
}
