package static

import (
	"net/netip"
	"testing"
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
