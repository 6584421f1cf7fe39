package netns

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

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
	nft(t, w.Lab, "flush chain inet smtpwall translate; flush chain inet smtpwall srcnat; flush chain inet smtpwall same_port; delete map inet smtpwall static6; delete map inet smtpwall rstatic6")
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

// A dnat rule of the operator's leads to the host by an address that no mapping
// names. In intercept its SYNs pass as long as fewer than the limit are half-open;
// the next one is refused, and a record says why.
func TestLimitOwnDNAT(t *testing.T) {
	const own = "10.9.3.7"
	w := newWall(t, withElements(t, "static.nft", "add element inet smtpwall static4 { "+lab.ServerIP4+` comment "tcp 0 1" : `+lab.ServerIP4+" }\n"), "")
	serve(t, w.Lab, lab.Server)
	addRoute(t, w.Lab, own)
	nft(t, w.Lab, "add table ip own; add chain ip own pre { type nat hook prerouting priority -110; }; add rule ip own pre ip daddr "+own+" dnat to "+lab.ServerIP4)
	w.mustOpen(t, own)
	eventually(t, "the server is in intercept", func() bool { return w.static(t, lab.ServerIP4).Intercept })
	w.mustOpen(t, own)
	deaf := "add table ip deaf; add chain ip deaf in { type filter hook input priority 0; }; add rule ip deaf in tcp dport 99 drop"
	if out, err := w.Command(lab.Server, "nft", deaf).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v: %s", deaf, err, out)
	}
	eventually(t, "a SYN is refused, and a record says why", func() bool {
		for _, port := range []string{"99", "25"} { // the first stays half-open, until intercept has it removed
			if conn, err := w.Dial(lab.Client, net.JoinHostPort(own, port), 300*time.Millisecond); err == nil {
				conn.Close()
			}
		}
		return slices.ContainsFunc(w.of(t, 201010), func(r record) bool {
			return strings.Contains(r.Message, "no cookie can be sent: the client uses an address that static.nft does not map")
		})
	})
	if w.static(t, lab.ServerIP4).Denied == 0 {
		t.Error("none is counted as denied")
	}
}

// hosts is how many rows `show static` has.
func (w *wall) hosts(t *testing.T) int {
	t.Helper()
	return len(w.allStatic(t))
}
