package netns

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

// octets are the pieces of a text of one octet each.
func octets(text string, mods ...mod) (list []piece) {
	for i := range len(text) {
		list = append(list, at(i, text[i:i+1], mods...))
	}
	return list
}

// T13: every octet in a segment of its own, in any order.
func TestTCP13TinySegments(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	const text = "NOOP\r\nXFOO\r\nRSET\r\n"
	backwards := octets(text)
	slices.Reverse(backwards)
	odd := []piece{}
	for _, first := range []int{1, 0} {
		for i := first; i < len(text); i += 2 {
			odd = append(odd, at(i, text[i:i+1]))
		}
	}
	s.tricks(t,
		trick{"in order", segments(octets(text)...), "NOOP\r\nXXXX\r\nRSET\r\n", by(nobody, nobody)},
		trick{"backwards", segments(backwards...), "NOOP\r\nXXXX\r\nRSET\r\n", by(nobody, nobody)},
		trick{"the odd ones first", segments(odd...), "NOOP\r\nXXXX\r\nRSET\r\n", by(nobody, nobody)},
		trick{"and again as one, with other octets", segments(append(octets(text, lost), at(0, "XBAR\r\nXBAR\r\nXBAR\r\n"))...), "NOOP\r\nXXXX\r\nRSET\r\n", by(nobody, nobody)},
	)
	const typed = "250-mx\r\n250-SXXXXXXX\r\n250 XXXX\r\n" // S begins SIZE; the end of a keyword comes too late for its letter
	reply := octets(offer)
	slices.Reverse(reply)
	s.serverTricks(t,
		trick{"in order", segments(octets(offer)...), typed, by(nobody, nobody)},
		trick{"backwards", segments(reply...), typed, by(nobody, nobody)},
	)
}

// T14: a forbidden verb cut over segments.
func TestTCP14CutVerb(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	list := []trick{
		{"octet by octet", segments(octets("STARTTLS\r\n")...), "SXXXXXXX\r\n", by(nobody, nobody)}, // S begins SEND
		{"lower case", segments(octets("starttls\r\n")...), "sXXXXXXX\r\n", by(nobody, nobody)},
		{"leaves a word late", segments(octets("NOOX\r\n")...), "NOOX\r\n", by(nobody, nobody)},
		{"goes on behind a word", segments(octets("NOOPX\r\n")...), "NOOPX\r\n", by(nobody, nobody)},
		{"ends within a word", segments(octets("VRF\r\n")...), "VRF\r\n", by(nobody, nobody)},
	}
	for i := 1; i < len("STARTTLS\r\n"); i++ {
		arrives := "XXXXXXXX\r\n"
		if i == 1 {
			arrives = "SXXXXXXX\r\n"
		}
		list = append(list, trick{fmt.Sprintf("cut at %d", i), segments(at(0, "STARTTLS\r\n"[:i]), at(i, "STARTTLS\r\n"[i:])), arrives, by(nobody, nobody)})
	}
	s.tricks(t, list...)
}

// T15: segments ahead of a gap are held up to a bound; what is over it is
// dropped and comes again.
func TestTCP15OutOfOrderFlood(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	const n = 300
	text := "NOOP\r\n" + strings.Repeat("XFOO\r\n", n)
	s.tricks(t,
		trick{"of commands", func(t *testing.T, d *duel) {
			for i := range n {
				d.h.send(t, 6*(i+1), "XFOO\r\n")
			}
			d.h.send(t, 0, "NOOP\r\n")
			for i := range n {
				d.h.send(t, 6*(i+1), "XFOO\r\n")
			}
		}, "NOOP\r\n" + strings.Repeat("XXXX\r\n", n), by(daemon, daemon)},
		trick{"of holes", func(t *testing.T, d *duel) {
			for i := len(text) - 1; i > 0; i -= 2 {
				d.h.send(t, i, text[i:i+1])
			}
			for i := 0; i < len(text); i += 600 {
				d.h.send(t, i, text[i:min(i+600, len(text))])
			}
		}, "NOOP\r\n" + strings.Repeat("XXXX\r\n", n), by(daemon, daemon)},
		trick{"of one segment", func(t *testing.T, d *duel) {
			for range n {
				d.h.send(t, 6, "XFOO\r\n")
			}
			d.h.send(t, 0, "NOOP\r\n")
			d.h.send(t, 6, "XFOO\r\n")
		}, "NOOP\r\nXXXX\r\n", by(daemon, daemon)},
	)
}

// T16: a server that opens the connection towards its client.
func TestTCP16SplitHandshake(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct {
			name string
			sent []mod // a segment each, where the SYN-ACK should be
		}{
			{"simultaneous open", []mod{flags(flagSYN)}},
			{"ACK and then SYN", []mod{flags(flagACK), flags(flagSYN)}},
			{"SYN with payload", []mod{func(c *crafted) { c.flags, c.payload = flagSYN, "220 STARTTLS\r\n" }}},
			{"SYN with another number", []mod{func(c *crafted) { c.flags, c.seq = flagSYN, c.seq+1000 }}},
			{"text first", []mod{func(c *crafted) { c.flags, c.seq, c.payload = flagACK, c.seq+1, "220 STARTTLS\r\n" }}},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				h, dialled := s.ambusher(t, v4)
				h.awaitSYN(t)
				kernel, before := s.dropped(t)
				for _, m := range c.sent {
					h.send(t, -1, "", m)
				}
				s.checkDroppers(t, kernel, before, either)
				h.send(t, -1, "", flags(flagSYN|flagACK), options(mss))
				d := dialled()
				h.await(t, "the end of the handshake", func(s layers.TCP) bool {
					if s.SYN && s.ACK {
						t.Error("the client has answered a SYN")
					}
					return s.ACK && s.Ack == h.seq
				})
				d.hello(t)
				d.alive(t)
			})
		}
	}
}

// T17: a new connection with the addresses and ports of one that is over, or
// never was; one that lives stays.
func TestTCP17TupleReuse(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct {
			name string
			end  func(*testing.T, *duel)
		}{
			{"after FINs", func(t *testing.T, d *duel) {
				d.h.send(t, 0, "", flags(flagFIN|flagACK))
				d.h.seq++
				d.h.acknowledged(t)
				if err := d.app.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				d.h.await(t, "a FIN", func(s layers.TCP) bool { return s.FIN && s.Ack == d.h.seq })
			}},
			{"after the client's RST", func(t *testing.T, d *duel) {
				d.h.send(t, 0, "", flags(flagRST))
				wantReset(t, d.app)
			}},
			{"after the server's RST", func(t *testing.T, d *duel) {
				abort(t, d.app)
				d.h.await(t, "a RST", func(s layers.TCP) bool { return s.RST })
			}},
			{"after a RST that was not exact", func(t *testing.T, d *duel) {
				d.h.send(t, 5, "", flags(flagRST))
				d.alive(t)
				d.h.send(t, 0, "", flags(flagRST))
				wantReset(t, d.app)
			}},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				old := s.duel(t, v4)
				old.hello(t)
				c.end(t, old)
				h, ln := s.attacker(t, v4)
				h.self, h.isn = old.h.self, old.h.isn
				h.open(t, mss)
				d := s.joined(t, h, ln)
				d.hello(t)
				d.alive(t)
			})
		}
		t.Run(a.String()+"/after a SYN that was lost", func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			h.syn(t, mss, lost)
			eventually(t, "conntrack knows the first SYN", func() bool { return s.tracked(t, h.self) })
			h.open(t, mss)
			d := s.joined(t, h, ln)
			d.hello(t)
			d.alive(t)
		})
	}
}

// T18: probes pass and are answered; their octet is not the truth.
func TestTCP18Probes(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	answered := func(p piece) func(*testing.T, *duel) {
		return func(t *testing.T, d *duel) {
			t.Helper()
			d.h.send(t, p.off, p.text, p.mods...)
			d.h.acknowledged(t)
		}
	}
	s.tricks(t,
		trick{"keep-alive with an octet", answered(at(-1, "X")), "", by(nobody, nobody)},
		trick{"keep-alive without", answered(at(-1, "")), "", by(nobody, nobody)},
		trick{"keep-alive of an octet that was lost", func(t *testing.T, d *duel) {
			d.h.send(t, 0, "NOOP a\r\n", lost)
			d.h.send(t, 7, "X")
			d.h.send(t, 0, "XFOO b\r\n")
		}, "NOOP a\r\n", by(nobody, nobody)},
		trick{"the server probes a window that is shut", func(t *testing.T, d *duel) {
			d.h.window = 0
			d.h.say(t, "HELP\r\n")
			reads(t, d.app, "HELP\r\n")
			write(t, d.app, "214 help\r\n")
			d.h.await(t, "a probe", func(s layers.TCP) bool { return len(s.Payload) <= 1 && s.Seq == d.h.ack-1 })
			d.h.window = 65535
			d.h.send(t, 0, "")
			d.h.want(t, "214 help\r\n")
		}, "", by(nobody, nobody)},
	)
	for a := range numAids {
		s.aid(t, a)
		t.Run(a.String()+"/a window that is shut is probed", func(t *testing.T) {
			h, ln := s.attacker(t, v4)
			readBuffer(t, ln, 4096)
			h.open(t, mss)
			d := s.joined(t, h, ln)
			d.hello(t)
			sent := h.fill(t)
			h.send(t, -1, "X")
			h.acknowledged(t)
			h.send(t, -1, "")
			h.acknowledged(t)
			reads(t, d.app, sent)
			h.await(t, "an open window", func(s layers.TCP) bool { return s.Window > 100 })
			d.alive(t)
		})
	}
}
