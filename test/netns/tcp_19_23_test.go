package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// T19: a segment in fragments is put together before it is judged; overlapping
// fragments are refused by the kernel, which some hosts would read in one way
// and some in another.
func TestTCP19Fragments(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for i, f := range families {
		for _, c := range []struct {
			name          string
			cuts          []fragment // in the TCP segment of text, in this order
			text, arrives string
			refused       [2]bool // by the kernel, in IPv4 and IPv6
		}{
			{"in order", []fragment{{0, 24, ""}, {24, 32, ""}}, "XFOO a\r\nNOOP\r\n", "XXXXXX\r\nNOOP\r\n", [2]bool{}},
			{"last first", []fragment{{24, 32, ""}, {0, 24, ""}}, "XFOO a\r\nNOOP\r\n", "XXXXXX\r\nNOOP\r\n", [2]bool{}},
			{"header cut", []fragment{{0, 8, ""}, {8, 8, ""}, {16, 40, ""}}, "XFOO a\r\nNOOP\r\n", "XXXXXX\r\nNOOP\r\n", [2]bool{false, true}}, // RFC 8200 section 4.5
			{"overlapping, other octets last", []fragment{{0, 24, ""}, {16, 16, "\xff\xff\x00\x00NOOPNOOPNOOP"}, {24, 40, ""}}, "XFOO a\r\nNOOP\r\n", "XXXXXX\r\nNOOP\r\n", [2]bool{true, true}},
			{"overlapping, other octets first", []fragment{{24, 8, "NOOP x\r\n"}, {0, 24, ""}, {24, 40, ""}}, "NOOP\r\nXFOO\r\n", "NOOP\r\nXXXX\r\n", [2]bool{true, true}},
		} {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				d := s.duel(t, i)
				d.hello(t)
				m := d.h.craft(0, c.text)
				tcp := m.segment(d.h.self, d.h.far)
				for _, cut := range c.cuts {
					d.h.put(t, cut.packet(d.h, tcp, s.port)) // a number of its own
				}
				if c.refused[i] {
					d.h.send(t, 0, c.text)
				}
				d.h.seq += uint32(len(c.text))
				reads(t, d.app, c.arrives)
				d.alive(t)
			})
		}
	}
}

// fragment is a part of a TCP segment; other are octets in the place of those
// that stand there.
type fragment struct {
	offset, length int
	other          string
}

// packet is the IP packet with the fragment.
func (f fragment) packet(h *hostile, tcp []byte, id uint16) []byte {
	end := min(f.offset+f.length, len(tcp))
	part := append([]byte{}, tcp[f.offset:end]...)
	copy(part, f.other)
	more := end < len(tcp)
	if h.self.Addr().Is4() {
		field := uint16(f.offset / 8)
		if more {
			field |= 1 << 13
		}
		return append(ip4(h.self.Addr(), h.far.Addr(), 64, id, field, len(part)), part...)
	}
	b := ipPacket(h.self.Addr(), h.far.Addr(), 64, make([]byte, 8))
	b[6] = unix.IPPROTO_FRAGMENT
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(part)))
	b[ip6Header] = unix.IPPROTO_TCP
	field := uint16(f.offset)
	if more {
		field |= 1
	}
	binary.BigEndian.PutUint16(b[ip6Header+2:], field)
	binary.BigEndian.PutUint32(b[ip6Header+4:], uint32(id))
	return append(b, part...)
}

// T20: nobody agrees on MPTCP through the firewall.
func TestTCP20MPTCP(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	const capable, dss = "\x1e\x04\x01\x81", "\x1e\x08\x20\x01\x00\x00\x00\x01"
	h, ln := s.attacker(t, v4)
	h.syn(t, mss+capable)
	h.finishOpen(t)
	for _, o := range h.lastReceive.Options {
		if o.OptionType == 30 {
			t.Error("the SYN-ACK has an MPTCP option")
		}
	}
	d := s.joined(t, h, ln)
	d.hello(t)
	s.tricks(t,
		trick{"DSS on text", segments(at(0, "NOOP a\r\n", options(dss)), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"DSS on a forbidden command", segments(at(0, "XFOO a\r\n", options(dss)), at(0, "NOOP b\r\n")), "XXXXXX\r\n", by(nobody, nobody)},
		trick{"twice", func(t *testing.T, d *duel) {
			before := counter(t, s.Lab, "doubled")
			d.h.send(t, 0, "NOOP a\r\n", options(dss+dss))
			eventually(t, "counter doubled", func() bool { return counter(t, s.Lab, "doubled") > before })
			d.h.send(t, 0, "XFOO b\r\n")
		}, "XXXXXX\r\n", by(nobody, nobody)},
	)
	d.alive(t)
	if counter(t, s.Lab, "stripped") == 0 {
		t.Error("counter stripped did not move")
	}
}

// restart starts the daemon anew with further flags.
func (s *siege) restart(t *testing.T, args ...string) {
	t.Helper()
	s.stop(t)
	s.args = append(s.args, args...)
	s.start(t)
}

// T21: a connection whose start the daemon has not seen.
func TestTCP21Midstream(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	t.Run("reset", func(t *testing.T) {
		e := s.started(t, lab.ServerIP4)
		s.restart(t, "--midstream", "reset")
		write(t, e.client, "XFOO\r\n")
		wantError(t, e.client, syscall.ECONNRESET)
		resetOnSpeaking(t, e.server)
	})
	t.Run("drop", func(t *testing.T) {
		e := s.started(t, lab.ServerIP4)
		s.restart(t, "--midstream", "drop")
		kernel, before := s.dropped(t)
		write(t, e.client, "XFOO\r\n")
		s.checkDroppers(t, kernel, before, daemon)
		nothingToRead(t, e.server)
		abort(t, e.client)
	})
	t.Run("bypass", func(t *testing.T) {
		e := s.started(t, lab.ServerIP4)
		s.restart(t, "--midstream", "bypass")
		e.talk(t, line{"C", "XFOO\r\n", "XFOO\r\n"}, line{"S", "500 a\r\n", "500 a\r\n"}) // as the operator wants it
		fresh := s.started(t, lab.ServerIP4)
		fresh.talk(t, inspected...)
	})
	t.Run("bypass is not for strangers", func(t *testing.T) { // the daemon still runs with bypass
		s.aid(t, unaided)
		s.sysctl(t, lab.Firewall, "net/netfilter/nf_conntrack_tcp_loose", "1")
		h, ln := s.attacker(t, v4)
		h.begin()
		h.send(t, 0, "XFOO\r\n")
		h.await(t, "a RST", func(s layers.TCP) bool { return s.RST })
		nobodyJoined(t, ln)
	})
}

// nobodyJoined checks that no connection waits at a listener.
func nobodyJoined(t *testing.T, ln *net.TCPListener) {
	t.Helper()
	if err := ln.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if conn, err := ln.Accept(); err == nil {
		t.Errorf("%s has connected", conn.RemoteAddr())
	}
}

// secondPath is the interface of the link that passes the firewall by.
const secondPath = "eth9"

// addPath links the client's host with the server's and returns the hardware
// addresses of either end.
func (s *siege) addPath(t *testing.T) (client, server net.HardwareAddr) {
	t.Helper()
	err := s.Do(lab.Client, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = secondPath
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: secondPath, PeerNamespace: netlink.NsFd(s.FD(lab.Server))})
	})
	for _, h := range []lab.Host{lab.Client, lab.Server} {
		if err == nil {
			err = s.Do(h, func() error {
				link, err := netlink.LinkByName(secondPath)
				if err != nil {
					return err
				}
				return netlink.LinkSetUp(link)
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []string{"all", "default", lab.Outside, secondPath} {
			s.sysctl(t, h, "net/ipv4/conf/"+c+"/rp_filter", "0")
		}
	}
	return s.hardware(t, lab.Client, secondPath), s.hardware(t, lab.Server, secondPath)
}

// reroute sends the server's packets to the hostile client by the second path,
// or not.
func (s *siege) reroute(t *testing.T, on bool, mac net.HardwareAddr) {
	t.Helper()
	err := s.Do(lab.Server, func() error {
		link, err := netlink.LinkByName(secondPath)
		if err != nil {
			return err
		}
		client := net.ParseIP(hostileClient[v4])
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: client, Mask: net.CIDRMask(32, 32)}}
		if !on {
			return netlink.RouteDel(route)
		}
		if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: client, HardwareAddr: mac}); err != nil {
			return err
		}
		return netlink.RouteReplace(route)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// T22: one direction of a connection passes the firewall by.
func TestTCP22Asymmetric(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	clientMAC, serverMAC := s.addPath(t)
	for a := range numAids {
		s.aid(t, a)
		who := [numAids]dropper{kernel, daemon}[a]
		t.Run(a.String()+"/only the client's packets pass", func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			s.reroute(t, true, clientMAC)
			defer s.reroute(t, false, nil)
			kernel, before := s.dropped(t)
			h.open(t, mss)
			h.send(t, 0, "XFOO\r\n")
			s.checkDroppers(t, kernel, before, who)
			nobodyJoined(t, ln)
		})
		if a == asShipped { // conntrack alone tells the SYN-ACK of a synproxy's SYN from others
			t.Run(a.String()+"/only the server's packets pass", func(t *testing.T) {
				h, ln := s.attacker(t, v4)
				h.direct(t, s.Lab, serverMAC)
				invalid := counter(t, s.Lab, "invalid")
				h.syn(t, mss)
				eventually(t, "the SYN-ACK is refused by conntrack", func() bool { return counter(t, s.Lab, "invalid") > invalid })
				nobodyJoined(t, ln)
			})
		}
		t.Run(a.String()+"/the server's packets leave later", func(t *testing.T) {
			d := s.duel(t, v4)
			d.hello(t)
			s.reroute(t, true, clientMAC)
			defer s.reroute(t, false, nil)
			d.turn(t, line{"C", "XFOO\r\n", "XXXX\r\n"})
			d.turn(t, line{"S", "250-STARTTLS\r\n", "250-STARTTLS\r\n"}) // nobody masks what does not pass
			kernel, before := s.dropped(t)
			d.h.send(t, 0, "XFOO\r\n") // acknowledges what the firewall has not seen
			s.checkDroppers(t, kernel, before, who)
			nothingToRead(t, d.app)
		})
	}
}

// direct makes the hostile client send by the second path.
func (h *hostile) direct(t *testing.T, l *lab.Lab, mac net.HardwareAddr) {
	t.Helper()
	err := l.Do(lab.Client, func() error {
		link, err := net.InterfaceByName(secondPath)
		if err != nil {
			return err
		}
		h.link.Ifindex = link.Index
		copy(h.link.Addr[:], mac)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// T23: more packets than the queue takes while the daemon does nothing: none
// passes unseen.
func TestTCP23QueueOverload(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	d := s.duel(t, v4)
	d.hello(t)
	signal(t, s.wall, syscall.SIGSTOP)
	eventually(t, "the daemon has stopped", func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
		return err == nil && strings.Contains(string(status), "State:\tT")
	})
	d.h.send(t, 0, "NOOP\r\n")
	for range 9000 { // the queue takes 8192
		d.h.send(t, 0, "NOOP\r\n")
	}
	d.h.send(t, 6, "XFOO\r\n") // lost
	eventually(t, "the queue is full", func() bool { return s.refused(t) > 0 })
	nothingToRead(t, d.app)
	signal(t, s.wall, syscall.SIGCONT)
	reads(t, d.app, "NOOP\r\n")
	nothingToRead(t, d.app)
	eventually(t, "the queue is empty", func() bool { return waiting(t, s.Lab) == 0 })
	d.h.seq += 6
	d.alive(t)
	s.kill(t) // it would find fault with the packets that were lost
}

// refused is how many packets the queues had no room for.
func (s *siege) refused(t *testing.T) (n uint64) {
	t.Helper()
	queues, err := s.Queues()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		n += q.Dropped + q.UserDropped
	}
	return n
}

// signal sends the daemon a signal. It is the one child of `ip netns exec`, or
// that process itself.
func signal(t *testing.T, w *wall, sig syscall.Signal) {
	t.Helper()
	if err := w.process.Process.Signal(sig); err != nil {
		t.Fatal(fmt.Errorf("signal the daemon: %w", err))
	}
}
