//go:build guest

package vm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// What the tests of this file measure, and how well it must go.
const (
	linkRuns    = 5        // of each kind, one after the other in turn
	linkMail    = 20 << 20 // octets of the message
	linkNOOPs   = 200      // round trips
	leastRatio  = 0.9      // of goodput, inspected to exempt
	mostLatency = 10.0     // ms that the inspection may add to a round trip: emulated, it takes 5; a packet that waits for TCP's time-out, 200
)

// TestLinkGoodput sends a mail over a link that loses 1 % of the client's
// packets, lets 1 % overtake the others, and delays 20 ms.
func TestLinkGoodput(t *testing.T) {
	w := newLinkWall(t, "delay", "20ms", "loss", "1%", "reorder", "1%")
	text := linkMessage(linkMail)
	result := compare(t, w, func(t *testing.T) float64 {
		s := w.connect(t)
		defer s.close()
		s.command(t, "MAIL FROM:<a@example.org>\r\n", "250")
		s.command(t, "RCPT TO:<b@example.net>\r\n", "250")
		s.command(t, "DATA\r\n", "354")
		start := time.Now()
		s.command(t, text, "250")
		return float64(len(text)) / 1024 / time.Since(start).Seconds()
	})
	result.print(t, fmt.Sprintf("goodput of a mail of %d MiB, KiB/s", linkMail>>20))
	if part := result.median(inspected) / result.median(exempt); part < leastRatio {
		t.Errorf("goodput with inspection is %.2f of what it is without, want at least %.2f", part, leastRatio)
	}
}

// TestLinkLatency waits for the reply to each of many commands, on a link that
// only delays.
func TestLinkLatency(t *testing.T) {
	w := newLinkWall(t, "delay", "20ms")
	result := compare(t, w, func(t *testing.T) float64 {
		s := w.connect(t)
		defer s.close()
		start := time.Now()
		for range linkNOOPs {
			s.command(t, "NOOP\r\n", "250")
		}
		return float64(time.Since(start).Microseconds()) / 1000 / linkNOOPs
	})
	result.print(t, "round trip of a command, ms")
	if added := result.median(inspected) - result.median(exempt); added > mostLatency {
		t.Errorf("the inspection adds %.2f ms to a round trip, want at most %.0f", added, mostLatency)
	}
}

// linkWall is a lab whose firewall runs smtpwall, whose client's link has a
// qdisc, and whose server takes every mail.
type linkWall struct {
	*lab.Lab
}

// newLinkWall builds the lab and starts the daemon. netem is what the client's
// packets suffer, before the firewall.
func newLinkWall(t *testing.T, netem ...string) *linkWall {
	t.Helper()
	l, err := lab.New(strings.ToLower(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	w := &linkWall{l}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := l.LoadRuleset(filepath.Join(root, "nft"), lab.Options{}); err != nil {
		t.Fatal(err)
	}
	// One segment to a packet, as on a wire: else one loss would take a GSO
	// packet of many.
	w.on(t, lab.Client, "ip", "link", "set", "dev", lab.Outside, "gso_max_segs", "1")
	w.on(t, lab.Client, "tc", append([]string{"qdisc", "add", "dev", lab.Outside, "root", "netem", "limit", "20000"}, netem...)...)
	w.serve(t)
	w.daemon(t)
	w.acceptAll(t)
	return w
}

// on runs a program on a host.
func (w *linkWall) on(t *testing.T, h lab.Host, name string, args ...string) {
	t.Helper()
	if out, err := w.Command(h, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s %v on %s: %v: %s", name, args, h, err, out)
	}
}

// daemon runs smtpwall on the firewall until the test ends.
func (w *linkWall) daemon(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	exe, err := filepath.Abs(filepath.Join(root, "bin/smtpwall"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.Command(lab.Firewall, exe, "run", "--control", filepath.Join(dir, "control.sock"), "--audit", "file:"+filepath.Join(dir, "audit"))
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.account(t, exe, filepath.Join(dir, "control.sock"))
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the daemon ended with %v", err)
		}
	})
	var said strings.Builder
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=ready") {
			go io.Copy(io.Discard, log)
			return
		}
		said.WriteString(lines.Text() + "\n")
	}
	t.Fatalf("the daemon ended before it was ready:\n%s", &said)
}

// account prints what the daemon counted, and fails if the kernel dropped a
// packet for want of room.
func (w *linkWall) account(t *testing.T, exe, control string) {
	out, err := exec.Command(exe, "show", "service-policy", "--control", control).CombinedOutput()
	if err != nil {
		t.Errorf("show service-policy: %v", err)
	}
	t.Logf("show service-policy:\n%s", out)
	queues, err := w.Queues()
	if err != nil {
		t.Error(err)
	}
	for _, q := range queues {
		if q.Dropped+q.UserDropped > 0 {
			t.Errorf("queue %d: %d packets dropped because it was full, %d because its socket was", q.ID, q.Dropped, q.UserDropped)
		}
	}
}

// serve runs a server that answers every command and takes every mail, until the
// test ends.
func (w *linkWall) serve(t *testing.T) {
	t.Helper()
	ln, err := w.Listen(lab.Server, lab.ServerIP4+":25")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go sink(conn)
		}
	}()
}

// sink is the server's side of a connection.
func sink(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1<<16)
	fmt.Fprint(conn, "220 sink\r\n")
	data := false
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case data && string(line) == ".\r\n":
			data = false
			fmt.Fprint(conn, "250 taken\r\n")
		case data:
		case string(line) == "DATA\r\n":
			data = true
			fmt.Fprint(conn, "354 go\r\n")
		default:
			fmt.Fprint(conn, "250 ok\r\n")
		}
	}
}

// kind is what becomes of the client's mail on the firewall.
type kind int

// The kinds. On an emulated machine the way through a queue takes longer than on
// any other, and a sender that loses packets is slower the longer the round trip:
// queued shows what of it is the queue's.
const (
	inspected kind = iota
	queued         // to a program that accepts everything
	exempt
	numKinds
)

// String names the kind in the table.
func (k kind) String() string { return [numKinds]string{"inspected", "queued", "exempt"}[k] }

// acceptQueue is the first of four queues whose packets are accepted unread.
const acceptQueue = 100

// acceptAll accepts what comes to those queues: the packets of the hosts in a set
// of ours.
func (w *linkWall) acceptAll(t *testing.T) {
	t.Helper()
	for n := range uint16(4) {
		err := w.Do(lab.Firewall, func() error { readQueue(t, acceptQueue+n, nil); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	w.nft(t, "add set inet smtpwall queued { type ipv4_addr; }")
	w.nft(t, fmt.Sprintf("insert rule inet smtpwall divert ip daddr @queued queue to symhash mod 4 offset %d", acceptQueue))
	w.nft(t, fmt.Sprintf("insert rule inet smtpwall divert ip saddr @queued queue to symhash mod 4 offset %d", acceptQueue))
}

// nft changes the firewall's ruleset.
func (w *linkWall) nft(t *testing.T, command string) {
	t.Helper()
	if _, err := w.NFT(command); err != nil {
		t.Fatal(err)
	}
}

// treat says what becomes of connections from now on.
func (w *linkWall) treat(t *testing.T, k kind) {
	t.Helper()
	w.nft(t, "flush set inet smtpwall exempt4; flush set inet smtpwall queued")
	if set := [numKinds]string{queued: "queued", exempt: "exempt4"}[k]; set != "" {
		w.nft(t, "add element inet smtpwall "+set+" { "+lab.ClientIP4+" }")
	}
}

// linkSession is a client's side of a connection.
type linkSession struct {
	conn    net.Conn
	replies *bufio.Reader
}

// connect opens a session and takes the greeting.
func (w *linkWall) connect(t *testing.T) *linkSession {
	t.Helper()
	conn, err := w.Dial(lab.Client, lab.ServerIP4+":25", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := &linkSession{conn, bufio.NewReader(conn)}
	s.command(t, "", "220")
	s.command(t, "EHLO client.example.org\r\n", "250")
	return s
}

// command sends text and takes a reply of one line, of the code given.
func (s *linkSession) command(t *testing.T, text, code string) {
	t.Helper()
	s.conn.SetDeadline(time.Now().Add(10 * time.Minute))
	if _, err := io.WriteString(s.conn, text); err != nil {
		t.Fatal(err)
	}
	reply, err := s.replies.ReadString('\n')
	if err != nil || !strings.HasPrefix(reply, code) {
		t.Fatalf("reply %q, error %v; want %s", reply, err, code)
	}
}

// close ends the session at once.
func (s *linkSession) close() { s.conn.Close() }

// linkMessage is a message of some octets in its transfer form. No line of it
// begins with a dot.
func linkMessage(size int) string {
	var b bytes.Buffer
	b.WriteString("Subject: goodput\r\n\r\n")
	for b.Len() < size {
		b.WriteString("The quick brown fox jumps over the lazy dog, and the lazy dog does not care.\r\n")
	}
	b.WriteString(".\r\n")
	return b.String()
}

// comparison is what was measured, in the order of the runs.
type comparison [numKinds][]float64

// compare measures each kind in turn.
func compare(t *testing.T, w *linkWall, measure func(t *testing.T) float64) (c comparison) {
	t.Helper()
	for range linkRuns {
		for k := range numKinds {
			w.treat(t, k)
			c[k] = append(c[k], measure(t))
			t.Logf("%s: %.2f", k, c[k][len(c[k])-1])
		}
	}
	return c
}

// median is the middle one of the runs of a kind.
func (c *comparison) median(k kind) float64 {
	sorted := slices.Sorted(slices.Values(c[k]))
	return sorted[len(sorted)/2]
}

// print writes the table.
func (c *comparison) print(t *testing.T, what string) {
	table := fmt.Sprintf("%-10s %10s %10s   runs\n", "", "median", "inspected")
	for k := range numKinds {
		table += fmt.Sprintf("%-10s %10.2f %10.2f   %.2f\n", k, c.median(k), c.median(inspected)/c.median(k), c[k])
	}
	t.Logf("%s, and the inspected ones' part of it:\n%s", what, table)
}
