//go:build guest

package vm

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
	"github.com/smtpwall/smtpwall/test/goodput"
)

// mostLatency is what the inspection may add to a round trip, in ms: emulated, it
// takes 5; a packet that waits for TCP's time-out, 200.
const mostLatency = 10.0

// TestLinkGoodput sends a mail over a link that loses 1 % of the client's
// packets, lets 1 % overtake the others, and delays 20 ms. A pass through any queue
// takes longer here than on a machine that nothing emulates, and a sender that
// loses packets is slower the longer the round trip: what is queued and accepted
// unread falls short as well. test/netns has the same link natively.
func TestLinkGoodput(t *testing.T) {
	w := newLinkWall(t, "delay", "20ms", "loss", "1%", "reorder", "1%")
	text := goodput.Message(goodput.MailSize)
	result := goodput.Compare(t, w.treat, func(t *testing.T, _ goodput.Kind, _ int) float64 {
		s := w.session(t)
		defer s.Close()
		return s.Mail(t, text)
	})
	result.Print(t, fmt.Sprintf("goodput of a mail of %d MiB, KiB/s", goodput.MailSize>>20))
	if part := result.Ratio(); part < goodput.LeastRatio {
		t.Errorf("goodput with inspection is %.2f of what it is without, want at least %.2f", part, goodput.LeastRatio)
	}
}

// TestLinkLatency waits for the reply to each of many commands, on a link that
// only delays.
func TestLinkLatency(t *testing.T) {
	w := newLinkWall(t, "delay", "20ms")
	result := goodput.Compare(t, w.treat, func(t *testing.T, _ goodput.Kind, _ int) float64 {
		s := w.session(t)
		defer s.Close()
		return s.NOOPs(t, goodput.NOOPCount)
	})
	result.Print(t, "round trip of a command, ms")
	if added := result.Added(); added > mostLatency {
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
	go goodput.Serve(ln)
}

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
func (w *linkWall) treat(t *testing.T, k goodput.Kind) {
	t.Helper()
	w.nft(t, "flush set inet smtpwall exempt4; flush set inet smtpwall queued")
	if set := map[goodput.Kind]string{goodput.Queued: "queued", goodput.Exempt: "exempt4"}[k]; set != "" {
		w.nft(t, "add element inet smtpwall "+set+" { "+lab.ClientIP4+" }")
	}
}

// session connects the client.
func (w *linkWall) session(t *testing.T) *goodput.Session {
	t.Helper()
	conn, err := w.Dial(lab.Client, lab.ServerIP4+":25", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return goodput.NewSession(t, conn)
}
