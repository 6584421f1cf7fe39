package nftset

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// Static is what the ruleset says of static mappings.
type Static struct {
	Mappings []static.Mapping // by global address
	Faults   []Fault          // what could not be taken as it stands
	Reverse  []Fault          // mappings, and what does not lead back the same way
	MaxFirst []Fault          // limits of which the second can never be reached
	Synproxy bool             // chain intercept answers SYNs with cookies
	SYNQueue []uint16         // queues that chain divert_syn sends to
}

// Fault is something that the operator should put right in a static map. Text
// says what is wrong and what to write instead.
type Fault struct {
	Line         int    // of the file; 0 in the live ruleset
	Set, Element string // the element as nft prints it
	Text         string
}

// String is the fault without its line.
func (f Fault) String() string {
	return fmt.Sprintf("element { %s } of map %s: %s", f.Element, f.Set, f.Text)
}

// staticMap is a static map and the one that leads back.
type staticMap struct{ name, reverse string }

// staticMaps are all there are (nft/static.nft).
var staticMaps = [...]staticMap{
	{"static4", "rstatic4"}, {"static4net", "rstatic4net"}, {"static6", "rstatic6"}, {"static6net", "rstatic6net"},
}

// ReadStatic looks at the network namespace of the calling thread. It needs
// CAP_NET_ADMIN. It returns ErrNoTable if there is no table; a map that does not
// exist is empty.
func ReadStatic() (*Static, error) {
	var s *Static
	err := look(func(r *ruleset) (err error) {
		s, err = r.static()
		return err
	})
	return s, err
}

// static reads the static maps and the chains that concern them.
func (r *ruleset) static() (*Static, error) {
	content := map[string][]entry{}
	for _, m := range staticMaps {
		for _, name := range []string{m.name, m.reverse} {
			set, elements, err := r.elements(name)
			if errors.Is(err, errNoSet) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if content[name], err = decode(set, elements); err != nil {
				return nil, err
			}
		}
	}
	s := compile(content)
	intercept, err := r.chain("intercept")
	if err != nil {
		return nil, err
	}
	divert, err := r.chain("divert_syn")
	if err != nil {
		return nil, err
	}
	s.Synproxy = intercept.Synproxy
	for _, q := range divert.Queues {
		s.SYNQueue = append(s.SYNQueue, q.numbers()...)
	}
	return s, nil
}

// compile makes mappings of the elements of the static maps, by name of the map.
func compile(content map[string][]entry) *Static {
	s := &Static{}
	for _, m := range staticMaps {
		s.addAll(m.name, content[m.name])
		s.misplaced(m, content[m.reverse])
		s.compare(m, content[m.name], content[m.reverse])
	}
	slices.SortFunc(s.Mappings, func(a, b static.Mapping) int {
		return cmp.Or(a.Global.Addr().Compare(b.Global.Addr()), cmp.Compare(a.Global.Bits(), b.Global.Bits()))
	})
	return s
}

// correct is the remedy of most faults.
const correct = "correct it in static.nft and load that with `nft -f /etc/smtpwall/static.nft`"

// addAll takes the elements of map name. In a file one may stand twice: nft adds
// the second to the first without a word, and what its comment says is lost.
func (s *Static) addAll(name string, all []entry) {
	first := map[interval]entry{}
	for _, e := range all {
		if f, twice := first[e.key]; !twice {
			first[e.key] = e
			s.add(name, e)
		} else if f.comment != e.comment {
			s.Faults = append(s.Faults, Fault{e.line, name, e.String(),
				fmt.Sprintf("it stands in the map already, in line %d, and nft keeps that one with its comment: delete one of the two", f.line)})
		}
	}
}

// misplaced looks for limits in a map that leads back, where nothing reads them.
func (s *Static) misplaced(m staticMap, reverse []entry) {
	for _, e := range reverse {
		if l, err := static.ParseComment(e.comment); err == nil && l != (static.Limits{}) {
			s.Faults = append(s.Faults, Fault{e.line, m.reverse, e.String(),
				fmt.Sprintf("limits hold for nobody here: write the comment into the element { %s } of map %s", entry{key: e.value, value: e.key}, m.name)})
		}
	}
}

// add takes one element of map name. Limits that cannot be read are none: the
// mapping itself is in force.
func (s *Static) add(name string, e entry) {
	fault := func(format string, a ...any) Fault {
		return Fault{e.line, name, e.String(), fmt.Sprintf(format, a...)}
	}
	m, err := e.mapping()
	if err != nil {
		s.Faults = append(s.Faults, fault("%v; its connections are not counted: %s", err, correct))
		return
	}
	m.Limits, err = static.ParseComment(e.comment)
	if err != nil {
		s.Faults = append(s.Faults, fault("comment: %v; nothing is limited: %s", err, correct))
	}
	if m.Max > 0 && m.Max < m.Embryonic {
		s.MaxFirst = append(s.MaxFirst, fault("half-open connections can never reach the embryonic limit %d first: the limit of all is %d, where SYN cookies begin; write an embryonic limit below it, or comment \"tcp %d %d\" if the two stand in the wrong order",
			m.Embryonic, m.Max, m.Embryonic, m.Max))
	}
	s.Mappings = append(s.Mappings, m)
}

// mapping is e without its limits.
func (e entry) mapping() (m static.Mapping, err error) {
	var ok bool
	if e.key == (interval{}) {
		return m, errors.New("* is every other address, whose hosts cannot be told apart: write the networks that are meant")
	}
	if m.Global, ok = e.key.prefix(); !ok {
		return m, fmt.Errorf("%s is no network: write one as ADDRESS/LENGTH, or several", e.key)
	}
	if m.Local, ok = e.value.prefix(); !ok {
		return m, fmt.Errorf("%s is no network: write one as ADDRESS/LENGTH", e.value)
	}
	for _, p := range []netip.Prefix{m.Global, m.Local} {
		if p.Addr().Is4In6() {
			return m, fmt.Errorf("%s is IPv4 in the form of IPv6, which no packet on a wire has: write it into static4 or static4net", p)
		}
	}
	if m.Global.Bits() != m.Local.Bits() {
		return m, fmt.Errorf("the networks differ in size: write %s of length /%d", e.value, m.Global.Bits())
	}
	return m, nil
}

// compare looks whether each mapping has its reverse. Of several global addresses
// of a host one is the reverse; a host without another address needs none. What
// `*` leads to is the operator's business.
func (s *Static) compare(m staticMap, forward, reverse []entry) {
	others := func(e entry) bool { return e.key == interval{} }
	forward, reverse = slices.DeleteFunc(slices.Clone(forward), others), slices.DeleteFunc(slices.Clone(reverse), others)
	back := map[interval]interval{} // local to global
	for _, e := range reverse {
		back[e.key] = e.value
	}
	globals := map[interval][]interval{} // by local
	for _, e := range forward {
		globals[e.value] = append(globals[e.value], e.key)
	}
	for _, e := range forward {
		got, ok := back[e.value]
		want := entry{key: e.value, value: e.key}
		switch {
		case !ok && e.key != e.value:
			s.Reverse = append(s.Reverse, Fault{e.line, m.name, e.String(),
				fmt.Sprintf("map %s has no reverse of it, so that connections of the host itself keep its local address: add { %s } there", m.reverse, want)})
		case ok && !slices.Contains(globals[e.value], got):
			s.Reverse = append(s.Reverse, Fault{e.line, m.name, e.String(),
				fmt.Sprintf("the reverse in map %s leads to %s: write { %s } there", m.reverse, got, want)})
		}
	}
	for _, e := range reverse {
		if globals[e.key] == nil && e.key != e.value {
			s.Reverse = append(s.Reverse, Fault{e.line, m.reverse, e.String(),
				fmt.Sprintf("map %s has no mapping to %s: add { %s } there, or delete this element", m.name, e.key, entry{key: e.value, value: e.key})})
		}
	}
}

// ReadIntercepted returns the addresses in intercept4 and intercept6, sorted. It
// returns ErrNoTable if there is no table.
func ReadIntercepted() ([]netip.Addr, error) {
	found, err := readAddresses("intercept4", "intercept6")
	return slices.SortedFunc(maps.Keys(found), netip.Addr.Compare), err
}

// ReadCookies returns how many SYNs to each address were answered with a cookie:
// the counters of cookies4 and cookies6, which begin anew when the table does. It
// returns ErrNoTable if there is no table.
func ReadCookies() (map[netip.Addr]uint64, error) {
	return readAddresses("cookies4", "cookies6")
}

// ReadFull returns how many SYNs to each address in full4 and full6 were dropped
// since it has been there. It returns ErrNoTable if there is no table.
func ReadFull() (map[netip.Addr]uint64, error) {
	return readAddresses("full4", "full6")
}

// readAddresses returns the addresses in sets with the packets that each counted.
func readAddresses(names ...string) (found map[netip.Addr]uint64, err error) {
	err = look(func(r *ruleset) error {
		found = map[netip.Addr]uint64{}
		for _, name := range names {
			set, elements, err := r.elements(name)
			if err != nil {
				return err
			}
			entries, err := decode(set, elements)
			if err != nil {
				return err
			}
			for _, e := range entries {
				found[e.key.from] = e.packets
			}
		}
		return nil
	})
	return found, err
}
