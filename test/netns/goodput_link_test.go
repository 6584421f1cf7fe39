//go:build goodput

package netns

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// What the client's packets suffer before the firewall. The replies suffer
// nothing.
const (
	linkDelay    = 20 * time.Millisecond
	linkLoss     = 10 // of 1000 packets
	linkOvertake = 10 // of 1000 packets: they are not delayed
	linkMTU      = 1500
)

// linkRoom is how many packets may wait in the link, as in netem's queue of the
// guest's tests, and in the kernel for it. Packets that find no room fail the test.
const linkRoom = 20000

// tooLate is how late a packet may leave the link. The log says how many were
// later: what is measured then is the machine.
const tooLate = time.Millisecond

// fate is what becomes of a packet.
type fate int

// The fates.
const (
	delayed fate = iota
	overtakes
	vanishes
)

// pattern gives packets their fate, by their number alone: the same seed, the
// same fates, whatever the time. next belongs to one goroutine.
type pattern struct {
	random                  *rand.Rand
	packets, lost, overtook atomic.Int64
}

// newPattern begins a pattern.
func newPattern(seed uint64) *pattern { return &pattern{random: rand.New(rand.NewPCG(seed, 0))} }

// next is the fate of the next packet.
func (p *pattern) next() fate {
	p.packets.Add(1)
	switch n := p.random.IntN(1000); {
	case n < linkLoss:
		p.lost.Add(1)
		return vanishes
	case n < linkLoss+linkOvertake:
		p.overtook.Add(1)
		return overtakes
	}
	return delayed
}

// String is what the pattern did, for the log.
func (p *pattern) String() string {
	return fmt.Sprintf("%d packets of the client, %d lost, %d overtook", p.packets.Load(), p.lost.Load(), p.overtook.Load())
}

// underway is one packet in the link.
type underway struct {
	due  time.Time
	size int
	data [linkMTU]byte
}

// way is one direction of a link: IP packets from one TUN device to another. All
// but pattern belongs to the goroutine that runs it.
type way struct {
	from, to int // file descriptors of the devices
	delay    time.Duration
	pattern  atomic.Pointer[pattern] // nil: every packet is delayed

	ring    []underway // those underway, in the order of their time
	head, n int

	late atomic.Int64 // packets that were given more than tooLate after their time
}

// run carries packets until stop is set. It has a thread of its own, which the
// machine prefers to all others: a wire does not wait for the CPU.
func (w *way) run(stop *atomic.Bool) error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1}, 0); err != nil {
		return fmt.Errorf("raise the priority of the link: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil { // ns; else 50 µs
		return fmt.Errorf("set timer slack: %w", err)
	}
	for !stop.Load() {
		if err := w.wait(); err != nil {
			return err
		}
		if err := w.take(); err != nil {
			return err
		}
		if err := w.give(); err != nil {
			return err
		}
	}
	return nil
}

// wait returns when a packet has come, when one is due, or after a while.
func (w *way) wait() error {
	wait := 100 * time.Millisecond // to see that the test has ended
	if w.n > 0 {
		wait = max(0, time.Until(w.ring[w.head].due))
	}
	timeout := unix.NsecToTimespec(int64(wait))
	_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(w.from), Events: unix.POLLIN}}, &timeout, nil)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for packets: %w", err)
	}
	return nil
}

// take reads a few of the packets that have come, so that those due do not wait
// for all of them. What finds no room stays in the device, which counts what it
// drops.
func (w *way) take() error {
	for range 16 {
		if w.n == len(w.ring) {
			return nil
		}
		p := &w.ring[(w.head+w.n)%len(w.ring)]
		size, err := unix.Read(w.from, p.data[:])
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a packet: %w", err)
		}
		p.size, p.due = size, time.Now().Add(w.delay)
		f := delayed
		if pattern := w.pattern.Load(); pattern != nil {
			f = pattern.next()
		}
		switch f {
		case delayed:
			w.n++
		case overtakes:
			if err := w.write(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// give writes the packets that are due.
func (w *way) give() error {
	now := time.Now()
	for w.n > 0 && !w.ring[w.head].due.After(now) {
		if now.Sub(w.ring[w.head].due) > tooLate {
			w.late.Add(1)
		}
		if err := w.write(&w.ring[w.head]); err != nil {
			return err
		}
		w.head, w.n = (w.head+1)%len(w.ring), w.n-1
	}
	return nil
}

// write puts a packet into the device at the far end.
func (w *way) write(p *underway) error {
	if _, err := unix.Write(w.to, p.data[:p.size]); err != nil {
		return fmt.Errorf("write a packet: %w", err)
	}
	return nil
}

// wire is a link of ours in the place of the cable between client and firewall.
type wire struct {
	lab  *lab.Lab
	ways [2]way // from the client, to the client
}

// begin gives the client's packets their fates from now on, which depend on the
// seed and on how many came before. The link only delays until it is called.
func (w *wire) begin(seed uint64) *pattern {
	p := newPattern(seed)
	w.ways[0].pattern.Store(p)
	return p
}

// rewire replaces the veth pair between client and firewall by two TUN devices
// with our link between them, until the test ends. A packet out of a TUN device
// is one segment with its checksum, whatever the sender's GSO.
func rewire(t *testing.T, l *lab.Lab) *wire {
	t.Helper()
	onHost(t, l, lab.Client, "ip", "link", "del", lab.Outside)
	client := tun(t, l, lab.Client, lab.ClientIP4)
	firewall := tun(t, l, lab.Firewall, lab.OutsideIP4)
	onHost(t, l, lab.Client, "ip", "route", "add", "default", "via", lab.OutsideIP4)
	w := &wire{lab: l}
	for i, ends := range [2][2]int{{client, firewall}, {firewall, client}} {
		w.ways[i].from, w.ways[i].to, w.ways[i].ring = ends[0], ends[1], make([]underway, linkRoom)
	}
	w.ways[0].delay = linkDelay
	// A goroutine in a system call keeps its processor until the runtime takes it
	// back, up to 10 ms later: the ways get their own.
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + len(w.ways))
	var stop atomic.Bool
	var running sync.WaitGroup
	for i := range w.ways {
		running.Go(func() {
			if err := w.ways[i].run(&stop); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		w.checkRoom(t)
		stop.Store(true)
		running.Wait()
		runtime.GOMAXPROCS(procs)
		unix.Close(client)
		unix.Close(firewall)
	})
	return w
}

// tun makes the interface Outside of a host and returns its other end. It has no
// IPv6, which would send packets that nobody asked for.
func tun(t *testing.T, l *lab.Lab, on lab.Host, address string) (fd int) {
	t.Helper()
	err := l.Do(on, func() (err error) {
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w (modprobe tun, or mknod /dev/net/tun c 10 200)", err)
		}
		request, err := unix.NewIfreq(lab.Outside)
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return fmt.Errorf("make TUN device: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	onHost(t, l, on, "sysctl", "-q", "net.ipv6.conf."+lab.Outside+".disable_ipv6=1")
	onHost(t, l, on, "ip", "address", "add", address+"/24", "dev", lab.Outside)
	onHost(t, l, on, "ip", "link", "set", lab.Outside, "mtu", fmt.Sprint(linkMTU), "txqueuelen", fmt.Sprint(linkRoom), "up")
	return fd
}

// late is how many packets have left the link too late since it was last asked.
func (w *wire) late() int64 { return w.ways[0].late.Swap(0) + w.ways[1].late.Swap(0) }

// checkRoom fails if a device had no room for a packet.
func (w *wire) checkRoom(t *testing.T) {
	t.Helper()
	for _, h := range []lab.Host{lab.Client, lab.Firewall} {
		nl, err := netlink.NewHandleAt(netns.NsHandle(w.lab.FD(h)), unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer nl.Close()
		device, err := nl.LinkByName(lab.Outside)
		if err != nil {
			t.Fatal(err)
		}
		if s := device.Attrs().Statistics; s.TxDropped+s.RxDropped > 0 {
			t.Errorf("%s of %s dropped %d packets to the link and %d from it for want of room", lab.Outside, h, s.TxDropped, s.RxDropped)
		}
	}
}

// onHost runs a program on a host.
func onHost(t *testing.T, l *lab.Lab, h lab.Host, name string, args ...string) {
	t.Helper()
	if out, err := l.Command(h, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("run %s %v on %s: %v: %s", name, args, h, err, out)
	}
}
