package netns

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
	"github.com/smtpwall/smtpwall/test/goodput"
)

// floodFor is how long the SYN flood lasts. `make synflood` has it last a minute,
// and compares.
var floodFor = flag.Duration("synflood", 3*time.Second, "how long the SYN flood of TestLimitFlood lasts")

const (
	spoofed   = 50_000 // source addresses of the flood
	floodNet4 = "10.64.0.0/16"
	floodNet6 = "fd09:64::/112"
	delivery  = 15 * time.Second // what a client waits for at most; a mail server waits for minutes
	deliverIn = 4                // clients at a time
)

// flood sends SYNs to an address from so many invented ones until stop is called,
// as fast as the machine does, and returns how many there were.
func flood(t *testing.T, l *lab.Lab, to netip.AddrPort, sources int) (stop func() uint64) {
	t.Helper()
	var index int
	var mac net.HardwareAddr
	fd := -1
	err := l.Do(lab.Client, func() error {
		link, err := netlink.LinkByName(lab.Outside)
		if err != nil {
			return err
		}
		index = link.Attrs().Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = l.Do(lab.Firewall, func() error {
		link, err := netlink.LinkByName(lab.Outside)
		if err != nil {
			return err
		}
		mac = link.Attrs().HardwareAddr
		from, gateway := floodNet4, lab.ClientIP4
		if to.Addr().Is6() {
			from, gateway = floodNet6, lab.ClientIP6
		}
		_, dst, err := net.ParseCIDR(from)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(gateway)})
	})
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Uint64
	var stopped atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		defer unix.Close(fd)
		frames := floodFrames(to, mac, sources)
		for i := 0; !stopped.Load(); i = (i + 1) % len(frames) {
			if err := unix.Sendto(fd, frames[i], 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6}); err == nil {
				sent.Add(1)
			}
		}
	})
	return func() uint64 {
		stopped.Store(true)
		done.Wait()
		return sent.Load()
	}
}

// floodFrames are SYNs, each from another address and port.
func floodFrames(to netip.AddrPort, mac net.HardwareAddr, sources int) [][]byte {
	random := rand.New(rand.NewPCG(3, 4))
	from, etherType := netip.MustParsePrefix(floodNet4).Addr().AsSlice(), []byte{0x08, 0x00}
	if to.Addr().Is6() {
		from, etherType = netip.MustParsePrefix(floodNet6).Addr().AsSlice(), []byte{0x86, 0xdd}
	}
	frames := make([][]byte, sources)
	for i := range frames {
		binary.BigEndian.PutUint16(from[len(from)-2:], uint16(i+256))
		addr, _ := netip.AddrFromSlice(from)
		syn := crafted{seq: random.Uint32(), flags: flagSYN, window: 64240, options: []byte{2, 4, 5, 180}, ttl: 64}
		frame := slices.Concat(mac, []byte{2, 0, 0, 0, 0, 1}, etherType)
		frames[i] = append(frame, syn.packet(netip.AddrPortFrom(addr, uint16(1024+random.IntN(60000))), to)...)
	}
	return frames
}

// deliver sends one mail.
func deliver(l *lab.Lab, address string) error {
	conn, err := l.Dial(lab.Client, net.JoinHostPort(address, "25"), delivery)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(delivery))
	c, err := smtp.NewClient(conn, address)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return c.Hello("client.example.org") },
		func() error { return c.Mail("alice@example.org") },
		func() error { return c.Rcpt("bob@example.net") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	text, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(text, "Subject: flood\r\n\r\nstill here\r\n"); err != nil {
		return err
	}
	if err := text.Close(); err != nil {
		return err
	}
	_, err = conn.Write([]byte("QUIT\r\n")) // its reply is not waited for: the mail has arrived
	return err
}

// take has the server take every mail until the test ends. A socket of both families
// would not tell which of its connections are IPv4.
func take(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, address := range []string{lab.ServerIP4, lab.ServerIP6} {
		ln, err := l.Listen(lab.Server, net.JoinHostPort(address, "25"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go goodput.Serve(ln)
	}
}

// deliveries sends mails, several at a time, until stop is closed, and returns how
// many there were and how many of them arrived.
func deliveries(l *lab.Lab, address string, stop <-chan struct{}) (all, arrived int, worst time.Duration, errs []error) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	for range deliverIn {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				err := deliver(l, address)
				mu.Lock()
				all++
				if err == nil {
					arrived++
					worst = max(worst, time.Since(start))
				} else {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return all, arrived, worst, errs
}

// usage is what a process has used.
type usage struct {
	cpu time.Duration
	rss uint64 // octets
}

// since is the share of a core that was used since before, in percent.
func (u usage) since(before usage, d time.Duration) float64 {
	return 100 * (u.cpu - before.cpu).Seconds() / d.Seconds()
}

// usage reads what the daemon has used.
func (w *wall) usage(t *testing.T) usage {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", w.process.Process.Pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile(dir + "statm")
	if err != nil {
		t.Fatal(err)
	}
	number := func(text string, field int) uint64 {
		n, err := strconv.ParseUint(strings.Fields(text)[field], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	_, behind, _ := strings.Cut(string(stat), ") ") // the name may hold spaces
	ticks := number(behind, 11) + number(behind, 12)
	return usage{time.Duration(ticks) * 10 * time.Millisecond, number(string(statm), 1) * uint64(os.Getpagesize())}
}

// While invented addresses flood a server with SYNs, mail is delivered: the server
// enters intercept, though its limit of half-open connections is above that of
// all, and the daemon has nothing to do.
func TestLimitFlood(t *testing.T) {
	for _, limits := range []string{"tcp 200 100", "tcp 50 100"} {
		t.Run(limits, func(t *testing.T) {
			steadyMemory(t)
			w := newWall(t, withElements(t, "static.nft", limited(limits)), "")
			addRoute(t, w.Lab, globalIP4)
			take(t, w.Lab)
			if err := deliver(w.Lab, globalIP4); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), spoofed)
			eventually(t, "the server is in intercept", func() bool { return w.static(t, globalIP4).Intercept })
			entered := time.Since(start)
			w.idles(t)

			before, mailing := w.usage(t), time.Now()
			stop := make(chan struct{})
			time.AfterFunc(*floodFor, func() { close(stop) })
			all, arrived, worst, errs := deliveries(w.Lab, globalIP4, stop)
			mailed, after := time.Since(mailing), w.usage(t)
			sent, flooded := stopFlood(), time.Since(start)

			h := w.static(t, globalIP4)
			t.Logf("%d SYNs in %.1f s (%.0f a second); in intercept after %v; %d of %d mails delivered, the slowest in %v; the daemon used %.1f %% of a core and grew by %d KiB; %+v",
				sent, flooded.Seconds(), float64(sent)/flooded.Seconds(), entered.Round(time.Millisecond), arrived, all, worst.Round(time.Millisecond),
				after.since(before, mailed), int64(after.rss-before.rss)>>10, h)
			if arrived*100 < all*99 || all == 0 {
				t.Errorf("%d of %d mails delivered, want 99 in 100; errors: %v", arrived, all, errs[:min(5, len(errs))])
			}
			if h.Intercepted == 0 || h.Denied > 0 {
				t.Errorf("%d SYNs intercepted, %d denied", h.Intercepted, h.Denied)
			}
			if len(w.of(t, 201010)) != 1 || len(w.of(t, 201003)) != 1 {
				t.Errorf("records %v", lines(w.allRecords(t)))
			}
			w.interceptEnds(t)
			eventually(t, "the server has heard of the end of all connections", func() bool { return w.lastACK(t) == 0 })
			if *floodFor >= time.Minute {
				w.leaves(t, globalIP4)
			}
		})
	}
}

// steadyMemory has the daemon of a test hold what it needs: it collects garbage before
// there is much of it, and the kernel makes no huge pages of its memory. Else what it
// holds grows for a minute, or at some moment by megabytes, whatever it does.
func steadyMemory(t *testing.T) {
	t.Helper()
	t.Setenv("GOGC", "10")
	t.Setenv("GODEBUG", "disablethp=1")
}

// idles checks that a flood costs the daemon next to nothing while its server is
// in intercept and no mail comes.
func (w *wall) idles(t *testing.T) {
	t.Helper()
	const grows = 4 << 20 // octets
	most := 10.0          // percent of a core
	if testing.Short() {  // in the emulated guest, some twenty times slower: natively it is 0.5
		most = 40
	}
	var half [3]usage
	for i := range half {
		if i > 0 {
			time.Sleep(*floodFor / 2)
		}
		half[i] = w.usage(t)
	}
	first, second := half[1].since(half[0], *floodFor/2), half[2].since(half[1], *floodFor/2)
	t.Logf("without mail the daemon used %.1f, then %.1f %% of a core, and grew by %d, then %d KiB", first, second,
		(int64(half[1].rss)-int64(half[0].rss))>>10, (int64(half[2].rss)-int64(half[1].rss))>>10)
	if second > most || half[2].rss > half[1].rss+grows {
		t.Errorf("the second half took %.1f %% of a core, want %.0f at most, and %d octets more memory", second, most, int64(half[2].rss)-int64(half[1].rss))
	}
}

// interceptEnds checks that the half-open connections that were there when the
// host entered intercept have ended, and that their records name the cause.
func (w *wall) interceptEnds(t *testing.T) {
	t.Helper()
	eventually(t, "intercept ends half-open connections", func() bool {
		return slices.ContainsFunc(w.of(t, 302014), func(r record) bool { return r.Bytes == 0 })
	})
	for _, r := range w.of(t, 302014) {
		if r.Bytes == 0 && r.Reason != "Flow terminated by TCP Intercept" {
			t.Errorf("a half-open connection ended with %v", r)
		}
	}
}

// lastACK counts the server's connections that wait for the acknowledgement of their
// FIN. Where the client's answer is lost they do so for minutes.
func (w *wall) lastACK(t *testing.T) (n int) {
	t.Helper()
	const state, isLastACK = 3, "09" // column; tcp_states.h
	err := w.Do(lab.Server, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/tcp")
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > state && f[state] == isLastACK {
				n++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// leaves waits until a host leaves intercept, and tells how long that took.
func (w *wall) leaves(t *testing.T, global string) {
	t.Helper()
	start, tick, timeout := time.Now(), time.NewTicker(100*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for w.static(t, global).Intercept {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("the host does not leave intercept")
		}
	}
	t.Logf("left intercept %v after the flood", time.Since(start).Round(time.Second))
	if n := len(w.of(t, 201010)); n != 2 {
		t.Errorf("%d records 201010, want one of entering and one of leaving", n)
	}
}
