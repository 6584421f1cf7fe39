package netns

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// started opens a connection and begins a session on it.
func (w *wall) started(t *testing.T, address string) ends {
	t.Helper()
	e := connect(t, w.Lab, address)
	e.talk(t, hello...)
	return e
}

// resetOnSpeaking checks that an end has got nothing from the other and is reset
// when it sends. It may have been reset already, for having repeated something.
func resetOnSpeaking(t *testing.T, end *net.TCPConn) {
	t.Helper()
	nothingToRead(t, end)
	if err := end.SetWriteDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(end, "NOOP\r\n"); err == nil {
		wantError(t, end, syscall.ECONNRESET)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("writing ended with %v, want a reset", err)
	}
}

// While the daemon is dead no mail passes; started again, it takes up new
// connections, and those under way are reset.
func TestLiveKilled(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			idle, busy := w.started(t, f.server), w.started(t, f.server)
			sender := pour(t, busy)
			w.kill(t)
			write(t, idle.client, "NOOP\r\n")
			conn, err := w.Dial(lab.Client, net.JoinHostPort(f.server, "25"), 300*time.Millisecond)
			if !os.IsTimeout(err) {
				t.Errorf("connecting to %s while the daemon is dead: %v, %v; want a timeout", f.server, conn, err)
			}
			w.start(t)
			e := w.started(t, f.server)
			e.talk(t, mail...)
			e.talk(t, quit...)
			e.finish(t)
			wantError(t, idle.client, syscall.ECONNRESET) // its NOOP was sent again
			resetOnSpeaking(t, idle.server)
			if err := <-sender; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the client in the middle of a message got %v, want a reset", err)
			}
		})
	}
}

// pour writes a message without end and returns when a megabyte has arrived. The
// error that ends the writing is sent.
func pour(t *testing.T, e ends) <-chan error {
	t.Helper()
	e.talk(t, mail[:6]...) // up to the 354
	text := []byte("Subject: long\r\n\r\n" + strings.Repeat("all work and no play\r\n", 1<<10))
	failed := make(chan error, 1)
	if err := e.client.SetWriteDeadline(time.Now().Add(2 * liveTimeout)); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			if _, err := e.client.Write(text); err != nil {
				failed <- err
				return
			}
		}
	}()
	if err := e.server.SetReadDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, e.server, 1<<20); err != nil {
		t.Fatal(err)
	}
	return failed
}

// With divert-open.nft mail passes uninspected while the daemon is dead, a
// message that was on its way too; started again, the daemon does not take those
// connections for inspected ones.
func TestLiveKilledOpen(t *testing.T) {
	w := newWall(t, lab.Options{Open: true}, "")
	text := string(message(8 << 20))
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			old, busy := w.started(t, f.server), w.started(t, f.server)
			busy.talk(t, mail[:6]...)
			written := make(chan error, 1)
			go func() { _, err := io.WriteString(busy.client, text); written <- err }()
			want(t, busy.server, text[:1<<20])
			w.kill(t)
			want(t, busy.server, text[1<<20:])
			if err := <-written; err != nil {
				t.Error(err)
			}
			old.talk(t, line{"C", "XCLIENT ADDR=1\r\n", "XCLIENT ADDR=1\r\n"}, line{"S", "220 ok\r\n", "220 ok\r\n"})
			fresh := connect(t, w.Lab, f.server)
			fresh.talk(t, line{"S", "220 mx20 ESMTP\r\n", "220 mx20 ESMTP\r\n"})
			w.start(t)
			for _, end := range []*net.TCPConn{old.client, old.server, fresh.client, fresh.server} {
				resetOnSpeaking(t, end)
			}
			w.started(t, f.server)
		})
	}
}

// With --undecided open the connections under way pass a restart.
func TestLiveRestart(t *testing.T) {
	w := newWall(t, lab.Options{}, "", "--undecided", "open")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e := w.started(t, f.server)
			e.talk(t, mail[:6]...)
			w.stop(t)
			w.start(t)
			e.talk(t, mail[6:]...)
			e.talk(t, quit...)
			e.finish(t)
		})
	}
}
