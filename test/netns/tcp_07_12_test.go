package netns

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// T7: a receiver leaves the urgent octet out of its stream, unless the flag and
// the pointer are cleared.
func TestTCP07Urgent(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"in the verb", segments(at(0, "VRFY a\r\n", urgent(2))), "VRFY a\r\n", by(nobody, nobody)},
		trick{"in a line that is masked", segments(at(0, "QUXIT\r\n", urgent(3))), "XXXXX\r\n", by(nobody, nobody)},
		trick{"announced before its octet", segments(at(0, "", urgent(3)), at(0, "VRFY a\r\n")), "VRFY a\r\n", by(nobody, nobody)},
		trick{"announced by an old segment", segments(at(-1, "\n", urgent(3)), at(0, "VRFY a\r\n")), "VRFY a\r\n", by(nobody, nobody)},
		trick{"announced ahead of a gap", segments(at(6, "VRFY a\r\n", urgent(2)), at(0, "NOOP\r\n")), "NOOP\r\nVRFY a\r\n", by(nobody, nobody)},
		trick{"in a retransmission", segments(at(0, "VRFY a\r\n", lost), at(0, "VRFY a\r\n", urgent(2))), "VRFY a\r\n", by(nobody, nobody)},
		trick{"in a message", func(t *testing.T, d *duel) {
			d.h.say(t, "DATA\r\n")
			reads(t, d.app, "DATA\r\n")
			write(t, d.app, "354 go\r\n")
			d.h.want(t, "354 go\r\n")
			d.h.send(t, 0, "a\r\nX.\r\nXFOO\r\n.\r\n", urgent(4))
		}, "a\r\nX.\r\nXFOO\r\n.\r\n", by(nobody, nobody)},
	)
	for _, r := range s.allRecords(t) {
		if r.ID == 419003 {
			return
		}
	}
	t.Error("no record 419003 of an urgent flag that was cleared")
}

// T8: the octets of a SYN are never delivered.
func TestTCP08SYNPayload(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.sysctl(t, lab.Server, "net/ipv4/tcp_fastopen", "1538") // 0x602: every listener takes them, without a cookie
	payload := func(c *crafted) { c.payload = "XFOO\r\n" }
	const request, cookie = "\x22\x02\x01\x01", "\x22\x0a12345678\x01\x01"
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct{ name, options string }{
			{"alone", mss}, {"with a request for a cookie", mss + request}, {"with a cookie", mss + cookie},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				h, ln := s.attacker(t, v4)
				kernel, before := s.dropped(t)
				h.syn(t, c.options, payload)
				s.checkDroppers(t, kernel, before, daemon)
				h.open(t, c.options)
				d := s.joined(t, h, ln)
				d.hello(t)
				d.alive(t)
			})
		}
		t.Run(a.String()+"/on a SYN-ACK", func(t *testing.T) {
			h, dialled := s.ambusher(t, v4)
			h.awaitSYN(t)
			kernel, before := s.dropped(t)
			h.send(t, -1, "", flags(flagSYN|flagACK), options(mss), func(c *crafted) { c.payload = "220-STARTTLS\r\n" })
			s.checkDroppers(t, kernel, before, daemon)
			h.send(t, -1, "", flags(flagSYN|flagACK), options(mss))
			d := dialled()
			d.hello(t)
			d.alive(t)
		})
	}
	if counter(t, s.Lab, "stripped") == 0 {
		t.Error("counter stripped did not move")
	}
}

// T9: a SYN on a living connection, from either end.
func TestTCP09MidstreamSYN(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	syn, payload := flags(flagSYN), func(c *crafted) { c.payload = "XFOO\r\n" }
	s.tricks(t,
		trick{"where the stream is", segments(at(0, "", syn)), "", by(daemon, daemon)},
		trick{"with payload", segments(at(0, "", syn, payload)), "", by(daemon, daemon)},
		trick{"before the stream", segments(at(-100, "", syn, payload)), "", by(daemon, daemon)},
		trick{"far ahead", segments(at(1<<24, "", syn), at(1<<24+1, "XFOO\r\n")), "", by(either, either)},
		trick{"SYN-ACK of the client", segments(at(0, "", flags(flagSYN|flagACK), payload)), "", by(either, daemon)},
		trick{"SYN and FIN", segments(at(0, "XFOO\r\n", flags(flagSYN|flagFIN))), "", by(either, daemon)},
		trick{"SYN and RST", segments(at(0, "XFOO\r\n", flags(flagSYN|flagRST))), "", by(either, daemon)},
	)
	for a := range numAids {
		s.aid(t, a)
		for name, f := range map[string]mod{"SYN of the server": syn, "SYN-ACK of the server": flags(flagSYN | flagACK)} {
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				d := s.ambush(t, v4)
				d.hello(t)
				kernel, daemon := s.dropped(t)
				d.h.send(t, 7, "", f, payload)
				d.h.send(t, 7, "", f)
				d.alive(t)
				s.checkDroppers(t, kernel, daemon, either)
			})
		}
	}
	found := false
	for _, r := range s.allRecords(t) {
		found = found || r.ID == 419002
	}
	if !found {
		t.Error("no record 419002 of a SYN on a living connection")
	}
}

// T10: segments that the receiver refuses for an option are not the truth;
// unknown options harm nobody.
func TestTCP10Options(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	md5 := "\x13\x12" + strings.Repeat("\x55", 16) + "\x01\x01"
	s.tricks(t,
		trick{"MD5", segments(at(0, "NOOP a\r\n", options(md5)), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"MD5 on a forbidden command", segments(at(0, "XFOO a\r\n", options(md5)), at(0, "NOOP b\r\n")), "XXXXXX\r\n", by(nobody, nobody)},
		trick{"timestamps that were not agreed on", segments(at(0, "NOOP a\r\n", options(string(stampOption(1, 1)))), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"an unknown option", segments(at(0, "XFOO a\r\n", options("\xfd\x04ab")), at(0, "NOOP b\r\n")), "XXXXXX\r\n", by(nobody, nobody)},
		trick{"an option that is cut", segments(at(0, "NOOP a\r\n", options("\x01\x01\x01\x08")), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(daemon, daemon)},
		trick{"an option of no length", segments(at(0, "NOOP a\r\n", options("\x08\x00\x00\x00")), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(daemon, daemon)},
	)
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct{ name, decoy, text, arrives string }{
			{"an old timestamp", "NOOP a\r\n", "XFOO b\r\n", "XXXXXX\r\n"},
			{"an old timestamp on a forbidden command", "XFOO a\r\n", "NOOP b\r\n", "NOOP b\r\n"},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				d := s.stamped(t)
				kernel, before := s.dropped(t)
				old := func(m *crafted) { m.options = stampOption(d.h.clock-50000, d.h.echo) }
				d.h.send(t, 0, c.decoy, old)
				d.h.send(t, 0, "", old, flags(flagFIN|flagACK))
				s.checkDroppers(t, kernel, before, daemon)
				d.h.say(t, c.text)
				reads(t, d.app, c.arrives)
				d.alive(t)
			})
		}
	}
}

// stamped is a duel whose ends have agreed on timestamps, behind its hello.
func (s *siege) stamped(t *testing.T) *duel {
	t.Helper()
	h, ln := s.attacker(t, v4)
	h.stamps = true
	h.open(t, mss)
	d := s.joined(t, h, ln)
	d.hello(t)
	return d
}

// T11: acknowledgements that the receiver refuses.
func TestTCP11InvalidACK(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"beyond what was sent", segments(at(0, "NOOP a\r\n", ackAt(1000)), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
		trick{"far beyond what was sent", segments(at(0, "NOOP a\r\n", ackAt(1<<30)), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
		trick{"a little old", segments(at(0, "NOOP a\r\n", ackAt(-20)), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"far too old", segments(at(0, "NOOP a\r\n", ackAt(-1<<20)), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(either, daemon)},
		trick{"no ACK flag", segments(at(0, "NOOP a\r\n", flags(flagPSH)), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
		trick{"no flag at all", segments(at(0, "NOOP a\r\n", flags(0)), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
	)
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String()+"/older than the largest window", func(t *testing.T) { // RFC 5961 section 5.2
			h, ln := s.attacker(t, v4)
			h.window = 500
			h.open(t, mss)
			d := s.joined(t, h, ln)
			d.hello(t)
			help := strings.Repeat("214-"+strings.Repeat("h", 44)+"\r\n", 40) + "214 end\r\n" // 2009 octets
			d.h.say(t, "HELP\r\n")
			reads(t, d.app, "HELP\r\n")
			write(t, d.app, help)
			d.h.want(t, help)
			// The firewall does not know how large a window the server has
			// seen. What it forwards is the truth, whether it was taken or not.
			d.h.send(t, 0, "NOOP a\r\n", ackAt(-1500))
			d.h.say(t, "XFOO b\r\n")
			reads(t, d.app, "NOOP a\r\n")
			d.alive(t)
		})
		t.Run(a.String()+"/of octets that are held", func(t *testing.T) {
			d := s.ambush(t, v4)
			d.hello(t)
			write(t, d.app, "DATA\r\n")
			d.h.want(t, "DATA\r\n")
			write(t, d.app, "XFOO\r\n") // waits in the firewall for the reply to DATA
			s.held(t)
			kernel, before := s.dropped(t)
			d.h.send(t, 0, "250 a\r\n", ackAt(6))
			s.checkDroppers(t, kernel, before, daemon)
			d.h.say(t, "503 no\r\n")
			reads(t, d.app, "503 no\r\n")
			d.h.want(t, "XXXX\r\n")
			d.alive(t)
		})
	}
}

// T12: octets behind the window that the receiver has offered are not the
// truth.
func TestTCP12BeyondWindow(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"far ahead", segments(at(8<<20, "NOOP a\r\n"), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
		trick{"far before", segments(at(-1<<20, "NOOP a\r\n"), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(daemon, daemon)},
	)
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String()+"/the window is shut", func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			readBuffer(t, ln, 4096)
			h.open(t, mss)
			d := s.joined(t, h, ln)
			d.hello(t)
			sent := d.h.fill(t)
			kernel, before := s.dropped(t)
			d.h.send(t, 1, "OOP b\r\n")
			s.checkDroppers(t, kernel, before, either)
			// A segment at the edge itself may be a probe: it is forwarded, and
			// then it is the truth although the server refuses it.
			d.h.send(t, 0, "NOOP a\r\n")
			reads(t, d.app, sent)
			d.h.await(t, "an open window", func(s layers.TCP) bool { return s.Window > 100 })
			d.h.say(t, "XFOO b\r\n")
			reads(t, d.app, "NOOP a\r\n")
			d.alive(t)
		})
	}
}

// readBuffer sets what the connections of a listener may have waiting to be
// read.
func readBuffer(t *testing.T, ln *net.TCPListener, size int) {
	t.Helper()
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) })
	if err := errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
}

// fill says lines until the far end's window is shut, never more than it takes,
// and returns them.
func (h *hostile) fill(t *testing.T) (sent string) {
	t.Helper()
	const least = 16 // octets of a line
	for left := int(h.lastReceive.Window); left > 0; left = int(h.lastReceive.Window) {
		n := min(left, 400)
		if left-n < least {
			n = left
		}
		text := "NOOP " + strings.Repeat("a", n-7) + "\r\n"
		h.say(t, text)
		sent += text
		h.acknowledged(t)
	}
	return sent
}
