package netns

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A connection that needs no queue any more counts all the same, until it ends.
func TestLimitOffloaded(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", limited("tcp 1 0")), tlsPolicy)
	for _, g := range globals {
		t.Run(g.name, func(t *testing.T) {
			e := join(t, w.Lab, lab.Client, &net.TCPAddr{}, g.global, lab.Server, g.local)
			e.talk(t, startTLS...)
			client, server := shake(t, e, selfSigned(t), tls.VersionTLS13)
			queued := w.queued(t)
			pass(t, client, server, "MAIL FROM:<alice@example.org>\r\n")
			if n := w.queued(t) - queued; n > 0 {
				t.Errorf("%d packets came to the queue", n)
			}
			if n := w.agree(t, g.global, g.local); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
			w.refused(t, g.global)
			client.Close()
			server.Close()
			eventually(t, "it is counted no more", func() bool { return w.agree(t, g.global, g.local) == 0 })
			join(t, w.Lab, lab.Client, &net.TCPAddr{}, g.global, lab.Server, g.local).talk(t, startTLS[:3]...)
		})
	}
}

// A client that uses a port again at once has one connection, and keeps it when the
// entry of the one before would have been deleted.
func TestLimitPortReuse(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", limited("tcp 2 0")), "")
	var again []ends
	for port, end := range map[int]func(ends){
		3101: func(e ends) { // the server first: the client's port is free
			e.server.Close()
			wantError(t, e.client, io.EOF)
			e.client.Close()
			eventually(t, "both have closed", func() bool { return w.agree(t, globalIP4, lab.ServerIP4) == len(again) })
		},
		3102: func(e ends) {
			abort(t, e.client)
			eventually(t, "the client has aborted", func() bool { return w.agree(t, globalIP4, lab.ServerIP4) == len(again) })
		},
	} {
		from := &net.TCPAddr{Port: port}
		end(join(t, w.Lab, lab.Client, from, globalIP4, lab.Server, lab.ServerIP4))
		again = append(again, join(t, w.Lab, lab.Client, from, globalIP4, lab.Server, lab.ServerIP4))
		if n := w.agree(t, globalIP4, lab.ServerIP4); n != len(again) {
			t.Errorf("%d connections, want %d", n, len(again))
		}
	}
	w.refused(t, globalIP4)
	time.Sleep(2500 * time.Millisecond) // nothing happens that could be waited for
	for _, e := range again {
		e.talk(t, line{"S", "220 mx20\r\n", "220 **20\r\n"})
	}
	if n := w.agree(t, globalIP4, lab.ServerIP4); n != len(again) {
		t.Errorf("%d connections, want %d", n, len(again))
	}
}

// Each host of a mapped network has its own count.
func TestLimitNetwork(t *testing.T) {
	const another = "10.9.2.3"
	w := newWall(t, withElements(t, "static.nft", `
add element inet smtpwall static4net { 198.18.0.0/24 comment "tcp 1 0" : 10.9.2.0/24 }
add element inet smtpwall rstatic4net { 10.9.2.0/24 : 198.18.0.0/24 }
`), "")
	if out, err := w.Command(lab.Server, "ip", "address", "add", another+"/24", "dev", lab.Outside).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serve(t, w.Lab, lab.Server)
	locals := map[string]string{"198.18.0.2": lab.ServerIP4, "198.18.0.3": another}
	for global := range locals {
		w.mustOpen(t, global)
		w.refused(t, global)
	}
	for global, local := range locals {
		if n := w.agree(t, global, local); n != 1 {
			t.Errorf("%s has %d connections, want 1", global, n)
		}
		if h := w.static(t, global); h.Limit != 1 || h.Denied != 1 || h.Local != local {
			t.Errorf("show static says %+v", h)
		}
	}
	if n := w.hosts(t); n != len(locals) {
		t.Errorf("%d rows, want %d", n, len(locals))
	}
}
