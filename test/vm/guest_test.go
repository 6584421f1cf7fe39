//go:build guest

package vm

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/google/go-cmp/cmp"
)

// The tests of this file run as root in the guest, in its first namespace: they
// show that the kernel has what the others rely on.

// TestGuestShipped loads the files as the package installs them: the ruleset
// twice, which must change nothing, then the variant that fails open.
func TestGuestShipped(t *testing.T) {
	t.Cleanup(func() { command(t, "", "nft", "flush", "ruleset") })
	const closed, open = "/etc/smtpwall/smtpwall.nft", "/etc/smtpwall/divert-open.nft"
	load := func(file string) (ruleset string) {
		command(t, "", "nft", "-f", file)
		return command(t, "", "nft", "--stateless", "list", "ruleset")
	}
	first, second := load(closed), load(closed)
	if diff := cmp.Diff(strings.Split(first, "\n"), strings.Split(second, "\n")); diff != "" {
		t.Errorf("loaded again, the ruleset differs (-first +second):\n%s", diff)
	}
	for _, tt := range []struct {
		file, ruleset string
		queues        []string // every queue statement, in order
	}{
		{closed, second, []string{"queue to symhash mod 4", "queue to 4"}},
		{open, load(open), []string{"queue flags bypass to symhash mod 4", "queue flags bypass to 4"}},
	} {
		var got []string
		for rule := range strings.Lines(tt.ruleset) {
			if rule = strings.TrimSpace(rule); strings.HasPrefix(rule, "queue ") {
				got = append(got, rule)
			}
		}
		if diff := cmp.Diff(tt.queues, got); diff != "" {
			t.Errorf("%s: queue statements (-want +got):\n%s", tt.file, diff)
		}
	}
}

// TestGuestSysctl sets what the package sets: each name exists on this kernel.
func TestGuestSysctl(t *testing.T) {
	out := command(t, "", "sysctl", "-p", "/etc/smtpwall/sysctl.d/smtpwall.conf")
	if !strings.Contains(out, "net.netfilter.nf_conntrack_events = 1\n") || strings.Contains(out, "error") {
		t.Errorf("sysctl -p printed:\n%s", out) // busybox's exits 0 on an unknown key
	}
}

// sighting is one packet that came through a queue.
type sighting struct {
	queue    uint16
	client   uint16 // the client's port, which names the flow
	toServer bool
	ct       bool // conntrack attributes came with it
}

// TestGuestQueue sends flows over loopback through native queue statements: both
// directions of a flow come to one queue, flows spread, and each packet brings
// its conntrack entry.
func TestGuestQueue(t *testing.T) {
	const flows, queues = 16, 4
	t.Cleanup(func() { command(t, "", "nft", "flush", "ruleset") })
	command(t, `table inet guest {
		chain output {
			type filter hook output priority filter
			ct state invalid drop
			tcp dport 2525 queue to symhash mod 4
			tcp sport 2525 queue to symhash mod 4
		}
	}`, "nft", "-f", "-")
	var seen sightings
	for q := range uint16(queues) {
		readQueue(t, q, &seen)
	}
	server, err := net.Listen("tcp4", "127.0.0.1:2525")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go echo(server)
	var clients []uint16
	for range flows {
		clients = append(clients, exchange(t, server.Addr().String()))
	}
	checkSightings(t, clients, seen.take())
}

// checkSightings looks at the packets of the clients' flows; others are FINs of
// an earlier run, sent again.
func checkSightings(t *testing.T, clients []uint16, seen []sighting) {
	t.Helper()
	used := map[uint16]bool{}
	for _, client := range clients {
		queues := map[uint16]bool{}
		var toServer, toClient, bare int
		for _, s := range seen {
			if s.client != client {
				continue
			}
			queues[s.queue], used[s.queue] = true, true
			if s.toServer {
				toServer++
			} else {
				toClient++
			}
			if !s.ct {
				bare++
			}
		}
		// At least SYN, ACK, data; SYN-ACK, data.
		if len(queues) != 1 || toServer < 3 || toClient < 2 || bare > 0 {
			t.Errorf("port %d: queues %v, %d packets to the server, %d back, %d without conntrack attributes; want one queue, at least 3 and 2, and 0",
				client, queues, toServer, toClient, bare)
		}
	}
	if len(used) < 2 {
		t.Errorf("%d flows came to queues %v, want more than one", len(clients), used)
	}
}

// TestGuestNetem shows that netem delays: a handshake over loopback pays twice.
func TestGuestNetem(t *testing.T) {
	const delay = 200 * time.Millisecond
	server, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	command(t, "", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "200ms")
	t.Cleanup(func() { command(t, "", "tc", "qdisc", "del", "dev", "lo", "root") })
	start := time.Now()
	conn, err := net.Dial("tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if took := time.Since(start); took < 2*delay {
		t.Errorf("the handshake took %v, want at least %v", took, 2*delay)
	}
}

// sightings collects from the queues' goroutines.
type sightings struct {
	mu   sync.Mutex
	list []sighting
}

// add notes one packet.
func (s *sightings) add(one sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, one)
}

// take returns what was noted so far.
func (s *sightings) take() []sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// queueBuffer holds what comes to a queue while its reader waits for the CPU, in
// octets.
const queueBuffer = 16 << 20

// readQueue accepts all packets of a queue until the test ends, noting each
// before its verdict if seen is given.
func readQueue(t *testing.T, queue uint16, seen *sightings) {
	t.Helper()
	q, err := nfqueue.Open(&nfqueue.Config{
		NfQueue:      queue,
		MaxPacketLen: 0xffff,
		Copymode:     nfqueue.NfQnlCopyPacket,
		Flags:        nfqueue.NfQaCfgFlagConntrack, // refused without the kernel's conntrack glue
	})
	if err != nil {
		t.Fatalf("open queue %d: %v", queue, err)
	}
	if err := q.Con.SetReadBuffer(queueBuffer); err != nil {
		t.Fatalf("queue %d: %v", queue, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); q.Close() })
	err = q.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
		if seen != nil {
			seen.add(sightingOf(queue, a))
		}
		if err := q.SetVerdict(*a.PacketID, nfqueue.NfAccept); err != nil && ctx.Err() == nil {
			t.Errorf("queue %d: %v", queue, err)
		}
		return 0
	}, func(err error) int {
		if ctx.Err() == nil {
			t.Errorf("queue %d: %v", queue, err)
		}
		return 1
	})
	if err != nil {
		t.Fatalf("read queue %d: %v", queue, err)
	}
}

// sightingOf is what a packet of TestGuestQueue shows.
func sightingOf(queue uint16, a nfqueue.Attribute) sighting {
	tcp := (*a.Payload)[int((*a.Payload)[0]&0xf)*4:]
	from, to := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	if from == 2525 {
		return sighting{queue: queue, client: to, ct: a.Ct != nil}
	}
	return sighting{queue: queue, client: from, toServer: true, ct: a.Ct != nil}
}

// echo serves one byte a connection until the listener closes.
func echo(server net.Listener) {
	for {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		io.CopyN(conn, conn, 1)
		conn.Close()
	}
}

// exchange sends one byte to the echo server, waits for it to come back, and
// returns the client's port.
func exchange(t *testing.T, addr string) uint16 {
	t.Helper()
	conn, err := net.DialTimeout("tcp4", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return uint16(conn.LocalAddr().(*net.TCPAddr).Port)
}

// command runs a program with stdin and returns what it printed.
func command(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("run %s: %v\n%s", cmd, err, out)
	}
	return string(out)
}
