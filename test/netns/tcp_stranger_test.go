package netns

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A connection with the addresses of an encrypted one is inspected, however it
// was begun: with the old SYN's number, or with a second SYN that the server
// does not see.
func TestTCPOffloadInherited(t *testing.T) {
	t.Parallel()
	s := newSiege(t, tlsPolicy)
	for a := range numAids {
		s.aid(t, a)
		for _, second := range []bool{false, true} {
			name := "the old number"
			if second {
				name = "two SYNs"
			}
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				old := s.duel(t, v4)
				s.encrypt(t, old)
				old.h.send(t, 0, "", flags(flagRST))
				h, ln := s.attacker(t, v4)
				h.self, h.isn = old.h.self, old.h.isn
				if second {
					h.syn(t, mss)
					h.send(t, 0, "", flags(flagSYN), lost, func(c *crafted) { c.ack = 0 })
				} else {
					h.isn -= 1 << 26 // begin adds it
					h.syn(t, mss)
				}
				if !h.opened(t) {
					return // no session at all: the client has only itself to blame
				}
				d := s.joined(t, h, ln)
				for _, l := range startTLS[:3] {
					d.turn(t, l)
				}
				d.alive(t)
			})
		}
	}
}

// opened waits for the SYN-ACK as finishOpen does, and reports false if none comes.
func (h *hostile) opened(t *testing.T) bool {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(h.fd, buf, unix.MSG_PEEK)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		if s := decode(0, buf[:n]); s.src == h.far && s.dst == h.self && s.tcp.SYN && s.tcp.ACK && s.tcp.Ack == h.seq {
			h.finishOpen(t)
			return true
		}
		if _, _, err := unix.Recvfrom(h.fd, buf, 0); err != nil {
			return false
		}
	}
}

// A stranger's segment before the stream sets no timestamp for the client's.
func TestTCPTimestampOfAStranger(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for name, off := range map[string]int{"far before": -(1 << 30), "a little before": -8} {
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				d := s.stamped(t)
				d.h.send(t, off, "", flags(flagACK|flagPSH), func(c *crafted) { c.options = stampOption(d.h.clock+1<<29, d.h.echo) })
				d.h.say(t, "NOOP\r\n")
				reads(t, d.app, "NOOP\r\n")
				d.alive(t)
			})
		}
	}
}
