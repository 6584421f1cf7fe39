package netns

import (
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// filterRoutes switches the firewall's check that a packet comes in by the
// interface that leads to its sender.
func (s *siege) filterRoutes(t *testing.T, on bool) {
	t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, c := range []string{"all", "default", lab.Outside, lab.Inside} {
		s.sysctl(t, lab.Firewall, "net/ipv4/conf/"+c+"/rp_filter", value)
	}
}

// inject sends a packet to the firewall from a host that may not be its sender.
func (s *siege) inject(t *testing.T, from lab.Host, d *duel, packet []byte) {
	t.Helper()
	h := newHostile(t, s.Lab, from, s.mac[from], d.h.self, d.h.far)
	h.put(t, packet)
}

// T24: the same packet twice, and a copy that comes in by the other interface
// (hairpin, bridge).
func TestTCP24Duplicates(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"twice", segments(at(0, "XFOO\r\n"), at(0, "XFOO\r\n")), "XXXX\r\n", by(nobody, nobody)},
		trick{"twice, ahead of a gap", segments(at(6, "XFOO\r\n"), at(6, "XFOO\r\n"), at(0, "NOOP\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
	)
	for _, f := range []struct {
		name string
		on   bool
		who  dropper
	}{{"with rp_filter", true, nobody}, {"without rp_filter", false, daemon}} { // rp_filter counts for itself
		s.filterRoutes(t, f.on)
		for _, c := range []struct{ name, copied, text, arrives string }{
			{"a copy first", "XFOO\r\n", "XFOO\r\n", "XXXX\r\n"},
			{"other octets first", "NOOP\r\n", "XFOO\r\n", "XXXX\r\n"},
		} {
			t.Run("on the other interface "+f.name+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				d.hello(t)
				kernel, before := s.dropped(t)
				m := d.h.craft(0, c.copied)
				s.inject(t, lab.Server, d, m.packet(d.h.self, d.h.far))
				s.checkDroppers(t, kernel, before, f.who)
				d.h.say(t, c.text)
				reads(t, d.app, c.arrives)
				d.alive(t)
			})
		}
	}
}

// T25: a server behind a static mapping: the queue stands behind DNAT and before
// SNAT, so that the tricks are the same.
func TestTCP25NAT(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	nft(t, s.Lab, "add element inet smtpwall static4 { 10.9.1.77 : "+lab.ServerIP4+" }")
	nft(t, s.Lab, "add element inet smtpwall rstatic4 { "+lab.ServerIP4+" : 10.9.1.77 }")
	for _, c := range []trick{
		{"masked", segments(at(0, "XFOO\r\n")), "XXXX\r\n", by(nobody, nobody)},
		{"changed retransmission", segments(at(0, "NOOP a\r\n", lost), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		{"out of order", segments(at(6, "XFOO\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
		{"bad checksum", segments(at(0, "NOOP a\r\n", badChecksum), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, kernel)},
		{"stale RST", segments(at(-5, "", flags(flagRST))), "", by(kernel, kernel)},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			h.far = addrPort("10.9.1.77:25")
			h.open(t, mss)
			d := s.joined(t, h, ln)
			d.hello(t)
			kernel, daemon := s.dropped(t)
			c.play(t, d)
			h.seq += uint32(len(c.arrives))
			reads(t, d.app, c.arrives)
			d.alive(t)
			s.checkDroppers(t, kernel, daemon, c.drops[asShipped])
		})
	}
}

// T26: packets that hold many segments (GSO) with lines across their borders.
func TestTCP26GSO(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	lines := strings.Repeat("NOOP\r\nXFOO\r\n", 400) // 4800 octets
	out := strings.Repeat("NOOP\r\nXXXX\r\n", 400)
	s.tricks(t,
		trick{"many lines", func(t *testing.T, d *duel) { d.h.super(t, s.Lab, 0, lines, 1000) }, out, by(nobody, nobody)},
		trick{"tiny segments", func(t *testing.T, d *duel) { d.h.super(t, s.Lab, 0, lines[:600], 5) }, out[:600], by(nobody, nobody)},
		trick{"a line cut between two", func(t *testing.T, d *duel) {
			d.h.super(t, s.Lab, 0, lines[:2407], 1000)
			d.h.super(t, s.Lab, 2407, lines[2407:], 999)
		}, out, by(nobody, nobody)},
		trick{"other octets after a loss", func(t *testing.T, d *duel) {
			d.h.super(t, s.Lab, 0, out, 1000, lost)
			d.h.super(t, s.Lab, 0, strings.Repeat("XBAR\r\nXBAR\r\n", 400), 700)
		}, out, by(nobody, nobody)},
		trick{"ahead of a gap", func(t *testing.T, d *duel) {
			d.h.super(t, s.Lab, 3000, lines[3000:], 500)
			d.h.super(t, s.Lab, 0, lines[:3600], 700)
		}, out, by(nobody, nobody)},
	)
}

// T27: what a SYN says of segment sizes and windows fools nobody.
func TestTCP27MSSGames(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct {
			name, options string
			window        uint16
		}{
			{"no option", "", 65535},
			{"MSS 0", "\x02\x04\x00\x00", 65535},
			{"MSS 1", "\x02\x04\x00\x01", 65535},
			{"MSS 65535", "\x02\x04\xff\xff", 65535},
			{"two MSS", "\x02\x04\x00\x30" + mss, 65535},
			{"scale 14", mss + "\x03\x03\x0e\x01", 65535},
			{"scale 255", mss + "\x03\x03\xff\x01", 65535},
			{"two scales", mss + "\x03\x03\x02\x01\x03\x03\x0e\x01", 65535},
			{"a window of 40 octets", mss, 40},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				h, ln := s.attacker(t, v4)
				h.window = c.window
				h.open(t, c.options)
				d := s.joined(t, h, ln)
				d.hello(t)
				d.h.send(t, 6, "XFOO\r\n")
				d.h.send(t, 0, "NOOP\r\n", lost)
				d.h.send(t, 0, "XBAR\r\n")
				h.seq += 12
				reads(t, d.app, "NOOP\r\nXXXX\r\n")
				d.alive(t)
			})
		}
	}
}
