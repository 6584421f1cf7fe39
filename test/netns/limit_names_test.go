package netns

import (
	"net"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Whoever writes to a host by two of its names has no more connections than others:
// those of one port count as one, so there is one at a time.
func TestLimitTwoNames(t *testing.T) {
	w := newLimitWall(t, "tcp 1 0", "")
	nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }")
	nft(t, w.Lab, "add element inet smtpwall exempt6 { "+lab.ServerIP6+" }")
	port := uint16(21000)
	for _, g := range globals {
		for _, names := range [][2]string{{g.global, g.local}, {g.local, g.global}} {
			port++
			first := w.mustDialFrom(t, g.client, names[0], port)
			if second, err := w.dialFrom(g.client, names[1], port, 300*time.Millisecond); err == nil {
				second.Close()
				t.Errorf("by %s and then %s: two connections", names[0], names[1])
			}
			if n := w.agree(t, g.global, g.local); n != 1 {
				t.Errorf("by %s and then %s: %d connections, want 1", names[0], names[1], n)
			}
			_ = first.(*net.TCPConn).SetLinger(0)
			first.Close()
			eventually(t, "nobody is connected", func() bool { return w.agree(t, g.global, g.local) == 0 })
		}
	}
}

// So it is for a client that has a mapping itself, and so another address behind the
// firewall.
func TestLimitTwoNamesOfMappedClient(t *testing.T) {
	w := newLimitWall(t, "tcp 1 0", "")
	nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }")
	nft(t, w.Lab, "add element inet smtpwall rstatic4 { "+lab.ClientIP4+" : 10.9.3.50 }")
	w.mustDialFrom(t, lab.ClientIP4, globalIP4, 21000)
	if second, err := w.dialFrom(lab.ClientIP4, lab.ServerIP4, 21000, 300*time.Millisecond); err == nil {
		second.Close()
		t.Error("two connections")
	}
	if n := w.agree(t, globalIP4, lab.ServerIP4); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
