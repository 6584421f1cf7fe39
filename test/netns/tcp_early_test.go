package netns

import (
	"testing"

	"github.com/google/gopacket/layers"
)

// message brings a session to its DATA.
func (d *duel) message(t *testing.T) {
	t.Helper()
	d.hello(t)
	d.turn(t, line{"C", "DATA\r\n", "DATA\r\n"})
	d.turn(t, line{"S", "354 go\r\n", "354 go\r\n"})
}

// Text of a message that comes ahead of a gap is forwarded at once. It stays
// what it was, whatever comes later at its place.
func TestTCPEarlyTextChanged(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	early := func(p piece) func(*testing.T, *duel) {
		return func(t *testing.T, d *duel) {
			t.Helper()
			d.h.send(t, p.off, p.text, p.mods...)
			// The server says again what it waits for: the text has reached it.
			d.h.await(t, "a duplicate ACK", func(s layers.TCP) bool { return len(s.Payload) == 0 && s.Ack == d.h.seq })
		}
	}
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct {
			name    string
			first   piece
			then    []piece
			arrives string
		}{
			{"before the gap closes", at(6, "later\r\n"), []piece{at(6, "LATER\r\n"), at(0, "soon\r\n")}, "soon\r\nlater\r\n"},
			{"by what closes the gap", at(6, "later\r\n"), []piece{at(0, "soon\r\nLATER\r\n")}, "soon\r\nlater\r\n"},
			{"in parts", at(6, "later\r\n"), []piece{at(8, "TER"), at(4, "\r\nLA"), at(0, "soon")}, "soon\r\nlater\r\n"},
			{"it was lost, the gap closes first", at(6, "later\r\n", lost), []piece{at(0, "soon\r\n"), at(6, "LATER\r\n")}, "soon\r\nlater\r\n"},
			{"it was lost, the gap closes last", at(6, "later\r\n", lost), []piece{at(6, "LATER\r\n"), at(0, "soon\r\n")}, "soon\r\nlater\r\n"},
			{"it was lost, and becomes a dot line", at(6, "later\r\n", lost), []piece{at(6, ".\r\nXF\r\n"), at(0, "soon\r\n")}, "soon\r\nlater\r\n"},
			{"two pieces that overlap", at(6, "later\r\n"), []piece{at(8, "TER\r\nlast\r\n"), at(0, "soon\r\n")}, "soon\r\nlater\r\nlast\r\n"},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				d.message(t)
				play := early(c.first)
				if len(c.first.mods) > 0 {
					play = segments(c.first)
				}
				play(t, d)
				segments(c.then...)(t, d)
				d.h.seq += uint32(len(c.arrives))
				reads(t, d.app, c.arrives)
				d.turn(t, line{"C", ".\r\n", ".\r\n"})
				d.turn(t, line{"S", "250 queued\r\n", "250 queued\r\n"})
				d.alive(t)
			})
		}
	}
}

// The end of a message hides in the gap: what was sent early becomes commands.
// The forbidden one never reaches the application.
func TestTCPEarlyTextBecomesCommands(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct{ name, early, gap, again string }{
			{"early text first", "XFOO\r\n", ".\r\n", ""},
			{"cut in the terminator", "\nXFOO\r\n", ".\r", ""},
			{"cut before the last line end", "\r\nXFOO\r\n", ".", ""},
			{"and comes again innocent", "XFOO\r\n", ".\r\n", "NOOP\r\n"},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				d.message(t)
				d.turn(t, line{"C", "text\r\n", "text\r\n"})
				d.h.acknowledged(t)
				d.h.send(t, len(c.gap), c.early)
				if c.again != "" {
					d.h.send(t, len(c.gap), c.again)
				}
				d.h.await(t, "a duplicate ACK", func(s layers.TCP) bool { return len(s.Payload) == 0 && s.Ack == d.h.seq })
				d.h.send(t, 0, c.gap)
				eventually(t, "the connection is ended", func() bool { return !s.tracked(t, d.h.self) })
				d.h.send(t, 0, c.gap)
				d.h.send(t, 0, c.gap+c.early)
				nothingToRead(t, d.app)
			})
		}
	}
}

// Early text in which a line may begin with a dot, or that ends the stream, is
// not forwarded before the gap closes: it is judged as any other, and an honest
// client that has lost a segment goes on.
func TestTCPEarlyTextWithDot(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct{ name, gap, early, arrives string }{
			{"a terminator", "text\r\n", "more\r\n.\r\nXFOO\r\n", "text\r\nmore\r\n.\r\nXXXX\r\n"},
			{"a dot at its beginning", "text\r\n", ".\r\nXFOO\r\n", "text\r\n.\r\nXXXX\r\n"},
			{"LF and a dot at its beginning", "text\r", "\n.\r\nXFOO\r\n", "text\r\n.\r\nXXXX\r\n"},
			{"CR LF and a dot at its beginning", "text", "\r\n.\r\nXFOO\r\n", "text\r\n.\r\nXXXX\r\n"},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				d.message(t)
				d.h.send(t, len(c.gap), c.early)
				s.held(t)
				d.h.send(t, 0, c.gap)
				d.h.seq += uint32(len(c.arrives))
				reads(t, d.app, c.arrives)
				d.turn(t, line{"S", "250 queued\r\n500 what\r\n", "250 queued\r\n500 what\r\n"})
				d.alive(t)
			})
		}
		t.Run(a.String()+"/a FIN", func(t *testing.T) {
			d := s.duel(t, v4)
			d.message(t)
			d.h.send(t, 6, "more\r\n", flags(flagFIN|flagACK))
			s.held(t)
			d.h.send(t, 0, "text\r\n")
			d.h.send(t, 6, "more\r\n.\r\nXFOO\r\n") // beyond a FIN that was forwarded, or held
			reads(t, d.app, "text\r\nmore\r\n")
		})
	}
}

// Text ahead of a gap that comes before the reply to DATA waits: what it is, the
// reply says. Commands that were taken for text and are allowed pass.
func TestTCPEarlyTextBeforeReply(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for a := range numAids {
		s.aid(t, a)
		for _, c := range []struct{ name, reply, arrives string }{
			{"refused", "503 no\r\n", "NOOP\r\nXXXX\r\n"},
			{"accepted", "354 go\r\n", "NOOP\r\nXFOO\r\n"},
		} {
			t.Run(a.String()+"/"+c.name, func(t *testing.T) {
				d := s.duel(t, v4)
				d.hello(t)
				d.turn(t, line{"C", "DATA\r\n", "DATA\r\n"})
				d.h.send(t, 6, "XFOO\r\n")
				s.held(t)
				d.turn(t, line{"S", c.reply, c.reply})
				d.h.say(t, "NOOP\r\nXFOO\r\n")
				reads(t, d.app, c.arrives)
				if c.name == "accepted" {
					d.turn(t, line{"C", ".\r\n", ".\r\n"})
				}
				d.turn(t, line{"S", "250 ok\r\n", "250 ok\r\n"})
				d.alive(t)
			})
		}
		t.Run(a.String()+"/becomes an allowed command", func(t *testing.T) {
			d := s.duel(t, v4)
			d.message(t)
			d.turn(t, line{"C", "text\r\n", "text\r\n"})
			d.h.send(t, 3, "NOOP\r\n")
			d.h.say(t, ".\r\n")
			d.h.seq += 6
			reads(t, d.app, ".\r\nNOOP\r\n")
			d.turn(t, line{"S", "250 queued\r\n250 ok\r\n", "250 queued\r\n250 ok\r\n"})
			d.alive(t)
		})
	}
}

// held waits until a packet waits in the firewall for its verdict.
func (s *siege) held(t *testing.T) {
	t.Helper()
	eventually(t, "a packet is held", func() bool { return waiting(t, s.Lab) > 0 })
}
