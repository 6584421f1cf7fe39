package netns

import (
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A client that acknowledges none of the replies before its ClientHello would get
// them again behind the ServerHello, and without their masks: the server never
// sees that ClientHello.
func TestTCPBlindHello(t *testing.T) {
	t.Parallel()
	s := newSiege(t, tlsPolicy)
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String(), func(t *testing.T) {
			d := s.duel(t, v4)
			d.h.mute = true
			blind := func(c *crafted) { c.ack = d.h.farISN + 1 }
			for _, l := range startTLS {
				if l.side == "C" {
					d.h.say(t, l.sent, blind)
					reads(t, d.app, l.arrives)
				} else {
					write(t, d.app, l.sent)
					d.h.want(t, l.arrives)
				}
			}
			d.h.send(t, 0, clientHello, blind)
			if hears(t, d.app, clientHello) {
				t.Error("the server has got a ClientHello that acknowledges nothing")
			}
			d.h.mute = false
			d.turn(t, line{"C", clientHello, clientHello})
			d.turn(t, line{"S", serverHello, serverHello})
			d.turn(t, line{"C", "XFOO\r\n", "XFOO\r\n"})
		})
	}
}

// Linux's SYN cookie is a sum that the client's number is a part of. Whoever has one
// for a number has one for any other, and opens a connection whose stream begins
// before the number that its SYN had said: nothing of it passes.
func TestTCPCookieOfAnotherNumber(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	s.sysctl(t, lab.Server, "net/ipv4/tcp_syncookies", "2") // for every SYN
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String(), func(t *testing.T) {
			const early = 5
			h, ln := s.attacker(t, v4)
			h.syn(t, mss)
			h.await(t, "a SYN-ACK", func(s layers.TCP) bool { return s.SYN && s.ACK && s.Ack == h.seq })
			h.farISN = h.lastReceive.Seq - early
			h.ack, h.seq = h.farISN+1, h.seq-early
			h.send(t, 0, "")
			d := s.joined(t, h, ln) // the server is taken in
			h.send(t, 0, "abcdeNOOP\r\n")
			if hears(t, d.app, "\x00") || hears(t, d.app, "a") {
				t.Error("the server has got octets that stand before the first one")
			}
			write(t, d.app, "220 mx\r\n")
			h.send(t, early, "NOOP\r\n")
			if hears(t, d.app, "NOOP\r\n") {
				t.Error("the session goes on")
			}
		})
	}
}
