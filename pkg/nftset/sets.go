package nftset

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/smtpwall/smtpwall/pkg/static"
)

const (
	// perMessage is how many elements a message adds or deletes: an IPv6 interval
	// takes 64 octets, and a netlink attribute at most 64 KB.
	perMessage = 250

	// perBatch is how many messages a transaction has: what is sent at once must
	// fit the socket's send buffer, by default 208 KB. More are several
	// transactions.
	perBatch = 10
)

// Writer changes the elements of the daemon's sets. The zero value is ready.
type Writer struct{}

// Apply makes the sets limited, full and intercept, of both families, hold want,
// in the network namespace of the calling thread. It looks at what they hold and
// sends the difference, so that it also fills sets that were lost; if there is
// none it sends nothing. It returns ErrNoTable if there is no table.
func (*Writer) Apply(want static.Sets) (err error) {
	for range tries { // what was to be deleted may be gone meanwhile
		err = apply(want)
		if err == nil || errors.Is(err, ErrNoTable) || errors.Is(err, errNoSet) {
			return err
		}
	}
	return err
}

// content is what one set is to hold.
type content struct {
	set       string
	intervals []interval
}

// contents are all of want, by set. Limits come first: a host in intercept has
// some.
func contents(want static.Sets) []content {
	cs := []content{{set: "limited4"}, {set: "limited6"}, {set: "full4"}, {set: "full6"}, {set: "intercept4"}, {set: "intercept6"}}
	put := func(i int, s interval) {
		if s.from.Is6() {
			i++
		}
		cs[i].intervals = append(cs[i].intervals, s)
	}
	for _, p := range want.Limited {
		put(0, intervalOf(p))
	}
	for i, list := range [][]netip.Addr{want.Full, want.Intercept} {
		for _, a := range list {
			put(2+2*i, interval{a, a})
		}
	}
	return cs
}

// change is a message of a transaction.
type change struct {
	set      *nftables.Set
	elements []nftables.SetElement
	delete   bool
}

// apply is one try of Apply.
func apply(want static.Sets) error {
	r, err := openRuleset()
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.hasTable(); err != nil {
		return err
	}
	var deletes, adds []change
	for _, c := range contents(want) {
		set, elements, err := r.elements(c.set)
		if errors.Is(err, errNoSet) && len(c.intervals) == 0 {
			continue
		}
		if err != nil {
			return err
		}
		entries, err := decode(set, elements)
		if err != nil {
			return err
		}
		gone, missing := compareIntervals(entries, c.intervals)
		deletes = append(deletes, changes(set, gone, true)...)
		adds = append(adds, changes(set, missing, false)...)
	}
	return r.send(append(deletes, adds...))
}

// compareIntervals returns what is there and not wanted, and what is wanted and not
// there.
func compareIntervals(there []entry, want []interval) (gone, missing []interval) {
	wanted := make(map[interval]bool, len(want))
	for _, s := range want {
		wanted[s] = true
	}
	for _, e := range there {
		if !wanted[e.key] {
			gone = append(gone, e.key)
		}
		delete(wanted, e.key)
	}
	for _, s := range want {
		if wanted[s] {
			missing = append(missing, s)
		}
	}
	return gone, missing
}

// changes are the messages that add intervals to a set or delete them.
func changes(set *nftables.Set, intervals []interval, del bool) []change {
	var cs []change
	for some := range slices.Chunk(intervals, perMessage) {
		c := change{set: set, delete: del}
		for _, s := range some {
			c.elements = append(c.elements, nftables.SetElement{Key: s.from.AsSlice()})
			if behind := s.to.Next(); set.Interval && behind.IsValid() {
				c.elements = append(c.elements, nftables.SetElement{Key: behind.AsSlice(), IntervalEnd: true})
			}
		}
		cs = append(cs, c)
	}
	return cs
}

// send makes the changes, in one transaction if they fit.
func (r *ruleset) send(cs []change) error {
	for batch := range slices.Chunk(cs, perBatch) {
		var names []string
		for _, c := range batch {
			do := r.conn.SetAddElements
			if c.delete {
				do = r.conn.SetDeleteElements
			}
			if err := do(c.set, c.elements); err != nil {
				return fmt.Errorf("change set %s: %w", c.set.Name, err)
			}
			if !slices.Contains(names, c.set.Name) {
				names = append(names, c.set.Name)
			}
		}
		if err := r.conn.Flush(); err != nil {
			return fmt.Errorf("change set %s of table inet smtpwall: %w; if it was changed by hand, %s", strings.Join(names, ", "), remedy(err), reload)
		}
	}
	return nil
}
