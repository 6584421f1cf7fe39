package netns

import (
	"net"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A limit that is lowered below the number of connections leaves those alone, and
// refuses all others until there are fewer.
func TestLimitLowered(t *testing.T) {
	w := newLimitWall(t, "tcp 9 0", "")
	var conns []net.Conn
	for range 4 {
		conns = append(conns, w.mustOpen(t, globalIP4))
	}
	nft(t, w.Lab, "delete element inet smtpwall static4 { "+globalIP4+" }; add element inet smtpwall static4 { "+globalIP4+` comment "tcp 2 0" : `+lab.ServerIP4+" }")
	eventually(t, "the lower limit is in force", func() bool { return w.static(t, globalIP4).Limit == 2 })
	w.refused(t, globalIP4)
	for i, c := range conns {
		if n := w.agree(t, globalIP4, lab.ServerIP4); n != 4-i {
			t.Errorf("%d connections, want %d", n, 4-i)
		}
		if i < 3 {
			w.refused(t, globalIP4)
		}
		c.Close()
	}
	w.agree(t, globalIP4, lab.ServerIP4)
	w.mustOpen(t, globalIP4)
}

// The table goes, with every limit, and comes again: so do the limits, with the
// connections that have been open all the while.
func TestLimitReloaded(t *testing.T) {
	w := newLimitWall(t, "tcp 2 0", "")
	w.mustOpen(t, globalIP4)
	w.mustOpen(t, globalIP4)
	nft(t, w.Lab, "delete table inet smtpwall")
	eventually(t, "no mapping is known", func() bool { return w.hosts(t) == 0 })
	if _, err := w.LoadRuleset(nftDir, withElements(t, "static.nft", limited("tcp 3 0"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connections are counted again", func() bool {
		return w.limits(t, lab.ServerIP4) && w.static(t, globalIP4).Connections == 2
	})
	w.mustOpen(t, globalIP4)
	w.refused(t, globalIP4)

	// A map that is gone leaves the others in force.
	nft(t, w.Lab, "flush chain inet smtpwall translate; flush chain inet smtpwall srcnat; delete map inet smtpwall static6; delete map inet smtpwall rstatic6")
	eventually(t, "two rows are gone", func() bool { return w.hosts(t) == 1 })
	if n := w.agree(t, globalIP4, lab.ServerIP4); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
}

// What nft takes and the daemon cannot count, nft's `*` here, leaves the other
// elements working, also behind a restart. Of two networks that lead to a host,
// the lower limit holds.
func TestLimitOddElements(t *testing.T) {
	w := newLimitWall(t, "tcp 2 0", "")
	nft(t, w.Lab, "add element inet smtpwall static6 { * : "+lab.ServerIP6+" }")
	nft(t, w.Lab, "flush map inet smtpwall static4; flush map inet smtpwall rstatic4; add element inet smtpwall static4net { 198.18.0.0/24 : 10.9.2.0/24, 198.18.1.0/24 comment \"tcp 1 0\" : 10.9.2.0/24 }")
	eventually(t, "the limit of a network is in force", func() bool { return w.limits(t, lab.ServerIP4) })
	for range 2 {
		conn := w.mustOpen(t, lab.ServerIP4)
		w.refused(t, lab.ServerIP4)
		conn.Close()
		w.agree(t, "198.18.1.2", lab.ServerIP4)
		w.stop(t)
		w.start(t)
	}
}

// hosts is how many rows `show static` has.
func (w *wall) hosts(t *testing.T) int {
	t.Helper()
	return len(w.allStatic(t))
}
