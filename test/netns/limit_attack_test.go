package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// mail reaches a host, and others, while few invented addresses repeat their SYNs:
// they open fewer connections than the embryonic limit, and keep the queue of all
// SYNs full all the same.
func TestLimitFloodRepeated(t *testing.T) {
	const sources = 50
	w := newWall(t, withElements(t, "static.nft", limited("tcp 200 100")), "")
	addRoute(t, w.Lab, globalIP4)
	take(t, w.Lab)
	stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), sources)
	defer stopFlood()
	eventually(t, "the server is in intercept", func() bool { return w.static(t, globalIP4).Intercept })
	stop := make(chan struct{})
	time.AfterFunc(*floodFor, func() { close(stop) })
	all, arrived, worst, errs := deliveries(w.Lab, globalIP4, stop)
	t.Logf("%d of %d mails delivered, the slowest in %v", arrived, all, worst)
	if arrived*100 < all*99 || all == 0 || worst > time.Second {
		t.Errorf("%d of %d mails delivered, the slowest in %v, want 99 in 100, none as late as the second SYN of a client; errors: %v", arrived, all, worst, errs[:min(5, len(errs))])
	}
}

// A flood of a host that is full, which nobody can be let in to, is the kernel's to
// refuse. It ends with the flood.
func TestLimitFloodFull(t *testing.T) {
	const most = 5
	steadyMemory(t)
	w := newLimitWall(t, fmt.Sprintf("tcp %d 100", most), "")
	for range most {
		w.mustOpen(t, globalIP4)
	}
	w.agree(t, globalIP4, lab.ServerIP4)
	stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), spoofed)
	defer stopFlood()
	eventually(t, "the kernel refuses", func() bool {
		_, err := w.NFT("get element inet smtpwall full4 { " + globalIP4 + " }")
		return err == nil
	})
	w.idles(t)
	denied := w.static(t, globalIP4).Denied
	eventually(t, "what it refuses is counted", func() bool { return w.static(t, globalIP4).Denied > denied })
}

// Where the ruleset lets SYNs pass without a daemon, a host that was full when the
// daemon ended is open.
func TestLimitFullWithoutDaemon(t *testing.T) {
	for name, end := range map[string]func(*wall, *testing.T){"killed": (*wall).kill, "stopped": (*wall).stop} {
		t.Run(name, func(t *testing.T) {
			open := withElements(t, "static.nft", limited("tcp 2 1"))
			open.Open = name == "stopped"
			w := newWall(t, open, "")
			serve(t, w.Lab, lab.Server)
			addRoute(t, w.Lab, globalIP4)
			w.mustOpen(t, globalIP4)
			eventually(t, "the server is in intercept", func() bool { return w.static(t, globalIP4).Intercept })
			w.mustOpen(t, globalIP4)
			eventually(t, "the server is full", func() bool {
				_, err := w.NFT("get element inet smtpwall full4 { " + globalIP4 + " }")
				return err == nil
			})
			end(w, t)
			if name == "killed" {
				open.Open = true
				load(t, w.Lab, open)
				for statement := range strings.Lines(shipped(t, "divert-open.nft")) { // the lab takes its queue statements only
					if strings.HasPrefix(statement, "flush set ") {
						nft(t, w.Lab, statement)
					}
				}
			}
			w.mustOpen(t, globalIP4)
		})
	}
}

// The counters of SYNs answered with a cookie, of addresses that had none for a
// while, make room for others: a host without one would leave intercept while the
// flood goes on.
func TestLimitCookiesMakeRoom(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", limited("tcp 200 100")), "")
	addRoute(t, w.Lab, globalIP4)
	const all, some = 65536, 1024
	for first := 0; first < all; first += some {
		var list []string
		for n := first; n < first+some; n++ {
			list = append(list, fmt.Sprintf("10.128.%d.%d timeout 3s", n>>8, n&255)) // a minute, for a test
		}
		nft(t, w.Lab, "add element inet smtpwall cookies4 { "+strings.Join(list, ", ")+" }")
	}
	stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), spoofed)
	defer stopFlood()
	eventually(t, "the host's cookies are counted", func() bool { return w.static(t, globalIP4).Intercepted > 0 })
	w.kill(t) // so many counters are read slowly: SYNs were lost before the server was in intercept
}

// Clients whose FIN or RST gets no further than the firewall are still connected as
// far as their host knows, and are counted.
func TestLimitEndThatExpires(t *testing.T) {
	const most = 2
	w := newLimitWall(t, fmt.Sprintf("tcp %d 0", most), "")
	for _, g := range globals {
		level, option := unix.IPPROTO_IP, unix.IP_TTL
		if g.suffix == "6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		for _, end := range []struct {
			name string
			do   func(*net.TCPConn) error
		}{
			{"RST", func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }},
			{"FIN", (*net.TCPConn).CloseWrite},
		} {
			t.Run(g.name+" "+end.name, func(t *testing.T) {
				all, _ := w.inConntrack(t, g.local)
				conn := w.mustOpen(t, g.global).(*net.TCPConn)
				raw, err := conn.SyscallConn()
				if err != nil {
					t.Fatal(err)
				}
				dropped := counter(t, w.Lab, "expiring")
				var optErr error
				err = raw.Control(func(fd uintptr) { optErr = unix.SetsockoptInt(int(fd), level, option, 1) })
				if err = errors.Join(err, optErr, end.do(conn)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the firewall drops it", func() bool { return counter(t, w.Lab, "expiring") > dropped })
				if n := w.agree(t, g.global, g.local); n != all+1 {
					t.Errorf("%d connections, want %d", n, all+1)
				}
			})
		}
		w.refused(t, g.global)
	}
}
