package nftset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/mdlayher/netlink"

	"github.com/smtpwall/smtpwall/test/namespace"
)

// patience bounds what should take microseconds.
const patience = 10 * time.Second

// TestForeign: the end of a transaction of ours is told from that of another
// program.
func TestForeign(t *testing.T) {
	namespace.Enter(t)
	load(t)
	conn, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	var w Writer
	if err := w.Apply(sets("10.0.0.1/32", "1.1.1.1", "1.1.1.1")); err != nil {
		t.Fatal(err)
	}
	nft(t, "add element inet smtpwall static4 { 1.1.1.1 : 1.1.1.1 }")
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	const firstNamespace = "pid:[4026531836]" // kernel: PROC_PID_INIT_INO
	for _, c := range []struct {
		by   string
		want bool
	}{{"Apply", ns != firstNamespace}, {"nft", true}} {
		messages, err := conn.Receive()
		if err != nil || len(messages) != 1 {
			t.Fatalf("%d messages, %v", len(messages), err)
		}
		if got := foreign(messages); got != c.want {
			t.Errorf("transaction of %s: foreign %v, want %v", c.by, got, c.want)
		}
	}
	if !foreign([]netlink.Message{{Data: []byte{0}}}) {
		t.Error("what cannot be read is not ours")
	}
}

// startWatch runs watch with a socket of the test's namespace until the test ends,
// and returns its calls.
func startWatch(t *testing.T, conn *netlink.Conn) <-chan struct{} {
	t.Helper()
	calls := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- watch(ctx, conn, func() {
			select {
			case calls <- struct{}{}:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("watch does not end")
		}
	})
	return calls
}

// call waits for a call of changed.
func call(t *testing.T, calls <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(patience):
		t.Fatalf("not called: %s", what)
	}
}

// TestWatch: changed is called at first and after each change.
func TestWatch(t *testing.T) {
	namespace.Enter(t)
	load(t)
	conn, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	calls := startWatch(t, conn)
	for range 10 { // while changed runs: it waits for the next line
		nft(t, "table inet other { }\ndelete table inet other\n")
	}
	call(t, calls, "at first")
	call(t, calls, "changes that came meanwhile")
	nft(t, "add element inet smtpwall static4 { 1.1.1.1 : 1.1.1.1 }")
	call(t, calls, "an element added")
	nft(t, "delete table inet smtpwall")
	call(t, calls, "the table deleted")
}

// tellsOne receives what has come to a socket, and checks that one change is told.
func tellsOne(t *testing.T, conn *netlink.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // all are there
	news := make(chan struct{}, 1)
	if err := receive(conn, news); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	if len(news) != 1 {
		t.Errorf("%d changes told", len(news))
	}
}

// TestReceiveCoalesces: of many changes that nobody has asked for one is told.
func TestReceiveCoalesces(t *testing.T) {
	namespace.Enter(t)
	conn, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 20 {
		nft(t, "table inet other { }\ndelete table inet other\n")
	}
	tellsOne(t, conn)
}

// TestReceiveOverrun: lost messages are a change.
func TestReceiveOverrun(t *testing.T) {
	namespace.Enter(t)
	load(t)
	conn, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadBuffer(1); err != nil { // the kernel's least
		t.Fatal(err)
	}
	var w Writer
	for i := range 100 { // transactions of ours, which are not told themselves
		if err := w.Apply(sets(fmt.Sprintf("10.0.0.%d/32", i), "", "")); err != nil {
			t.Fatal(err)
		}
	}
	tellsOne(t, conn)
}

// TestWatchFails: a socket that is gone ends the watch with an error.
func TestWatchFails(t *testing.T) {
	namespace.Enter(t)
	conn, err := subscribe()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := watch(t.Context(), conn, func() {}); err == nil {
		t.Error("no error")
	}
}
