package netns

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// ends are both ends of one connection to port 25, played by the test: what one
// writes is compared with what the other reads, byte by byte.
type ends struct {
	client, server *net.TCPConn
}

// connect opens a connection from the client to an address of the server.
func connect(t *testing.T, l *lab.Lab, address string) ends {
	t.Helper()
	return connectFrom(t, l, 0, address)
}

// connectFrom is connect from a port of the client; 0 is any.
func connectFrom(t *testing.T, l *lab.Lab, port int, address string) ends {
	t.Helper()
	return join(t, l, lab.Client, &net.TCPAddr{Port: port}, address, lab.Server, address)
}

// join opens a connection from a host, by an address of its own, to port 25 of an
// address, behind which another host listens on what is perhaps another one.
func join(t *testing.T, l *lab.Lab, from lab.Host, by *net.TCPAddr, to string, on lab.Host, listen string) ends {
	t.Helper()
	ln, err := l.Listen(on, net.JoinHostPort(listen, "25"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	var client net.Conn
	err = l.Do(from, func() (err error) {
		dialer := net.Dialer{LocalAddr: by, Timeout: liveTimeout}
		client, err = dialer.Dial("tcp", net.JoinHostPort(to, "25"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return ends{client.(*net.TCPConn), server.(*net.TCPConn)}
}

// address is the client's address and port.
func (e ends) address() netip.AddrPort { return e.client.LocalAddr().(*net.TCPAddr).AddrPort() }

// of returns the end that side names, C or S, and the other one.
func (e ends) of(t *testing.T, side string) (near, far *net.TCPConn) {
	t.Helper()
	switch side {
	case "C":
		return e.client, e.server
	case "S":
		return e.server, e.client
	}
	t.Fatalf("no side %q", side)
	return nil, nil
}

// line is what a side writes, C or S, and what arrives at the other.
type line struct{ side, sent, arrives string }

// talk plays lines, each when the one before has arrived.
func (e ends) talk(t *testing.T, lines ...line) {
	t.Helper()
	for _, l := range lines {
		near, far := e.of(t, l.side)
		write(t, near, l.sent)
		want(t, far, l.arrives)
	}
}

// finish closes both ends in order and reads to the end of either.
func (e ends) finish(t *testing.T) {
	t.Helper()
	for _, side := range []string{"C", "S"} {
		near, far := e.of(t, side)
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		wantError(t, far, io.EOF)
	}
}

// write writes text at once.
func write(t *testing.T, to net.Conn, text string) {
	t.Helper()
	if err := to.SetWriteDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(to, text); err != nil {
		t.Fatalf("write %.80q: %v", text, err)
	}
}

// want reads as many bytes as text has and compares.
func want(t *testing.T, from net.Conn, text string) {
	t.Helper()
	if err := from.SetReadDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	n, err := io.ReadFull(from, got)
	if err != nil {
		t.Fatalf("read %.200q and then %v, want %.200q", got[:n], err, text)
	}
	if string(got) != text {
		t.Fatalf("read %.400q, want %.400q", got, text)
	}
}

// wantError waits for the connection's end, which must come without a byte.
func wantError(t *testing.T, from net.Conn, end error) {
	t.Helper()
	if err := from.SetReadDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 256)
	if n, err := from.Read(got); n > 0 || !errors.Is(err, end) {
		t.Fatalf("read %q and then %v, want %v", got[:n], err, end)
	}
}

// nothingToRead checks that no byte waits to be read, without waiting for one
// and without taking notice of the connection's end.
func nothingToRead(t *testing.T, from *net.TCPConn) {
	t.Helper()
	raw, err := from.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	var failed error
	err = raw.Control(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		t.Errorf("%d bytes have arrived", n)
	}
}
