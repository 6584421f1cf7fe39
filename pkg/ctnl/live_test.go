package ctnl

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/test/namespace"
)

// patience bounds what should take microseconds.
const patience = 10 * time.Second

// inNamespace moves the test into a network namespace of its own that tracks
// connections on its loopback; the namespace ends with the test's thread.
func inNamespace(t testing.TB) {
	t.Helper()
	namespace.Enter(t)
	for _, rule := range []string{
		"iptables-nft -w -A INPUT -m conntrack --ctstate INVALID -j DROP",
		"ip6tables-nft -w -A INPUT -m conntrack --ctstate INVALID -j DROP",
		"iptables-nft -w -t nat -A OUTPUT -p tcp -d 127.0.0.2 --dport 25 -j DNAT --to-destination 127.0.0.1:2525",
		"iptables-nft -w -t nat -A POSTROUTING -p tcp --dport 26 -j SNAT --to-source 127.0.0.3",
		"iptables-nft -w -t nat -A POSTROUTING -p tcp --dport 2727 -j SNAT --to-source 127.0.0.3",
		"iptables-nft -w -t nat -A OUTPUT -p tcp -d 127.0.0.2 --dport 27 -j DNAT --to-destination 127.0.0.1:2727",
		"ip6tables-nft -w -t nat -A OUTPUT -p tcp -d ::1 --dport 25 -j DNAT --to-destination [::1]:2525",
	} {
		args := strings.Fields(rule)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s (Debian package iptables)", rule, err, out)
		}
	}
}

// connect opens a connection to a listener at server by calling dial, and
// returns the client's address.
func connect(t *testing.T, server, dial string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	c, err := net.Dial("tcp", dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// TestDeleteAndListen deletes connections by the tuple that the forward hook
// shows, and hears of it by the same tuple.
func TestDeleteAndListen(t *testing.T) {
	tests := []struct {
		name         string
		server, dial string
		told         bool // of what the client dialled
		deletes      bool
	}{
		{"no translation", "127.0.0.1:2500", "127.0.0.1:2500", false, true},
		{"destination translated", "127.0.0.1:2525", "127.0.0.2:25", false, true},
		{"source translated", "127.0.0.1:26", "127.0.0.1:26", false, true},
		{"both translated: left to the tombstone", "127.0.0.1:2727", "127.0.0.2:27", false, false},
		{"both translated, and told", "127.0.0.1:2727", "127.0.0.2:27", true, true},
		{"destination translated, and told", "127.0.0.1:2525", "127.0.0.2:25", true, true},
		{"IPv6", "[::1]:2500", "[::1]:2500", false, true},
		{"IPv6, destination translated", "[::1]:2525", "[::1]:25", false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			c, err := Open()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			gone := listenTo(t, c)
			conn := flow.Tuple{Client: connect(t, tt.server, tt.dial), Server: netip.MustParseAddrPort(tt.server)}
			if n := entries(t); n != 1 {
				t.Fatalf("%d entries before, want 1", n)
			}
			if known, err := c.Known(); err != nil {
				t.Fatal(err)
			} else if _, ok := known[conn.Key()]; len(known) != 1 || !ok {
				t.Errorf("known are %v, want %v", known, conn.Key())
			}
			of, err := dump()
			if err != nil {
				t.Fatal(err)
			}
			var original netip.AddrPort
			if tt.told {
				original = of[0].Original
			}
			if of[0].Original.String() != tt.dial {
				t.Errorf("the client dialled %v, want %s", of[0].Original, tt.dial)
			}
			if deleted, err := c.Delete(conn, original, of[0].ID+1); deleted || err != nil || entries(t) != 1 {
				t.Fatalf("of another id: deleted %v, %v; %d entries afterwards, want 1", deleted, err, entries(t))
			}
			if deleted, err := c.Delete(conn, original, of[0].ID); deleted != tt.deletes || err != nil {
				t.Fatalf("deleted %v, want %v; %v", deleted, tt.deletes, err)
			}
			if !tt.deletes {
				if n, got := entries(t), c.Counters(); n != 1 || got != (Counters{Unknown: 2}) {
					t.Fatalf("%d entries afterwards, want 1; counted %+v", n, got)
				}
				return
			}
			select {
			case got := <-gone:
				if got != conn {
					t.Errorf("heard of %v, want %v", got, conn)
				}
			case <-time.After(patience):
				t.Fatal("no event")
			}
			if n := entries(t); n != 0 {
				t.Errorf("%d entries afterwards, want 0", n)
			}
			if deleted, err := c.Delete(conn, original, 0); deleted || err != nil {
				t.Errorf("deleted twice: %v, %v", deleted, err)
			}
			if got, want := c.Counters(), (Counters{Deleted: 1, Unknown: 2, Events: 1}); got != want {
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

// listenTo runs Listen and returns the channel of what it tells.
func listenTo(t *testing.T, c *Conn) <-chan flow.Tuple {
	t.Helper()
	gone, subscribed := make(chan flow.Tuple, 10), make(chan struct{})
	inBackground(t, func(ctx context.Context) error {
		return c.Listen(ctx, func() { close(subscribed) }, func(c flow.Tuple) { gone <- c }, nil)
	})
	<-subscribed
	return gone
}

// inBackground runs f in the calling thread's network namespace, on another
// thread, until the test ends.
func inBackground(t testing.TB, f func(context.Context) error) {
	t.Helper()
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if err := netns.Set(here); err != nil {
			ended <- err
			return
		}
		ended <- f(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		here.Close()
	})
}

// entries counts conntrack's TCP entries.
func entries(t *testing.T) int {
	t.Helper()
	all, err := dump()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
