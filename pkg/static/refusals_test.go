package static

import (
	"net/netip"
	"testing"
	"time"
)

// What the kernel refuses for a full host in intercept is counted and told.
func TestKernelRefusals(t *testing.T) {
	r := newRig(t, one(Limits{2, 1}, true))
	g, l := netip.MustParseAddr(global), netip.MustParseAddr(local)
	refused := func(counts map[netip.Addr]uint64, denied uint64, kinds string) {
		t.Helper()
		r.Full(counts)
		check(t, "denied", r.Report().Hosts[0].Denied, denied)
		check(t, "events", r.kinds(), kinds)
	}
	refused(map[netip.Addr]uint64{g: 9}, 0, "") // not in intercept
	r.half(conn(1))
	refused(nil, 0, "intercept-entered ")
	r.openProven(conn(2))
	r.openProven(conn(3))
	refused(map[netip.Addr]uint64{g: 5, l: 2}, 7, "connection-limit-kernel ")
	refused(map[netip.Addr]uint64{g: 5, l: 2}, 7, "")
	refused(map[netip.Addr]uint64{g: 6, l: 2}, 8, "connection-limit-kernel ")
	refused(nil, 8, "") // not full any more
	refused(map[netip.Addr]uint64{g: 3}, 11, "connection-limit-kernel ")
}

// A dnat rule of the operator's leads to the host by an address that no mapping
// names: synproxy does not see these SYNs, and their limit is that without it.
func TestReachedPastSynproxy(t *testing.T) {
	r := newRig(t, one(Limits{50, 2}, true))
	r.spoof(1, 2)
	check(t, "events", r.kinds(), "intercept-entered ")
	r.pass(answersAfter - time.Millisecond)
	check(t, "may have waited in the queue", r.syn(conn(3)), false)
	check(t, "events", r.kinds(), "")
	r.pass(time.Millisecond)
	check(t, "later", r.syn(conn(3)), false)
	if evs := r.TakeEvents(); len(evs) != 1 || evs[0].Kind != EmbryonicRefused || !evs[0].Unmapped || evs[0].Count != 2 || evs[0].Limit != 2 || !evs[0].Dropped {
		t.Errorf("%+v, want embryonic-limit at 2 of 2", evs)
	}
	check(t, "denied", r.Report().Hosts[0].Denied, 1)
	check(t, "of synproxy", r.proven(conn(4)), true)
	r.becomes(conn(1), Close)
	check(t, "a place is free", r.syn(conn(3)), true)
	check(t, "events", r.kinds(), "")
}
