package netns

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// limited maps the server, in both families, with limits.
func limited(limits string) string {
	return fmt.Sprintf(`
add element inet smtpwall static4 { %s comment "%s" : %s }
add element inet smtpwall rstatic4 { %s : %s }
add element inet smtpwall static6 { %s comment "%s" : %s }
add element inet smtpwall rstatic6 { %s : %s }
`, globalIP4, limits, lab.ServerIP4, lab.ServerIP4, globalIP4, globalIP6, limits, lab.ServerIP6, lab.ServerIP6, globalIP6)
}

// globals are the server's addresses as the client writes them, and the local
// ones.
var globals = []struct{ name, suffix, client, global, local string }{
	{"IPv4", "4", lab.ClientIP4, globalIP4, lab.ServerIP4},
	{"IPv6", "6", lab.ClientIP6, globalIP6, lab.ServerIP6},
}

// newLimitWall is a wall whose server has limits, greets and holds every client.
func newLimitWall(t *testing.T, limits, policy string) *wall {
	t.Helper()
	w := newWall(t, withElements(t, "static.nft", limited(limits)), policy)
	serve(t, w.Lab, lab.Server)
	for _, g := range globals {
		addRoute(t, w.Lab, g.global) // for synproxy
	}
	return w
}

// open connects to an address and takes the greeting. A SYN that is refused is
// not answered: the second one, a second later, is not waited for.
func (w *wall) open(address string) (net.Conn, error) {
	conn, err := w.Dial(lab.Client, net.JoinHostPort(address, "25"), liveTimeout)
	if err != nil {
		return nil, err
	}
	return greeted(conn)
}

// greeted takes the greeting, or closes the connection.
func greeted(conn net.Conn) (net.Conn, error) {
	_ = conn.SetDeadline(time.Now().Add(liveTimeout))
	if _, err := conn.Read(make([]byte, 256)); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	return conn, nil
}

// mustOpen is open that must succeed. The connection ends with the test.
func (w *wall) mustOpen(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := w.open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// refused checks that no connection to an address comes about.
func (w *wall) refused(t *testing.T, address string) {
	t.Helper()
	conn, err := w.Dial(lab.Client, net.JoinHostPort(address, "25"), 300*time.Millisecond)
	if err == nil {
		conn.Close()
		t.Errorf("connection to %s opened", address)
	} else if !os.IsTimeout(err) {
		t.Errorf("connection to %s ended with %v, want a timeout", address, err)
	}
}

// hostLine is what the tests read of `show static --json`.
type hostLine struct {
	Global      string `json:"global"`
	Local       string `json:"local"`
	Connections int    `json:"current"`
	Limit       int    `json:"limit"`
	HalfOpen    int    `json:"half_open"`
	Peak        int    `json:"peak"`
	Denied      uint64 `json:"denied"`
	Intercepted uint64 `json:"intercepted"`
	Intercept   bool   `json:"intercept"`
}

// allStatic asks the daemon for all lines.
func (w *wall) allStatic(t *testing.T) []hostLine {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), w.exe, "show", "static", "--json", "--control", w.control()).Output()
	if err != nil {
		t.Fatalf("show static: %v: %s", err, out)
	}
	var answer struct {
		Hosts []hostLine `json:"hosts"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("show static printed %s: %v", out, err)
	}
	return answer.Hosts
}

// static asks the daemon for the line of a host, by its global address.
func (w *wall) static(t *testing.T, global string) hostLine {
	t.Helper()
	all := w.allStatic(t)
	for _, h := range all {
		if h.Global == global {
			return h
		}
	}
	t.Fatalf("show static has no %s: %v", global, all)
	return hostLine{}
}

// inConntrack counts what conntrack itself knows of connections to a host: all
// that count, and the half-open ones.
func (w *wall) inConntrack(t *testing.T, local string) (all, half int) {
	t.Helper()
	addr := net.ParseIP(local)
	family := netlink.InetFamily(unix.AF_INET)
	if addr.To4() == nil {
		family = unix.AF_INET6
	}
	err := w.Do(lab.Firewall, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range flows {
			tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP)
			if !ok || !f.Reverse.SrcIP.Equal(addr) {
				continue
			}
			switch tcp.State {
			case 1, 2, 9: // SYN_SENT, SYN_RECV, SYN_SENT2
				half++
				all++
			case 3, 4, 5, 6: // ESTABLISHED to LAST_ACK
				all++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, half
}

// agree waits until the daemon counts what conntrack does, and returns it.
func (w *wall) agree(t *testing.T, global, local string) (all int) {
	t.Helper()
	var half int
	var h hostLine
	timeout := time.After(liveTimeout)
	for {
		all, half = w.inConntrack(t, local)
		if h = w.static(t, global); h.Connections == all && h.HalfOpen == half {
			return all
		}
		select {
		case <-timeout:
			t.Fatalf("conntrack has %d connections, %d of them half-open; the daemon says %+v", all, half, h)
		default:
		}
	}
}

// Of N+1 connections the last is refused, with a record, and passes once another
// has ended. So it is for an exempt host, and behind a restart of the daemon.
func TestLimitMax(t *testing.T) {
	const most = 5
	w := newLimitWall(t, fmt.Sprintf("tcp %d 0", most), "")
	for _, g := range globals {
		for _, exempt := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s exempt %v", g.name, exempt), func(t *testing.T) {
				if exempt {
					nft(t, w.Lab, "add element inet smtpwall exempt"+g.suffix+" { "+g.local+" }")
				}
				denied, records := w.static(t, g.global).Denied, len(w.of(t, 201011))
				var conns []net.Conn
				for range most {
					conns = append(conns, w.mustOpen(t, g.global))
				}
				w.refused(t, g.global)
				w.stop(t)
				w.start(t)
				w.refused(t, g.global)
				if n := w.agree(t, g.global, g.local); n != most {
					t.Errorf("%d connections, want %d", n, most)
				}
				if n := w.static(t, g.global).Denied; n != 1 { // since the restart
					t.Errorf("%d denied since the restart, %d before it, want 1", n, denied)
				}
				eventually(t, "a record 201011", func() bool { return len(w.of(t, 201011)) > records })

				conns[2].Close()
				w.agree(t, g.global, g.local)
				w.mustOpen(t, g.global).Close()
				for _, c := range conns {
					c.Close()
				}
				eventually(t, "no connection is counted", func() bool { return w.static(t, g.global).Connections == 0 })
			})
		}
	}
}

// of returns the records of an id.
func (w *wall) of(t *testing.T, id int) (list []record) {
	for _, r := range w.allRecords(t) {
		if r.ID == id {
			list = append(list, r)
		}
	}
	return list
}

// The limit of all connections holds in intercept too: synproxy's own SYNs count,
// and who is one too many gets no cookie. That has a record.
func TestLimitMaxInIntercept(t *testing.T) {
	w := newLimitWall(t, "tcp 3 1", "")
	for _, g := range globals {
		t.Run(g.name, func(t *testing.T) {
			records := len(w.of(t, 201002))
			w.mustOpen(t, g.global)
			eventually(t, "the server is in intercept", func() bool { return w.static(t, g.global).Intercept })
			w.mustOpen(t, g.global)
			w.mustOpen(t, g.global)
			eventually(t, "the server is full", func() bool {
				_, err := w.NFT("get element inet smtpwall full" + g.suffix + " { " + g.global + " }")
				return err == nil
			})
			w.refused(t, g.global)
			eventually(t, "what the kernel refused is counted, and told", func() bool {
				return w.static(t, g.global).Denied > 0 && len(w.of(t, 201002)) > records
			})
			if n := w.agree(t, g.global, g.local); n != 3 {
				t.Errorf("%d connections, want 3", n)
			}
		})
	}
}

// A limit that `nft add element` gives takes effect at once, for connections that
// exist too.
func TestLimitFollowsNFT(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	serve(t, w.Lab, lab.Server)
	w.mustOpen(t, lab.ServerIP4)
	w.mustOpen(t, lab.ServerIP4)
	nft(t, w.Lab, `add element inet smtpwall static4 { 10.9.2.2 comment "tcp 3 0" : 10.9.2.2 }`)
	eventually(t, "two connections are counted", func() bool { return w.limits(t, lab.ServerIP4) && w.static(t, lab.ServerIP4).Connections == 2 })
	w.mustOpen(t, lab.ServerIP4)
	w.refused(t, lab.ServerIP4)
	nft(t, w.Lab, `delete element inet smtpwall static4 { 10.9.2.2 }; add element inet smtpwall static4 { 10.9.2.2 comment "tcp 4 0" : 10.9.2.2 }`)
	eventually(t, "the new limit holds", func() bool {
		conn, err := w.Dial(lab.Client, lab.ServerIP4+":25", 300*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err == nil
	})
	w.refused(t, lab.ServerIP4)
	nft(t, w.Lab, `delete element inet smtpwall static4 { 10.9.2.2 }`)
	eventually(t, "no limit holds", func() bool { return !w.limits(t, lab.ServerIP4) })
	w.mustOpen(t, lab.ServerIP4)
}

// limits reports whether the SYNs of a host come to the limiter.
func (w *wall) limits(t *testing.T, local string) bool {
	t.Helper()
	set := "limited4"
	if strings.Contains(local, ":") {
		set = "limited6"
	}
	_, err := w.NFT("get element inet smtpwall " + set + " { " + local + " }")
	return err == nil
}

// Two hundred connections open and close in random order, a third of them by a
// reset; after every step the daemon counts what conntrack knows. The daemon is
// restarted in the middle.
func TestLimitChurn(t *testing.T) {
	connections, most := 200, 40
	if testing.Short() { // in the emulated guest
		connections, most = 30, 10
	}
	w := newLimitWall(t, "tcp 60000 0", "")
	random := rand.New(rand.NewPCG(1, 2))
	g := globals[0]
	var open []net.Conn
	peak, restarted := 0, false
	for opened := 0; opened < connections || len(open) > 0; {
		if opened < connections && (len(open) == 0 || len(open) < most && random.IntN(2) == 0) {
			open = append(open, w.mustOpen(t, g.global))
			opened++
		} else {
			i := random.IntN(len(open))
			if random.IntN(3) == 0 {
				abort(t, open[i].(*net.TCPConn))
			} else {
				open[i].Close()
			}
			open = append(open[:i], open[i+1:]...)
		}
		if n := w.agree(t, g.global, g.local); n != len(open) {
			eventually(t, "the kernel closes the connection", func() bool { return w.agree(t, g.global, g.local) == len(open) })
		}
		peak = max(peak, len(open))
		if opened == connections/2 && !restarted {
			w.stop(t)
			w.start(t)
			peak, restarted = len(open), true
		}
	}
	if h := w.static(t, g.global); h.Peak < peak || h.Denied != 0 {
		t.Errorf("peak %d, denied %d; want %d and 0", h.Peak, h.Denied, peak)
	}
}

// classPolicy is a policy file whose only class has another line.
func classPolicy(line string) string {
	inspect := "  inspect esmtp test\n"
	return strings.Replace(policyWith(" parameters\n"), inspect, inspect+"  "+line+"\n", 1)
}
