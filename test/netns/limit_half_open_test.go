package netns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A connection whose handshake goes no further counts as half-open, whichever side
// is silent, and after 30 seconds it counts no more, also where nothing else has
// conntrack look for old entries.
func TestLimitHalfOpen(t *testing.T) {
	t.Parallel() // it waits
	w := newWall(t, lab.Options{}, "")
	nft(t, w.Lab, `
add element inet smtpwall static4 { 10.9.2.2 comment "tcp 0 100" : 10.9.2.2, 10.9.2.3 comment "tcp 0 100" : 10.9.2.3 }
add element inet smtpwall static6 { fd09:2::2 comment "tcp 0 100" : fd09:2::2, fd09:2::3 comment "tcp 0 100" : fd09:2::3 }
`)
	eventually(t, "the limits hold", func() bool { return w.limits(t, lab.ServerIP4) })
	serve(t, w.Lab, lab.Server)
	for _, server := range hostileServer {
		w.neighbour(t, lab.Inside, server, w.hardware(t, lab.Server, lab.Outside)) // no router says that it is unreachable
	}
	began := time.Now()
	var knocked []*hostile
	for family, f := range families {
		for _, server := range []string{f.server, hostileServer[family]} { // the second one does not answer
			client := w.knocker(t, family, hostileClient[family], server)
			client.self = netip.AddrPortFrom(client.self.Addr(), uint16(20000+10*len(knocked))) // each has records of its own
			client.knock(t)
			w.halfOpen(t, server, 1)
			knocked = append(knocked, client)
		}
	}

	time.Sleep(time.Until(began.Add(29 * time.Second))) // nothing may happen
	for _, client := range knocked {
		server := client.far.Addr().String()
		if h := w.static(t, server); h.HalfOpen != 1 || h.Connections != 1 {
			t.Errorf("%s after 29 s: %+v", server, h)
		}
	}
	for _, client := range knocked {
		server := client.far.Addr().String()
		eventually(t, "the connection to "+server+" counts no more", func() bool { return w.static(t, server).Connections == 0 })
		w.checkRecords(t, client.self, "built", "teardown SYN Timeout")
	}
	if took := time.Since(began); took > 34*time.Second {
		t.Errorf("half-open connections counted for %v, want 34 s at most", took)
	}
}
