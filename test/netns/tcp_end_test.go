package netns

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// nobodyID is a user and group without rights.
const nobodyID = 65534

// A user who has CAP_NET_ADMIN and nothing else can run the daemon.
func TestTCPUnprivileged(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.unprivileged(t, nobodyID)
	d := s.duel(t, v4)
	d.hello(t)
	d.alive(t)
}

// unprivileged starts the daemon anew as a user who has CAP_NET_ADMIN and
// nothing else, in a group.
func (s *siege) unprivileged(t *testing.T, group uint32) {
	t.Helper()
	s.stop(t)
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil { // of the test, for its own user only
		t.Fatal(err)
	}
	err := filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, nobodyID, int(group))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.process = exec.Command(s.exe, s.args...)
	s.process.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobodyID, Gid: group},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
	}
	s.log = newLogBuffer("msg=ready")
	s.process.Stderr = s.log
	if err := s.Do(lab.Firewall, s.process.Start); err != nil {
		t.Fatal(err)
	}
	s.done = make(chan error, 1)
	go func(p *exec.Cmd, done chan<- error) { done <- p.Wait() }(s.process, s.done)
	select {
	case <-s.log.found:
	case err := <-s.done:
		s.process = nil
		t.Fatalf("the daemon ended: %v\n%s", err, s.log)
	case <-time.After(liveTimeout):
		t.Fatalf("the daemon did not become ready:\n%s", s.log)
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.process.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000001000", "CapPrm:\t0000000000001000"} {
		if !strings.Contains(string(status), line) {
			t.Errorf("the daemon's status has no %q:\n%s", line, status)
		}
	}
}

// endPolicy is the built-in map with one line that ends connections.
func endPolicy(action string) string {
	return policyWith(" parameters\n  mask-banner\n match ehlo-reply-parameter others\n  mask\n match cmd line length gt 100\n  " + action + " log")
}

// longLine is one of 101 octets, over the limit of the tests of ends.
var longLine = "NOOP " + strings.Repeat("a", 94) + "\r\n"

// reset ends both stacks at once, even if the packet in hand holds many
// segments, with CAP_NET_ADMIN alone.
func TestTCPReset(t *testing.T) {
	t.Parallel()
	s := newSiege(t, endPolicy("reset"))
	s.unprivileged(t, 0)
	text := strings.Repeat("NOOP\r\n", 500) + longLine + strings.Repeat("NOOP\r\n", 500)
	t.Run("real ends", func(t *testing.T) {
		e := s.started(t, lab.ServerIP4)
		write(t, e.client, text)
		wantReset(t, e.server)
		wantError(t, e.client, syscall.ECONNRESET)
		eventually(t, "the conntrack entry is gone", func() bool { return !s.tracked(t, e.address()) })
	})
	for _, c := range []struct {
		name string
		size uint16 // of the segments of a GSO packet; 0: no such packet
		text string
	}{{"a segment", 0, longLine}, {"a GSO packet", 1400, text}, {"a GSO packet of tiny segments", 20, text[2900:3200]}} {
		t.Run(c.name, func(t *testing.T) {
			d := s.duel(t, v4)
			d.hello(t)
			if c.size == 0 {
				d.h.send(t, 0, c.text)
			} else {
				d.h.super(t, s.Lab, 0, c.text, c.size)
			}
			wantReset(t, d.app)
			d.h.send(t, 0, c.text[:100])
			d.h.await(t, "a RST", func(s layers.TCP) bool { return s.RST })
			if d.h.lastReceive.Seq != d.h.ack {
				t.Errorf("the client's RST has sequence number %d, which RFC 5961 refuses: it expects %d", d.h.lastReceive.Seq, d.h.ack)
			}
			eventually(t, "the conntrack entry is gone", func() bool { return !s.tracked(t, d.h.self) })
		})
	}
}

// drop-connection lets owed replies pass, and then the kernel refuses the rest,
// even if the packet in hand holds many segments, with CAP_NET_ADMIN alone.
func TestTCPDropConnection(t *testing.T) {
	t.Parallel()
	s := newSiege(t, endPolicy("drop-connection"))
	s.unprivileged(t, 0)
	text := strings.Repeat("NOOP\r\n", 500) + longLine + strings.Repeat("NOOP\r\n", 500)
	for _, c := range []struct {
		name string
		play func(*testing.T, *duel)
	}{
		{"a segment", func(t *testing.T, d *duel) { d.h.send(t, 0, longLine) }},
		{"a GSO packet", func(t *testing.T, d *duel) { d.h.super(t, s.Lab, 0, text, 1400) }},
		{"out of order", func(t *testing.T, d *duel) {
			d.h.send(t, 6, longLine)
			d.h.send(t, 0, "RSET\r\n")
			reads(t, d.app, "RSET\r\n")
			d.turn(t, line{"S", "250 rset\r\n", "250 rset\r\n"})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := s.duel(t, v4)
			d.hello(t)
			d.turn(t, line{"C", "MAIL FROM:<a@example.org>\r\nNOOP\r\n", "MAIL FROM:<a@example.org>\r\nNOOP\r\n"})
			c.play(t, d)
			d.h.send(t, 0, "XFOO\r\n")
			d.turn(t, line{"S", "250 sender\r\n", "250 sender\r\n"})
			d.turn(t, line{"S", "250 noop\r\n", "250 noop\r\n"})
			eventually(t, "the conntrack entry is gone", func() bool { return !s.tracked(t, d.h.self) })
			invalid := counter(t, s.Lab, "invalid")
			d.h.send(t, 0, "XFOO\r\n")
			eventually(t, "the kernel refuses the rest", func() bool { return counter(t, s.Lab, "invalid") > invalid })
			nothingToRead(t, d.app)
		})
	}
}

// A connection that conntrack is made to forget is not taken up without its
// start: its client cannot shed the inspection.
func TestTCPForgottenByConntrack(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for _, c := range []struct {
		name  string
		aid   aid
		loose string
	}{{"shipped", asShipped, "0"}, {"unaided", unaided, "0"}, {"unaided, tcp_loose", unaided, "1"}} {
		s.aid(t, c.aid)
		s.sysctl(t, lab.Firewall, "net/netfilter/nf_conntrack_tcp_loose", c.loose)
		for _, greeted := range []bool{true, false} {
			name := c.name + ", before any payload"
			if greeted {
				name = c.name + ", in mid-session"
			}
			t.Run(name, func(t *testing.T) {
				d := s.duel(t, v4)
				if greeted {
					d.hello(t)
				}
				s.untrack(t, d.h)
				refused := counter(t, s.Lab, "invalid")
				d.h.send(t, 0, "XFOO\r\n")
				got := ""
				eventually(t, "the segment is refused, answered or masked", func() bool {
					got += available(t, d.app)
					return got != "" || counter(t, s.Lab, "invalid") > refused || counter(t, s.Lab, "resets") > 0
				})
				if got != "" && got != "XXXX\r\n" {
					t.Errorf("the application has read %q", got)
				}
			})
		}
	}
}

// available is what an application can read now.
func available(t *testing.T, app syscall.Conn) string {
	t.Helper()
	raw, err := app.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n := 0
	if err := raw.Control(func(fd uintptr) { n, _ = unix.Read(int(fd), buf) }); err != nil {
		t.Fatal(err)
	}
	return string(buf[:max(n, 0)])
}

// untrack deletes the conntrack entry of a hostile client's connection.
func (s *siege) untrack(t *testing.T, h *hostile) {
	t.Helper()
	family := netlink.InetFamily(unix.AF_INET)
	if h.self.Addr().Is6() {
		family = unix.AF_INET6
	}
	filter := &netlink.ConntrackFilter{}
	if err := filter.AddProtocol(unix.IPPROTO_TCP); err != nil {
		t.Fatal(err)
	}
	if err := filter.AddPort(netlink.ConntrackOrigSrcPort, h.self.Port()); err != nil {
		t.Fatal(err)
	}
	err := s.Do(lab.Firewall, func() error {
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.tracked(t, h.self) {
		t.Fatal("the conntrack entry is still there")
	}
}
