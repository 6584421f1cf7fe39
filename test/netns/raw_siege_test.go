package netns

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/smtpwall/smtpwall/pkg/control"
	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Addresses of hostile ends: in the lab's networks, owned by no interface.
var (
	hostileClient = [2]string{"10.9.1.3", "fd09:1::3"}
	hostileServer = [2]string{"10.9.2.3", "fd09:2::3"}
)

// siege is a wall with hostile ends around it.
type siege struct {
	*wall
	mac  [3]net.HardwareAddr // of the firewall's interface towards a host
	port uint16              // the last one used by a hostile client
}

// expired makes a host drop what comes with a low TTL, as a router before it
// would: such a packet passes the firewall and is lost behind it.
const expired = `table inet expired {
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		ip ttl < 32 drop
		ip6 hoplimit < 32 drop
	}
}`

// newSiege is newWall with hostile ends. Their packets come to the ends' hosts
// without a question for an address, and nothing there answers them.
func newSiege(t *testing.T, policy string, args ...string) *siege {
	t.Helper()
	s := &siege{wall: newWall(t, lab.Options{}, policy, args...), port: 40000}
	for h, host := range map[lab.Host]struct {
		link  string // the firewall's
		addrs [2]string
	}{lab.Client: {lab.Outside, hostileClient}, lab.Server: {lab.Inside, hostileServer}} {
		s.sysctl(t, h, "net/ipv4/ip_forward", "0")
		s.sysctl(t, h, "net/ipv6/conf/all/forwarding", "0")
		lose(t, s.Lab, h, expired)
		far := s.hardware(t, h, lab.Outside)
		s.mac[h] = s.hardware(t, lab.Firewall, host.link)
		for _, a := range host.addrs {
			s.neighbour(t, host.link, a, far)
		}
	}
	return s
}

// hardware is the address of an interface.
func (w *wall) hardware(t *testing.T, on lab.Host, link string) (mac net.HardwareAddr) {
	t.Helper()
	err := w.Do(on, func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

// neighbour tells the firewall where an address is.
func (w *wall) neighbour(t *testing.T, link, address string, mac net.HardwareAddr) {
	t.Helper()
	err := w.Do(lab.Firewall, func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{LinkIndex: i.Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(address), HardwareAddr: mac})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sysctl sets a value on a host.
func (s *siege) sysctl(t *testing.T, on lab.Host, key, value string) {
	t.Helper()
	err := s.Do(on, func() error {
		return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// aid is how much the kernel does for the daemon.
type aid int

const (
	asShipped aid = iota // the ruleset and the sysctls as they are shipped
	unaided              // conntrack refuses nothing: no check of windows and checksums, no `ct state invalid drop`
	numAids
)

// String names the aid in the names of subtests.
func (a aid) String() string { return [...]string{"shipped", "unaided"}[a] }

// aid loads the ruleset with so much help of the kernel.
func (s *siege) aid(t *testing.T, a aid) {
	t.Helper()
	if a == asShipped {
		load(t, s.Lab, lab.Options{})
		return
	}
	text, err := os.ReadFile(filepath.Join(nftDir, "smtpwall.nft"))
	if err != nil {
		t.Fatal(err)
	}
	const drop = "		ct state invalid counter name invalid drop\n		jump strip\n"
	before, after, ok := strings.Cut(string(text), drop)
	if !ok {
		t.Fatalf("smtpwall.nft has no %q", drop)
	}
	load(t, s.Lab, lab.Options{Files: map[string]string{"smtpwall.nft": before + "\t\tjump strip\n" + after}})
	s.sysctl(t, lab.Firewall, "net/netfilter/nf_conntrack_tcp_be_liberal", "1")
	s.sysctl(t, lab.Firewall, "net/netfilter/nf_conntrack_checksum", "0")
}

// dropped is how many packets the kernel has refused as invalid, and how many
// the daemon refused without ending a connection.
func (s *siege) dropped(t *testing.T) (kernel, daemon uint64) {
	t.Helper()
	var answer struct {
		Classes []struct {
			Drop uint64 `json:"drop"`
		} `json:"classes"`
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := control.NewClient(s.control()).Ask(ctx, "show service-policy", &answer); err != nil || len(answer.Classes) != 1 {
		t.Fatalf("show service-policy: %d classes, error %v", len(answer.Classes), err)
	}
	return counter(t, s.Lab, "invalid"), answer.Classes[0].Drop
}

// duel is a connection with a hostile end; the other end is an application on a
// real stack.
type duel struct {
	*siege
	h   *hostile
	app *net.TCPConn
}

// index of a family in the addresses of hostile ends.
const (
	v4 = iota
	v6
)

// attacker is a hostile client that has sent nothing yet, and the listener of
// the application that it attacks.
func (s *siege) attacker(t *testing.T, family int) (*hostile, *net.TCPListener) {
	t.Helper()
	s.port++
	var ln net.Listener
	// A child of another test holds the last listener between fork and exec.
	eventually(t, "port 25 is free", func() (ok bool) {
		var err error
		ln, err = s.Listen(lab.Server, net.JoinHostPort(families[family].server, "25"))
		if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Cleanup(func() { ln.Close() })
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	self := netip.AddrPortFrom(netip.MustParseAddr(hostileClient[family]), s.port)
	far := netip.AddrPortFrom(netip.MustParseAddr(families[family].server), 25)
	return newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], self, far), ln.(*net.TCPListener)
}

// joined takes the attacker's connection.
func (s *siege) joined(t *testing.T, h *hostile, ln *net.TCPListener) *duel {
	t.Helper()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	t.Cleanup(func() { conn.Close() })
	return &duel{s, h, conn.(*net.TCPConn)}
}

// mss is the option of a SYN with 1460 bytes.
const mss = "\x02\x04\x05\xb4"

// duel opens a connection of a hostile client to an application.
func (s *siege) duel(t *testing.T, family int) *duel {
	t.Helper()
	h, ln := s.attacker(t, family)
	h.open(t, mss)
	return s.joined(t, h, ln)
}

// ambush opens a connection of an application to a hostile server.
func (s *siege) ambush(t *testing.T, family int) *duel {
	t.Helper()
	h, dialled := s.ambusher(t, family)
	h.awaitSYN(t)
	h.send(t, -1, "", flags(flagSYN|flagACK), options(mss))
	return dialled()
}

// ambusher is a hostile server that has sent nothing yet, to which an
// application connects; dialled waits for it.
func (s *siege) ambusher(t *testing.T, family int) (h *hostile, dialled func() *duel) {
	t.Helper()
	s.port++
	self := netip.AddrPortFrom(netip.MustParseAddr(hostileServer[family]), 25)
	far := netip.AddrPortFrom(netip.MustParseAddr(families[family].client), s.port)
	h = newHostile(t, s.Lab, lab.Server, s.mac[lab.Server], self, far)
	done, failed := make(chan net.Conn, 1), make(chan error, 1)
	go func() {
		err := s.Do(lab.Client, func() error {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{Port: int(far.Port())}, Timeout: liveTimeout}
			conn, err := dialer.Dial("tcp", self.String())
			done <- conn
			return err
		})
		failed <- err
	}()
	return h, func() *duel {
		t.Helper()
		conn, err := <-done, <-failed
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &duel{s, h, conn.(*net.TCPConn)}
	}
}

// awaitSYN waits for the application's SYN.
func (h *hostile) awaitSYN(t *testing.T) {
	t.Helper()
	h.begin()
	h.receive(t, "a SYN")
	if !h.lastReceive.SYN || h.lastReceive.ACK {
		t.Fatal("the first segment is no SYN")
	}
	h.farISN = h.lastReceive.Seq
	h.ack = h.farISN + 1
}

// hello plays the beginning of a session with a hostile client.
func (d *duel) hello(t *testing.T) {
	t.Helper()
	for _, l := range hello {
		d.turn(t, l)
	}
}

// turn plays a line of the dialogue.
func (d *duel) turn(t *testing.T, l line) {
	t.Helper()
	if (l.side == "C") == (d.h.far.Port() == 25) {
		d.h.say(t, l.sent)
		reads(t, d.app, l.arrives)
		return
	}
	write(t, d.app, l.sent)
	d.h.want(t, l.arrives)
}

// inspected shows that the session is alive and inspected.
var inspected = []line{
	{"C", "XFOO\r\n", "XXXX\r\n"},
	{"S", "500 what\r\n", "500 what\r\n"},
	{"C", "NOOP\r\n", "NOOP\r\n"},
	{"S", "250 ok\r\n", "250 ok\r\n"},
}

// alive checks that the session is alive and inspected. As the stream is in
// order, it also shows that nothing else had arrived before.
func (d *duel) alive(t *testing.T) {
	t.Helper()
	for _, l := range inspected {
		d.turn(t, l)
	}
}

// crossing is the longest that a segment takes, with a retransmission or two of
// a kernel's.
const crossing = 3 * time.Second

// reads is want of an application that a hostile end has talked to: should the
// text not come, then there are many tests more to fail.
func reads(t *testing.T, app *net.TCPConn, text string) {
	t.Helper()
	if err := app.SetReadDeadline(time.Now().Add(crossing)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if n, err := io.ReadFull(app, got); err != nil || string(got) != text {
		t.Fatalf("the application has read %.400q (%v), want %.400q", got[:n], err, text)
	}
}

// wantReset waits until an application is told that its connection was reset.
func wantReset(t *testing.T, app *net.TCPConn) {
	t.Helper()
	wantError(t, app, syscall.ECONNRESET)
}

// addrPort is an address that the test has written.
func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
