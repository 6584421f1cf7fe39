package netns

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// spoof sends a segment from the client's side in the name of the server: where
// the server's stream stands, acknowledging n octets of the client's that it may
// not have got.
func (d *duel) spoof(t *testing.T, n int, text string, mods ...mod) {
	t.Helper()
	c := crafted{seq: d.h.ack, ack: d.h.seq + uint32(n), flags: flagACK | flagPSH, window: 65535, payload: text, ttl: 64}
	for _, m := range mods {
		m(&c)
	}
	d.h.put(t, c.packet(d.h.far, d.h.self))
}

// clientHello and serverHello are the least that looks like a TLS handshake.
const (
	clientHello = "\x16\x03\x01\x00\x04\x01\x00\x00\x00"
	serverHello = "\x16\x03\x03\x00\x04\x02\x00\x00\x00"
)

// A client plays the server: what it sends in the server's name comes in by the
// client's interface and says nothing.
func TestTCPClientPlaysServer(t *testing.T) {
	t.Parallel()
	s := newSiege(t, tlsPolicy)
	for _, f := range []struct {
		name     string
		verify   bool // chain verify_path
		rpFilter bool
		who      dropper
	}{
		{"as shipped", true, false, nobody},      // counter spoofed
		{"rp_filter alone", false, true, nobody}, // counts for itself
		{"neither", false, false, daemon},
	} {
		s.filterRoutes(t, f.rpFilter)
		if !f.verify {
			nft(t, s.Lab, "flush chain inet smtpwall verify_path")
		}
		spoofed := counter(t, s.Lab, "spoofed")
		for _, c := range []struct {
			name    string
			play    func(*testing.T, *duel)
			arrives string
		}{
			{"354", func(t *testing.T, d *duel) {
				d.turn(t, line{"C", "DATA\r\n", "DATA\r\n"})
				d.spoof(t, 0, "354 go\r\n")
				d.h.send(t, 0, "XFOO\r\n")
				d.turn(t, line{"S", "503 no\r\n", "503 no\r\n"})
			}, "XXXX\r\n"},
			{"220 and a handshake", func(t *testing.T, d *duel) {
				d.turn(t, startTLS[3])
				d.spoof(t, 0, "220 go\r\n")
				d.h.send(t, 0, clientHello)
				d.spoof(t, 9, serverHello, func(c *crafted) { c.seq += 8 })
				d.h.send(t, 9, "XFOO\r\n")
				d.turn(t, line{"S", "454 no\r\n", "454 no\r\n"})
			}, "XXXXXXXXXXXXX\r\n"},
			{"an ACK of what was lost", func(t *testing.T, d *duel) {
				d.h.send(t, 0, "NOOP a\r\n", lost)
				d.spoof(t, 8, "")
				d.h.send(t, 0, "XFOO b\r\n")
			}, "NOOP a\r\n"},
			{"an ACK with text", func(t *testing.T, d *duel) {
				d.h.send(t, 0, "NOOP a\r\n", lost)
				d.spoof(t, 8, "250 ok\r\n")
				d.h.send(t, 0, "XFOO b\r\n")
			}, "NOOP a\r\n"},
			{"RST", func(t *testing.T, d *duel) { d.spoof(t, 0, "", flags(flagRST|flagACK)) }, ""},
			{"FIN", func(t *testing.T, d *duel) { d.spoof(t, 0, "", flags(flagFIN|flagACK)) }, ""},
		} {
			t.Run(f.name+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				for _, l := range startTLS[:3] {
					d.turn(t, l)
				}
				kernel, before := s.dropped(t)
				c.play(t, d)
				s.checkDroppers(t, kernel, before, f.who)
				d.h.seq += uint32(len(c.arrives))
				reads(t, d.app, c.arrives)
				d.alive(t)
			})
		}
		t.Run(f.name+"/SYN-ACK", func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			h.syn(t, mss)
			eventually(t, "conntrack knows the SYN", func() bool { return s.tracked(t, h.self) })
			h.finishOpen(t)
			d := s.joined(t, h, ln)
			d.spoof(t, 0, "", flags(flagSYN|flagACK), func(c *crafted) { c.seq = h.farISN + 1<<20 })
			for _, l := range startTLS[:3] {
				d.turn(t, l)
			}
			d.alive(t)
		})
		if got := counter(t, s.Lab, "spoofed") > spoofed; got != f.verify {
			t.Errorf("%s: the ruleset has dropped them: %v, want %v", f.name, got, f.verify)
		}
	}
}

// The offload mark of a TLS connection whose ends have forgotten it does not
// hold for a new one with its addresses and ports, nor for what comes between
// the new SYN and the answer to it.
func TestTCPOffloadMarkReused(t *testing.T) {
	t.Parallel()
	s := newSiege(t, tlsPolicy)
	for a := range numAids {
		s.aid(t, a)
		for _, gap := range []bool{false, true} {
			name := "the SYN is answered"
			if gap {
				name = "text before the SYN-ACK"
			}
			t.Run(a.String()+"/"+name, func(t *testing.T) {
				old := s.duel(t, v4)
				s.encrypt(t, old)
				forget(t, old)
				h, ln := s.attacker(t, v4)
				h.self, h.isn = old.h.self, old.h.isn
				if gap {
					lose(t, s.Lab, lab.Server, silence)
				}
				h.syn(t, mss)
				if gap {
					for i := range 20 {
						h.send(t, 6*i, "XFOO\r\n", ackAt(i<<20))
					}
					lose(t, s.Lab, lab.Server, expired)
					h.synAgain(t, mss)
				}
				h.finishOpen(t)
				d := s.joined(t, h, ln)
				for _, l := range startTLS[:3] {
					d.turn(t, l)
				}
				d.alive(t)
			})
		}
	}
}

// silence keeps the server from answering a SYN.
const silence = `table inet loss {
	chain output {
		type filter hook output priority filter; policy accept;
		tcp flags & (syn | ack) == (syn | ack) drop
	}
}`

// encrypt brings a connection to where it is opaque and in the kernel's hands.
func (s *siege) encrypt(t *testing.T, d *duel) {
	t.Helper()
	for _, l := range startTLS {
		d.turn(t, l)
	}
	d.turn(t, line{"C", clientHello, clientHello})
	d.turn(t, line{"S", serverHello, serverHello})
	d.turn(t, line{"C", "XFOO\r\n", "XFOO\r\n"})
	queued := s.queued(t)
	d.turn(t, line{"C", "XFOO\r\n", "XFOO\r\n"})
	if s.queued(t) > queued {
		t.Error("the connection is not offloaded")
	}
}

// forget makes the application's host forget a connection without a word.
func forget(t *testing.T, d *duel) {
	t.Helper()
	raw, err := d.app.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_TCP, unix.TCP_REPAIR, 1) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.app.Close()
}
