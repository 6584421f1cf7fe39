package netns

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// dialFrom connects from a port of the client's, which may have been in use just
// now, and takes the greeting.
func (w *wall) dialFrom(client, address string, port uint16, timeout time.Duration) (conn net.Conn, err error) {
	d := net.Dialer{
		Timeout:   timeout,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(client), port)),
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }); e != nil {
				return e
			}
			return err
		},
	}
	err = w.Do(lab.Client, func() error {
		conn, err = d.Dial("tcp", net.JoinHostPort(address, "25"))
		return err
	})
	if err != nil {
		return nil, err
	}
	return greeted(conn)
}

// A client that uses a port again as soon as its connection has ended keeps the new
// one when the old one's entry is deleted: the kernel often gives the new entry the
// old one's memory, and so its id.
func TestLimitPortAgain(t *testing.T) {
	w := newLimitWall(t, "tcp 20 0", "")
	const each = 8
	var again []net.Conn
	port := uint16(20000)
	for _, g := range globals {
		for range each {
			port++
			conn := w.mustDialFrom(t, g.client, g.global, port)
			_ = conn.(*net.TCPConn).SetLinger(0) // a reset: the client's own stack holds no port for it
			conn.Close()
			again = append(again, w.mustDialFrom(t, g.client, g.global, port))
		}
	}
	port++
	w.mustDialFrom(t, lab.ClientIP4, globalIP4, port).Close()
	eventually(t, "conntrack has forgotten one that ended after them", func() bool { return !w.hasClient(t, port) })
	for i, conn := range again {
		_ = conn.SetDeadline(time.Now().Add(liveTimeout))
		if _, err := fmt.Fprint(conn, "NOOP\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 16)); err != nil {
			t.Fatalf("connection %d of %d: %v", i+1, len(again), err)
		}
	}
}

// mustDialFrom is dialFrom that must succeed. The connection ends with the test.
func (w *wall) mustDialFrom(t *testing.T, client, address string, port uint16) net.Conn {
	t.Helper()
	conn, err := w.dialFrom(client, address, port, liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// hasClient reports whether conntrack has an IPv4 connection of that port of a
// client's, in any state.
func (w *wall) hasClient(t *testing.T, port uint16) (found bool) {
	t.Helper()
	err := w.Do(lab.Firewall, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
		for _, f := range flows {
			found = found || f.Forward.SrcPort == port
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
