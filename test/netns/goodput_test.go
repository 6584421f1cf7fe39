//go:build goodput

package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
	"github.com/smtpwall/smtpwall/test/goodput"
)

// mostAdded is what the inspection may add to the round trip of a command, in ms.
const mostAdded = 2.0

// TestGoodput sends a mail over a link that loses 1 % of the client's packets,
// lets 1 % overtake the others, and delays 20 ms.
func TestGoodput(t *testing.T) {
	w := newGoodputWall(t)
	text := goodput.Message(goodput.MailSize)
	for _, control := range w.congestionControls(t) {
		t.Run(control, func(t *testing.T) {
			result := goodput.Compare(t, w.treat, func(t *testing.T, k goodput.Kind, run int) float64 {
				fates := w.begin(uint64(run))
				s := goodput.NewSession(t, w.connect(t, control))
				defer s.Close()
				before := w.passed(t)
				rate := s.Mail(t, text)
				t.Logf("%v, %d left the link more than %v late", fates, w.late(), tooLate)
				w.checkPassed(t, k, before)
				return rate
			})
			result.Print(t, fmt.Sprintf("goodput of a mail of %d MiB, KiB/s, sent with %s", goodput.MailSize>>20, control))
			if r := result.Ratio(); r < goodput.LeastRatio {
				t.Errorf("goodput with inspection is %.2f of what it is without, want at least %.2f", r, goodput.LeastRatio)
			}
		})
	}
}

// TestGoodputLatency waits for the reply to each of many commands, on a link that
// only delays.
func TestGoodputLatency(t *testing.T) {
	w := newGoodputWall(t)
	result := goodput.Compare(t, w.treat, func(t *testing.T, k goodput.Kind, _ int) float64 {
		s := goodput.NewSession(t, w.connect(t, ""))
		defer s.Close()
		before := w.passed(t)
		each := s.NOOPs(t, goodput.NOOPCount)
		w.checkPassed(t, k, before)
		return each
	})
	result.Print(t, "round trip of a command, ms")
	t.Logf("%d packets left the link more than %v late", w.late(), tooLate)
	if added := result.Added(); added >= mostAdded {
		t.Errorf("the inspection adds %.2f ms to a round trip, want less than %.0f", added, mostAdded)
	}
}

// goodputWall is a firewall that runs smtpwall, behind a link of ours, with a
// server that takes every mail.
type goodputWall struct {
	*wall
	*wire
}

// newGoodputWall builds it.
func newGoodputWall(t *testing.T) goodputWall {
	t.Helper()
	w := goodputWall{wall: newWall(t, lab.Options{}, "")}
	w.stop(t)
	w.wire = rewire(t, w.Lab)
	w.start(t) // it knows the interfaces that there were when it started
	ln, err := w.Listen(lab.Server, lab.ServerIP4+":25")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go goodput.Serve(ln)
	w.acceptAll(t)
	return w
}

// congestionControls are those of the sender: the one that this kernel takes by
// itself, and that of a stock Debian kernel. They differ: BBR takes the round trip
// of a packet that overtook for the link's, and keeps few packets underway.
func (w goodputWall) congestionControls(t *testing.T) []string {
	t.Helper()
	out, err := w.Command(lab.Client, "sysctl", "-n", "net.ipv4.tcp_congestion_control").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Compact([]string{strings.TrimSpace(string(out)), "cubic"})
}

// connect opens a connection of the client with a congestion control, or with the
// kernel's own. It is set on the socket: a namespace may not take every one of
// them for its default.
func (w goodputWall) connect(t *testing.T, control string) net.Conn {
	t.Helper()
	conn, err := w.Dial(lab.Client, lab.ServerIP4+":25", liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	if control == "" {
		return conn
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, control)
	})
	if err := errors.Join(err, set); err != nil {
		t.Fatalf("set congestion control %s: %v (modprobe tcp_%s)", control, err, control)
	}
	return conn
}

// passages are how many packets have come to the daemon's queues, and to the one
// that accepts everything.
type passages struct{ inspected, accepted uint64 }

// passed reads them.
func (w goodputWall) passed(t *testing.T) (p passages) {
	t.Helper()
	queues, err := w.Queues()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		if q.ID == acceptQueue {
			p.accepted += q.Packets
		} else {
			p.inspected += q.Packets
		}
	}
	return p
}

// checkPassed fails unless the packets since before took the way of their kind. A
// few belong to the end of another session.
func (w goodputWall) checkPassed(t *testing.T, k goodput.Kind, before passages) {
	t.Helper()
	const few = 10
	now := w.passed(t)
	inspected, accepted := now.inspected-before.inspected, now.accepted-before.accepted
	if inspected > few != (k == goodput.Inspected) || accepted > few != (k == goodput.Queued) {
		t.Errorf("%s: %d packets came to the daemon, %d to the program that accepts everything", k, inspected, accepted)
	}
}

// acceptQueue is a queue whose packets are accepted unread.
const acceptQueue = 100

// acceptAll accepts them until the test ends.
func (w goodputWall) acceptAll(t *testing.T) {
	t.Helper()
	q, err := nfqueue.Open(&nfqueue.Config{
		NetNS: w.FD(lab.Firewall), NfQueue: acceptQueue, MaxPacketLen: 0xffff, MaxQueueLen: 8192,
		Copymode: nfqueue.NfQnlCopyPacket, Flags: nfqueue.NfQaCfgFlagGSO,
	})
	if err != nil {
		t.Fatalf("open queue %d: %v", acceptQueue, err)
	}
	if err := q.Con.SetReadBuffer(64 << 20); err != nil {
		t.Fatalf("queue %d: %v", acceptQueue, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); q.Close() })
	err = q.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
		if err := q.SetVerdict(*a.PacketID, nfqueue.NfAccept); err != nil && ctx.Err() == nil {
			t.Errorf("queue %d: %v", acceptQueue, err)
		}
		return 0
	}, func(err error) int {
		if ctx.Err() == nil {
			t.Errorf("queue %d: %v", acceptQueue, err)
		}
		return 1
	})
	if err != nil {
		t.Fatalf("read queue %d: %v", acceptQueue, err)
	}
}

// treat says what becomes of connections from now on. What goes to the program
// that accepts everything is exempt besides: it passes one queue, as inspected
// mail does. That queue is filled by iptables, because not every kernel has nft's
// queue statement.
func (w goodputWall) treat(t *testing.T, k goodput.Kind) {
	t.Helper()
	onHost(t, w.Lab, lab.Firewall, "iptables", "-t", "mangle", "-F", "FORWARD")
	nft(t, w.Lab, "flush set inet smtpwall exempt4")
	if k != goodput.Inspected {
		nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ClientIP4+" }")
	}
	if k == goodput.Queued {
		for _, port := range []string{"--dport", "--sport"} {
			onHost(t, w.Lab, lab.Firewall, "iptables", "-t", "mangle", "-A", "FORWARD", "-p", "tcp", port, "25", "-j", "NFQUEUE", "--queue-num", fmt.Sprint(acceptQueue))
		}
	}
}

// echoes sends numbered datagrams from the client to the firewall, which sends
// them back, and returns those that came, in their order. Ten go at once, two
// hundred times a second: the speed of a mail.
func echoes(t *testing.T, l *lab.Lab, datagrams int) (got []echoed) {
	t.Helper()
	near, far := packetConn(t, l, lab.Client, lab.ClientIP4), packetConn(t, l, lab.Firewall, lab.OutsideIP4)
	go func() {
		var b [8]byte
		for {
			n, from, err := far.ReadFrom(b[:])
			if err != nil {
				return
			}
			_, _ = far.WriteTo(b[:n], from)
		}
	}()
	sent := make([]time.Time, datagrams) // written before the datagram goes, read when it has come back
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := range sent {
			if i%10 == 0 {
				<-tick.C
			}
			sent[i] = time.Now()
			_, _ = near.WriteTo(binary.BigEndian.AppendUint64(nil, uint64(i)), far.LocalAddr())
		}
		_ = near.SetReadDeadline(time.Now().Add(time.Second))
	}()
	for {
		var b [8]byte
		if _, _, err := near.ReadFrom(b[:]); err != nil {
			return got
		}
		i := int(binary.BigEndian.Uint64(b[:]))
		got = append(got, echoed{i, time.Since(sent[i])})
	}
}

// packetConn opens a UDP socket on a host until the test ends.
func packetConn(t *testing.T, l *lab.Lab, on lab.Host, address string) (c net.PacketConn) {
	t.Helper()
	err := l.Do(on, func() (err error) {
		c, err = net.ListenPacket("udp4", net.JoinHostPort(address, "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echoed is a datagram that came back.
type echoed struct {
	number int
	took   time.Duration
}

// TestGoodputLink shows that the link does what it should, and nothing else: of
// datagrams that the firewall sends back, exactly those come back, in exactly the
// order, that the pattern says, and one that is delayed takes 20 ms and little more.
func TestGoodputLink(t *testing.T) {
	const seed, datagrams = 7, 4000
	l := newLab(t, lab.Options{})
	w := rewire(t, l)
	fates := newPattern(seed)
	var fate [datagrams]fate
	want := map[int]bool{}
	for i := range fate {
		fate[i] = fates.next()
		want[i] = fate[i] != vanishes
	}
	w.begin(seed)
	got := echoes(t, l, datagrams)

	var slow []time.Duration
	last := -1
	for _, e := range got {
		if !want[e.number] {
			t.Errorf("datagram %d came back although it was lost or had come", e.number)
		}
		delete(want, e.number)
		switch {
		case fate[e.number] == overtakes && e.took >= linkDelay:
			t.Errorf("datagram %d overtook nothing: it took %v", e.number, e.took)
		case fate[e.number] == delayed && (e.took < linkDelay || e.number < last):
			t.Errorf("datagram %d took %v, and came behind %d", e.number, e.took, last)
		}
		if fate[e.number] == delayed {
			last = e.number
			slow = append(slow, e.took)
		}
	}
	for i, missing := range want {
		if missing {
			t.Errorf("datagram %d, of fate %d, did not come back", i, fate[i])
		}
	}
	slices.Sort(slow)
	median, late := slow[len(slow)/2], slow[len(slow)*99/100]
	t.Logf("%v; the round trip of a delayed one: median %v, 99 of 100 within %v; %d left the link more than %v late", fates, median, late, w.late(), tooLate)
	if median > linkDelay+500*time.Microsecond {
		t.Errorf("the round trip of a delayed datagram takes %v, want %v and at most half a millisecond", median, linkDelay)
	}
}
