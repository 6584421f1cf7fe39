package nfq

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/test/namespace"
)

// patience bounds what should take microseconds.
const patience = 10 * time.Second

// inNamespace moves the test into a network namespace of its own whose
// loopback is up and where what matches goes to queue number; the namespace
// ends with the test's thread.
func inNamespace(t *testing.T, number uint16, matches string) {
	t.Helper()
	namespace.Enter(t)
	rule := fmt.Sprintf("-w -A INPUT %s -j NFQUEUE --queue-num %d", matches, number)
	out, err := exec.Command("iptables-nft", strings.Fields(rule)...).CombinedOutput()
	if err != nil {
		t.Fatalf("iptables-nft %s: %v: %s (Debian package iptables)", rule, err, out)
	}
}

// start opens and runs a queue until the test ends. decide runs on a goroutine
// of its own, as a shard does, so that verdicts are sent while the reader waits.
func start(t *testing.T, opt Options, decide func(engine.Packet) engine.Decision) *Queue {
	t.Helper()
	q, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	packets := make(chan engine.Packet)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- q.Run(ctx, func(p engine.Packet) {
			select {
			case packets <- p:
			case <-ctx.Done():
			}
		})
		close(packets)
	}()
	go func() {
		for p := range packets {
			if err := q.Verdict(decide(p)); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("the queue does not stop")
		}
	})
	return q
}

// accept lets a packet pass.
func accept(p engine.Packet) engine.Decision { return engine.Decision{ID: p.ID, Data: p.Data} }

// TestOddLengths sends datagrams of every length modulo 4 one at a time, each
// accepted while the reader waits for the next: broken releases of
// mdlayher/netlink refuse the odd ones or never send the verdict.
func TestOddLengths(t *testing.T) {
	inNamespace(t, 3, "-p udp --dport 7")
	var in atomic.Uint32
	q := start(t, Options{Number: 3}, func(p engine.Packet) engine.Decision {
		in.Store(p.In)
		return accept(p)
	})
	server, err := net.ListenPacket("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()

	const lengths = 64
	buffer := make([]byte, 100)
	for n := 1; n <= lengths; n++ {
		if _, err := client.Write(bytes.Repeat([]byte{'x'}, n)); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(patience))
		got, _, err := server.ReadFrom(buffer)
		if err != nil {
			t.Fatalf("datagram of %d bytes: %v", n, err)
		}
		if got != n {
			t.Errorf("datagram of %d bytes arrived with %d", n, got)
		}
	}
	want := Counters{Packets: lengths}
	if got := q.Counters(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	if in.Load() != 1 {
		t.Errorf("packets came in by interface %d, want 1, the loopback", in.Load())
	}
}

// TestValues checks the settings that are read back.
func TestValues(t *testing.T) {
	inNamespace(t, 3, "-p udp --dport 7")
	q := start(t, Options{Number: 3, MaxLen: 100, ReceiveBuffer: 1 << 20}, accept)
	got := q.Values()
	got.PortID = 0
	want := Values{Status: Status{Number: 3, CopyMode: 2, CopyRange: 65531}, MaxLen: 100, ReceiveBuffer: 2 << 20}
	if got != want {
		t.Errorf("in force: %+v, want %+v", got, want)
	}
	const line = "queue 3: max length 100, copy range 65531, gso on, fail-open off, receive buffer 2097152 bytes"
	if q.String() != line {
		t.Errorf("%q, want %q", q, line)
	}
}

// TestReceiveBufferForced checks that the default is not cut to net.core.rmem_max.
func TestReceiveBufferForced(t *testing.T) {
	inNamespace(t, 3, "-p udp --dport 7")
	q := start(t, Options{Number: 3, FailOpen: true}, accept)
	if v := q.Values(); v.ReceiveBuffer != 2*DefaultReceiveBuffer || v.MaxLen != DefaultMaxLen || !v.FailOpen {
		t.Errorf("in force: %+v", v)
	}
}

// exchange sends a line over TCP port 25 of the loopback and returns what the
// server read.
func exchange(t *testing.T, line string) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	read := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			read <- err.Error()
			return
		}
		defer c.Close()
		text, err := io.ReadAll(c)
		if err != nil {
			read <- err.Error()
			return
		}
		read <- string(text)
	}()
	c, err := net.Dial("tcp4", "127.0.0.1:25")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(line)); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-read:
		return s
	case <-time.After(patience):
		t.Fatal("the line does not arrive")
	}
	return ""
}

// TestEdit replaces bytes of a TCP payload of odd length. The packet comes from
// this machine with a checksum that is not complete: only one computed in full
// arrives.
func TestEdit(t *testing.T) {
	inNamespace(t, 0, "-p tcp --dport 25")
	start(t, Options{}, func(p engine.Packet) engine.Decision {
		d := accept(p)
		if i := bytes.Index(p.Data, []byte("VRFY")); i >= 0 {
			copy(p.Data[i:], "XXXX")
			checksum(p.Data)
			d.Edited = true
		}
		return d
	})
	if got := exchange(t, "NOOP\r\nVRFY joe\r\n!"); got != "NOOP\r\nXXXX joe\r\n!" {
		t.Errorf("the server read %q", got)
	}
}

// checksum sets the TCP checksum of an IPv4 packet (RFC 9293 section 3.1).
func checksum(p []byte) {
	tcp := p[int(p[0]&15)*4:]
	tcp[16], tcp[17] = 0, 0
	sum := uint32(6 + len(tcp)) // protocol and length of the pseudo header
	for _, b := range [][]byte{p[12:20], tcp} {
		for i, v := range b {
			sum += uint32(v) << (8 * (1 - i&1))
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
}

// TestDrop drops a segment once; TCP sends it again.
func TestDrop(t *testing.T) {
	inNamespace(t, 0, "-p tcp --dport 25")
	var dropped atomic.Uint32
	start(t, Options{}, func(p engine.Packet) engine.Decision {
		d := accept(p)
		if bytes.Contains(p.Data, []byte("once")) && dropped.Add(1) == 1 {
			d.Verdict = engine.Drop
		}
		return d
	})
	if got := exchange(t, "once\r\n"); got != "once\r\n" {
		t.Errorf("the server read %q", got)
	}
	if dropped.Load() < 2 {
		t.Error("the segment was not sent again")
	}
}

// TestMarkAndRefusal sets a mark that a second queue sees beside the bits the
// packet came with, and gives a verdict on a packet that does not exist.
func TestMarkAndRefusal(t *testing.T) {
	inNamespace(t, 0, "-p udp --dport 7 -m mark --mark 0x5")
	run := func(args string) {
		if out, err := exec.Command("iptables-nft", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("iptables-nft %s: %v: %s", args, err, out)
		}
	}
	run("-w -t mangle -A OUTPUT -p udp -j MARK --set-mark 0x5")
	run("-w -A INPUT -p udp --dport 7 -m mark --mark 0x20005 -j NFQUEUE --queue-num 1")
	q := start(t, Options{}, func(p engine.Packet) engine.Decision {
		d := accept(p)
		d.Mark = engine.MarkReset
		return d
	})
	// The second queue sits on the same chain behind the first: a verdict of
	// accept leaves the chain, so it must see nothing; INPUT of table security
	// comes later.
	run("-w -t security -A INPUT -p udp --dport 7 -m mark --mark 0x20005 -j NFQUEUE --queue-num 2")
	seen := make(chan struct{}, 1)
	start(t, Options{Number: 2}, func(p engine.Packet) engine.Decision {
		seen <- struct{}{}
		return accept(p)
	})
	if err := q.Verdict(engine.Decision{ID: 4711}); err != nil {
		t.Fatal(err)
	}
	server, err := net.ListenPacket("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("marked")); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := server.ReadFrom(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-seen:
	default:
		t.Error("no packet with mark 0x20005 behind the queue")
	}
	want := Counters{Packets: 1, RefusedUnknown: 1}
	if got := q.Counters(); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// TestAlreadyBound checks the error for a queue that is in use, and that its
// owner does not suffer.
func TestAlreadyBound(t *testing.T) {
	inNamespace(t, 0, "-p tcp --dport 25")
	q := start(t, Options{}, accept)
	_, err := Open(Options{})
	if !errors.Is(err, syscall.EPERM) {
		t.Fatalf("got %v", err)
	}
	comm, _ := os.ReadFile("/proc/self/comm")
	owner := fmt.Sprintf("(netlink port %d", q.Values().PortID)
	if q.Values().PortID == uint32(os.Getpid()) {
		owner += ", " + strings.TrimSpace(string(comm))
	}
	if s := err.Error(); !strings.HasPrefix(s, "open queue 0: it is already bound by another program "+owner) {
		t.Errorf("error is %q", s)
	}
	if got := exchange(t, "still\r\n"); got != "still\r\n" {
		t.Errorf("the server read %q", got)
	}
}

// TestNoPrivilege opens a queue as nobody.
func TestNoPrivilege(t *testing.T) {
	inNamespace(t, 0, "-p tcp --dport 25")
	// The thread alone loses its user: it dies with the test.
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
		t.Fatal(e)
	}
	_, err := Open(Options{})
	if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN is missing") {
		t.Errorf("got %v", err)
	}
}

// TestOpenUnderTraffic binds a queue again and again while packets arrive. The
// set-up reads replies from the socket that packets come on.
func TestOpenUnderTraffic(t *testing.T) {
	inNamespace(t, 0, "-p udp --dport 7")
	server, err := net.ListenPacket("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.Dial("udp4", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() {
		for {
			if _, err := client.Write([]byte("flood")); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}()
	for range 20 {
		q, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		err = q.Run(ctx, func(p engine.Packet) {
			if err := q.Verdict(accept(p)); err != nil {
				t.Error(err)
			}
			stop()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
