package netns

import "testing"

// The tests of these files are the cases T1-T27 of docs/tcp.md.

// T1: a segment that its receiver refuses for its checksum is never the truth,
// neither as it is nor repaired by an edit.
func TestTCP01BadChecksum(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"decoy before a forbidden command", segments(at(0, "NOOP a\r\n", badChecksum), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(kernel, daemon)},
		trick{"decoy that is edited", segments(at(0, "XFOO a\r\n", badChecksum), at(0, "NOOP b\r\n")), "NOOP b\r\n", by(kernel, daemon)},
		trick{"decoy ahead of a gap", segments(at(6, "NOOP a\r\n", badChecksum), at(6, "XFOO b\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXXXX\r\n", by(kernel, daemon)},
		trick{"RST", segments(at(0, "", badChecksum, flags(flagRST|flagACK))), "", by(kernel, daemon)},
		trick{"FIN", segments(at(0, "", badChecksum, flags(flagFIN|flagACK))), "", by(kernel, daemon)},
	)
	s.serverTricks(t, trick{"decoy", segments(at(0, decoy, badChecksum), at(0, offer)), masked, by(kernel, daemon)})
}

// T2: what was forwarded is the truth, even if it expires before the server.
func TestTCP02LowTTL(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"expires behind the firewall", segments(at(0, "NOOP a\r\n", lost), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"expires behind the firewall, masked", segments(at(0, "XFOO a\r\n", lost), at(0, "NOOP b\r\n")), "XXXXXX\r\n", by(nobody, nobody)},
		trick{"expires behind the firewall, longer later", segments(at(0, "NOOP a\r\n", lost), at(0, "XFOO b\r\nXFOO\r\n")), "NOOP a\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"expires at the firewall", segments(at(0, "NOOP a\r\n", func(c *crafted) { c.ttl = 1 }), at(0, "XFOO b\r\n")), "XXXXXX\r\n", by(nobody, nobody)},
	)
	s.serverTricks(t, trick{"decoy expires behind the firewall", segments(at(0, decoy, lost), at(0, offer)), decoy, by(nobody, nobody)})
}

// T3: only what the receiver takes for the end is one.
func TestTCP03StaleRSTAndFIN(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	rst, fin := flags(flagRST), flags(flagFIN|flagACK)
	s.tricks(t,
		trick{"RST before the window", segments(at(-5, "", rst)), "", by(kernel, daemon)},
		trick{"RST far before the window", segments(at(-1<<20, "", rst)), "", by(kernel, daemon)},
		trick{"RST in the window", segments(at(5, "", rst)), "", by(nobody, nobody)},
		trick{"RST in the window, with text", segments(at(5, "XFOO\r\n", rst)), "", by(nobody, nobody)},
		trick{"RST behind the window", segments(at(1<<26, "", rst)), "", by(either, daemon)},
		trick{"RST ahead of what was lost", segments(at(0, "NOOP a\r\n", lost), at(8, "", rst), at(0, "XFOO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"stale FIN", segments(at(-3, "", fin)), "", by(daemon, daemon)},
		trick{"stale FIN with text", segments(at(-3, "\r\n", fin)), "", by(daemon, daemon)},
		trick{"FIN far before the window", segments(at(-1<<20, "", fin)), "", by(either, daemon)},
	)
	s.serverTricks(t,
		trick{"RST before the window", segments(at(-5, "", rst), at(0, offer)), masked, by(kernel, daemon)},
		trick{"RST in the window", segments(at(5, "", rst), at(0, offer)), masked, by(nobody, nobody)},
		trick{"stale FIN", segments(at(-3, "", fin), at(0, offer)), masked, by(daemon, daemon)},
	)
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String()+"/an exact RST is the end", func(t *testing.T) {
			d := s.duel(t, v4)
			d.hello(t)
			d.h.send(t, 0, "", rst)
			wantReset(t, d.app)
		})
	}
	// For conntrack the RST is the end and the SYN a new connection, for the
	// server neither is. The client has shut itself out, or it is judged on.
	t.Run("unaided/RST ahead of what was lost, then a SYN", func(t *testing.T) {
		d := s.duel(t, v4)
		d.hello(t)
		_, before := s.dropped(t)
		segments(at(0, "NOOP a\r\n", lost), at(8, "", rst), at(1<<16, "", flags(flagSYN)), at(0, "XFOO b\r\n"))(t, d)
		got := ""
		eventually(t, "the segment is dropped or arrives", func() bool {
			got += available(t, d.app)
			_, daemon := s.dropped(t)
			return got != "" || daemon > before || counter(t, s.Lab, "resets") > 0
		})
		if got != "" && got != "NOOP a\r\n" {
			t.Errorf("the application has read %q", got)
		}
	})
}

// T4: overlapping segments in either order; the first that was forwarded in
// order counts.
func TestTCP04Overlap(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"the same octets again", segments(at(0, "NOOP\r\n"), at(0, "XFOO\r\n")), "NOOP\r\n", by(nobody, nobody)},
		trick{"straddling", segments(at(0, "NOOP\r\n"), at(4, "\r\nXFOO\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"straddling, other octets", segments(at(0, "NOOP a\r\n", lost), at(0, "XFOO b\r\nNOOP\r\n")), "NOOP a\r\nNOOP\r\n", by(nobody, nobody)},
		trick{"cut in the word, other octets", segments(at(0, "NO"), at(0, "XFOO\r\n")), "NOXX\r\n", by(nobody, nobody)},
		trick{"out of order", segments(at(6, "XFOO\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"out of order, the good one first", segments(at(6, "NOOP\r\n"), at(6, "XFOO\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nNOOP\r\n", by(nobody, nobody)},
		trick{"out of order, the bad one first", segments(at(6, "XFOO\r\n"), at(6, "NOOP\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"out of order, straddling the gap", segments(at(2, "OP\r\nXFOO\r\n"), at(0, "NOOP\r\n")), "NOOP\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"the gap closes with another word", segments(at(2, "OP x\r\n"), at(0, "XF")), "XXXXXX\r\n", by(nobody, nobody)},
		trick{"the gap closes with another line", segments(at(6, "NOOP\r\n"), at(0, "XFOO\r\nXFOO\r\n")), "XXXX\r\nXXXX\r\n", by(nobody, nobody)},
		trick{"around", segments(at(3, "P"), at(0, "XFOO\r\n")), "XXXX\r\n", by(nobody, nobody)},
	)
	s.serverTricks(t,
		trick{"out of order", segments(at(22, offer[22:]), at(0, offer[:22])), masked, by(nobody, nobody)},
		trick{"out of order, straddling the gap", segments(at(14, offer[14:]), at(0, decoy[:16])), "250-mx\r\n250-SIZEXXXA\r\n250 XXXB\r\n", by(nobody, nobody)},
		trick{"the same octets again", segments(at(0, decoy, lost), at(8, offer[8:], lost), at(0, offer)), decoy, by(nobody, nobody)},
	)
}

// T5: a retransmission with other octets, before they were acknowledged and
// after.
func TestTCP05ChangedRetransmission(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"before the ACK", segments(at(0, "NOOP a\r\n", lost), at(0, "XFOO b\r\n", lost), at(0, "XFOO c\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"before the ACK, a part", segments(at(0, "NOOP a\r\n", lost), at(0, "XF", lost), at(0, "XF"), at(2, "OO b\r\n")), "NOOP a\r\n", by(nobody, nobody)},
		trick{"after the ACK", func(t *testing.T, d *duel) {
			d.h.say(t, "NOOP a\r\n")
			d.h.acknowledged(t)
			d.h.send(t, -8, "XFOO b\r\n")
			d.h.send(t, -8, "XFOO b\r\nXFOO\r\n")
			d.h.seq -= 8
		}, "NOOP a\r\nXXXX\r\n", by(nobody, nobody)},
	)
	s.serverTricks(t,
		trick{"before the ACK", segments(at(0, offer, lost), at(0, decoy)), masked, by(nobody, nobody)},
		trick{"after the ACK", func(t *testing.T, d *duel) {
			d.h.say(t, offer)
			d.h.acknowledged(t)
			d.h.seq -= uint32(len(offer))
			d.h.send(t, 0, decoy)
		}, masked, by(nobody, nobody)},
	)
}

// T6: octets that were masked come again with other borders.
func TestTCP06OtherBorders(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.tricks(t,
		trick{"cut", segments(at(0, "XFOO\r\nNOOP\r\n", lost), at(0, "XFO"), at(3, "O\r"), at(5, "\nNOOP\r\n")), "XXXX\r\nNOOP\r\n", by(nobody, nobody)},
		trick{"cut, in reverse", segments(at(0, "XFOO\r\nNOOP\r\n", lost), at(5, "\nNOOP\r\n"), at(3, "O\r"), at(0, "XFO")), "XXXX\r\nNOOP\r\n", by(nobody, nobody)},
		trick{"merged", segments(at(0, "XFOO\r\n", lost), at(6, "NOOP\r\n", lost), at(0, "XFOO\r\nNOOP\r\n")), "XXXX\r\nNOOP\r\n", by(nobody, nobody)},
		trick{"merged with new ones", segments(at(0, "NOOP\r\nXF", lost), at(0, "NOOP\r\nXFOO\r\nXBAR\r\n")), "NOOP\r\nXXXX\r\nXXXX\r\n", by(nobody, nobody)},
	)
	s.serverTricks(t,
		trick{"cut", segments(at(0, offer, lost), at(0, offer[:14]), at(14, offer[14:])), masked, by(nobody, nobody)},
		trick{"cut, in reverse", segments(at(0, offer, lost), at(14, offer[14:]), at(0, offer[:14])), masked, by(nobody, nobody)},
	)
}
