package engine

import (
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// bypassed is a session that passes unjudged, after a start that took less
// than settling; its first connection was closed in the kernel, unseen here.
func bypassed(t testing.TB) *wireTest {
	w := connect(t, Options{Undecided: UndecidedOpen})
	w.talk("S: 220 x\nS: 354 what")
	if d := w.send(client, "x\r\n"); d.Mark != MarkOffload {
		t.Fatalf("no bypass: %+v", d)
	}
	return w
}

func synOf(seq uint32) segment { return segment{flags: layers.TCP{SYN: true}, seq: seq} }

func synAckOf(seq, ack uint32) segment {
	return segment{flags: layers.TCP{SYN: true, ACK: true}, seq: seq, ack: ack}
}

// A new connection with the addresses of a session that passes unjudged is
// judged, however its SYN came about: the number of the old SYN, or a second
// SYN whose TTL ends behind the firewall.
func TestBypassIsNotInherited(t *testing.T) {
	for name, c := range map[string]struct {
		syns []uint32 // the server answers the first
		gone bool     // conntrack says that the old connection is gone, before the SYN
	}{
		"another number":            {syns: []uint32{5000}},
		"the old number":            {syns: []uint32{0xfffffff0}},
		"the old number, forgotten": {syns: []uint32{0xfffffff0}, gone: true},
		"two SYNs":                  {syns: []uint32{5000, 5001}},
		"a SYN and the old number":  {syns: []uint32{5000, 0xfffffff0}},
	} {
		w := bypassed(t)
		if c.gone {
			w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
		}
		for _, n := range c.syns {
			if d := w.raw(client, synOf(n)); d.Mark != MarkNone {
				t.Errorf("%s: SYN %d: mark %d", name, n, d.Mark)
			}
		}
		w.isn, w.sent = [2]uint32{c.syns[0], 9000}, [2]int{}
		for i := range w.got {
			w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
		}
		d := w.raw(server, synAckOf(9000, c.syns[0]+1))
		if d.Verdict == Accept && d.Mark != MarkNone {
			t.Errorf("%s: the server's SYN-ACK carries mark %d: the kernel takes the new session over", name, d.Mark)
		}
		if d.Verdict == Drop {
			continue // no session: safe, the client tries again
		}
		w.talk("S: 220 x\nC: XFOO")
		if got := string(w.got[client].bytes); got == "XFOO\r\n" {
			t.Errorf("%s: the server of the new session reads %q", name, got)
		}
	}
}

// stamped is at with a timestamp.
func (w *wireTest) stamped(dir flow.Dir, pos int, s string, stamp uint32) segment {
	seg := w.at(dir, pos, s)
	seg.flags.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10,
		OptionData: []byte{byte(stamp >> 24), byte(stamp >> 16), byte(stamp >> 8), byte(stamp), 0, 0, 0, 0}}}
	return seg
}

// A segment far before the stream, or a RST that nobody accepts, sets no
// timestamp (Linux: tcp_sequence comes before tcp_replace_ts_recent).
func TestStrangerSetsTimestamp(t *testing.T) {
	for name, forge := range map[string]func(w *wireTest) segment{
		"a pure segment a gigabyte before the stream": func(w *wireTest) segment {
			return w.stamped(client, -(1 << 30), "", 1000+1<<29)
		},
		"an old segment": func(w *wireTest) segment {
			return w.stamped(client, -20, "abc", 1000+1<<29)
		},
		"a RST": func(w *wireTest) segment {
			s := w.stamped(client, 0, "", 1000+1<<29)
			s.flags.ACK, s.flags.RST = false, true
			return s
		},
	} {
		w := newWire(t, Options{})
		withStamp := func(s segment, stamp uint32) segment {
			s.flags.Options = w.stamped(client, 0, "", stamp).flags.Options
			return s
		}
		w.raw(client, withStamp(synOf(w.isn[0]), 1000))
		w.raw(server, withStamp(synAckOf(w.isn[1], w.isn[0]+1), 2000))
		w.sent[server] = 7
		w.raw(server, w.stamped(server, 0, "220 x\r\n", 2001))
		w.sent[client] = 6
		w.raw(client, w.stamped(client, 0, "NOOP\r\n", 1001))
		w.raw(client, forge(w))
		w.sent[client] = 12
		if d := w.raw(client, w.stamped(client, 6, "NOOP\r\n", 1002)); d == nil || d.Verdict != Accept {
			t.Errorf("%s: the honest client's next command: %+v", name, d.Reason)
		}
	}
}

// Every session that was built is torn down in the records, once.
func TestEverySessionHasItsTeardown(t *testing.T) {
	gone := func(w *wireTest) {
		w.now += time.Minute
		w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
		w.tick(10 * time.Minute)
	}
	for name, play := range map[string]func() *wireTest{
		"bypass, a stranger's SYN": func() *wireTest {
			w := bypassed(t)
			w.raw(client, synOf(5000))
			return w
		},
		"a RST that was refused, a SYN, and the session goes on": func() *wireTest {
			w := connect(t, Options{})
			w.talk("S: 220 x\nC: NOOP")
			w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 7})
			w.raw(client, synOf(5000))
			w.talk("S: 250 ok\nC: NOOP\nS: 250 ok")
			// the RST has had its record; the session goes on and needs another
			w.events = w.events[:1]
			return w
		},
	} {
		w := play()
		gone(w)
		n := 0
		for _, ev := range w.events {
			if ev.Kind == EventTeardown {
				n++
			}
		}
		if c := w.e.Counters(); n != 1 || c.Flows != 0 {
			t.Errorf("%s: %d teardowns, %d flows left", name, n, c.Flows)
		}
	}
}

// A segment of replies that begins before what the ledger of replies has kept
// is refused when it goes on with new text, too.
func TestForgottenReplyStraddles(t *testing.T) {
	w := connect(t, Options{Limits: Limits{LedgerServer: 64}})
	w.talk("S: 220 x\nC: EHLO a")
	at := w.sent[server]
	text := "250-a\r\n250-STARTTLS\r\n" + "250-"
	for range 4 {
		text += "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n250-"
	}
	for len(text) > 0 { // the client gets none of it
		n := min(30, len(text))
		w.send(server, text[:n])
		text = text[n:]
	}
	w.got[server] = receiver{base: w.isn[server] + 1, data: map[uint32]byte{}, bytes: w.got[server].bytes[:at]}
	again := "250-a\r\n250-STARTTLS\r\n250-" // the real word, and new octets behind the end
	for len(again) < w.sent[server]-at {
		again += "z"
	}
	d := w.raw(server, w.at(server, at, again+"new\r\n"))
	if d != nil && d.Verdict == Accept {
		t.Errorf("the client reads %q", w.got[server].bytes[at:])
	}
}

// What cannot be read is not half of a session that goes on.
func TestUndecodableInASession(t *testing.T) {
	w := connect(t, Options{Undecided: UndecidedOpen})
	w.talk("S: 220 x")
	s := w.at(client, 0, "XFOO\r\n")
	s.flags.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}
	data := w.packet(client, s)
	data[20+21] = 0 // option length 0: Linux ignores the rest of the options and takes the text (tcp_parse_options)
	events := len(w.events)
	w.id++
	ds := w.e.Process(&Packet{ID: w.id, Time: w.now, Data: data})
	if len(ds) == 1 && ds[0].Verdict == Accept && !ds[0].Edited {
		w.events = append(w.events, w.e.TakeEvents()...)
		if len(w.events) == events {
			t.Errorf("XFOO passes without a record")
		}
		w.sent[client] = 6
		if d := w.send(server, "500 what\r\n"); d == nil || d.Verdict != Accept {
			t.Errorf("and the session is stuck: the server's reply: %v", d.Reason)
		}
	}
}

// A client plays the server behind a synproxy: a SYN-ACK on the client's
// interface opens nothing.
func TestProxiedSYNACKIsPinned(t *testing.T) {
	in := func(s segment, i uint32) segment { s.in = i; return s }
	w := newWire(t, Options{Synproxy: anyServer})
	w.raw(client, in(synOf(w.isn[0]), 1))
	w.raw(server, in(synAckOf(w.isn[1], w.isn[0]+1), 2))
	w.sent[server] = 7
	w.raw(server, in(w.at(server, 0, "220 x\r\n"), 2))
	w.sent[client] = 6
	w.raw(client, in(w.at(client, 0, "DATA\r\n"), 1))
	w.raw(client, in(segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 7}, 1)) // its TTL ends behind the firewall
	if d := w.raw(server, in(synAckOf(9000, w.isn[0]+7), 1)); d.Verdict == Accept {
		t.Errorf("the client's own SYN-ACK is accepted")
	}
	w.sent = [2]int{}
	if w.e.counters.Sessions != 1 {
		t.Errorf("%d sessions", w.e.counters.Sessions)
	}
}

// A stranger's SYN between SYN and SYN-ACK costs the honest client nothing.
func TestStrangersSYNInHandshake(t *testing.T) {
	w := newWire(t, Options{})
	w.raw(client, synOf(w.isn[0]))
	w.raw(client, synOf(777))
	if d := w.raw(server, synAckOf(w.isn[1], w.isn[0]+1)); d.Verdict != Accept {
		t.Errorf("the server's SYN-ACK: %s", d.Reason)
	}
}

// A stranger's RST, at no number in particular, on a session that passes
// unjudged, which then is silent for a while.
func TestBypassSilentBehindRST(t *testing.T) {
	w := bypassed(t)
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: 12345})
	w.tick(time.Minute)
	if d := w.send(client, "more\r\n"); d.Mark != MarkOffload {
		t.Errorf("decision %+v", d)
	}
}

// conntrack's late word about the connection before must not end a session that
// waits long for a reply.
func TestSettlingIsNoIdleTimeout(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: DATA\nS: 354 go\nC: .")
	w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	w.tick(9 * time.Minute) // RFC 5321 4.5.3.2.6: the client waits ten minutes
	if d := w.send(server, "250 ok\r\n"); d.Mark == MarkReset {
		t.Error("the reply to the dot is answered with a RST: the mail is sent twice")
	}
}

// A stranger's SYN on a connection that was open at the start (--midstream bypass).
func TestKnownSurvivesSYN(t *testing.T) {
	w := newWire(t, Options{})
	key := flow.KeyOf(w.addr[0], w.addr[1])
	w = newWire(t, Options{Midstream: MidstreamBypass, Known: map[flow.Key]struct{}{key: {}}})
	w.send(client, "XFOO\r\n")
	w.raw(client, synOf(777))
	if d := w.send(client, "XFOO\r\n"); d.Verdict != Accept {
		t.Errorf("the old connection: %s", d.Reason)
	}
}

// A reply to the dot may take ten minutes (RFC 5321 4.5.3.2.6) also when a later
// command has ended the session.
func TestDrainingWaitsForTheDot(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: DATA\nS: 354 go\nC: a\nC: .")
	got := w.sent
	w.talk("C: RCPT TO:<a|b>") // never reaches the server
	w.sent = got
	w.tick(9 * time.Minute)
	if d := w.send(server, "250 queued\r\n"); d.Verdict != Accept {
		t.Errorf("the reply to the dot: %s", d.Reason)
	}
}

// Many sessions that let a single octet of a message pass early take the whole
// pool; another session's greeting and commands must find room all the same.
func TestPoolForTheOthers(t *testing.T) {
	e := New(Options{Limits: Limits{Ledger: 1 << 20}})
	for range 100 {
		w := connectOn(t, e)
		w.talk("S: 220 x\nC: DATA\nS: 354 go")
		if len(w.drops) > 0 {
			t.Fatalf("a session cannot even begin: %v, %d octets of the pool in use", w.drops, e.pool.Used())
		}
		w.ack(client)
		for _, at := range []int{60000, 16000, 8000, 4000} { // as far ahead as it may
			if d := w.raw(client, w.at(client, w.sent[client]+at, "x")); d != nil && d.Verdict == Accept {
				break
			}
		}
	}
}

// What is said before what the receiver has acknowledged is not judged, and so is
// not said: the receiver ignores it, whatever its numbers are.
func TestAcknowledgedIsBlanked(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok") // acknowledges NOOP
	d := w.raw(client, w.at(client, 0, "EXPN\r\n"))
	if d.Verdict != Accept || !d.Edited || string(d.Data[40:]) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("decision %+v, text %q", d, d.Data[40:])
	}
	w.sent[client] = 12
	d = w.raw(client, w.at(client, 4, "xxNOOP\r\n"))
	if string(d.Data[40:]) != "\x00\x00NOOP\r\n" {
		t.Errorf("text %q", d.Data[40:])
	}
	if d := w.raw(client, w.at(client, -1<<30, "EXPN\r\n")); d.Verdict != Drop {
		t.Errorf("far before the stream: text %q", d.Data[40:])
	}
	w.want(client, "NOOP\nNOOP\n")
	w.done()
}

// Linux takes a RST at the right edge of the highest SACK block, too
// (tcp_validate_incoming): behind octets that went on early, the client's own
// RST stands there. Its next connection from the same port is not refused.
func TestRSTBehindEarlyOctets(t *testing.T) {
	w := inData(t, Options{})
	at := w.sent[client]
	w.accepted(at+10, "text behind a gap\r\n")
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1 + uint32(at+10+19)})
	if d := w.raw(client, synOf(5000)); d.Verdict != Accept {
		t.Errorf("the next SYN: %s", d.Reason)
	}
}

// The reset mark and the deletion of the conntrack entry are for the session that
// was ended, not for the new one with its addresses.
func TestNoKillBehindANewSYN(t *testing.T) {
	w := connect(t, Options{Map: mustParse(t, "match cmd line length gt 10\n  reset")})
	w.talk("S: 220 x\nC: NOOP this is long")
	w.raw(client, synOf(5000))
	w.e.TakeKills()
	w.raw(client, w.at(client, w.sent[client], "an old packet, or a stranger's\r\n"))
	if kills := w.e.TakeKills(); len(kills) > 0 {
		t.Errorf("the entry of the new connection is deleted: %v", kills)
	}
}

// The last owed reply is lost behind the firewall: the server's retransmission
// still passes, else the accepted mail is sent twice.
func TestLastOwedReplyIsLost(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: DATA\nS: 354 go\nC: a\nC: .\nC: RCPT TO:<a|b>")
	w.sent[client] -= len("RCPT TO:<a|b>\r\n") // the server did not get it
	at := w.sent[server]
	if w.talk("S: 250 queued"); len(w.drops) != 1 {
		t.Fatalf("drops %v", w.drops)
	}
	w.now += time.Second
	if d := w.raw(server, w.at(server, at, "250 queued\r\n")); d.Verdict != Accept {
		t.Errorf("sent again: %s", d.Reason)
	}
}

// A reset that the receiver does not get, or cannot take because octets before it
// were lost behind the firewall, is said again when it speaks.
func TestResetIsRepeated(t *testing.T) {
	w := connect(t, Options{Map: mustParse(t, "match cmd line length gt 10\n  reset")})
	w.talk("S: 220 x\nC: NOOP") // the NOOP is lost behind the firewall, and then the RST is not exact
	w.talk("C: NOOP this is long")
	challenge := w.at(server, w.sent[server], "")
	challenge.ack = w.isn[client] + 1
	if d := w.raw(server, challenge); d.Mark != MarkReset {
		t.Errorf("the server's challenge ACK: %+v", d.Reason)
	}
}

// An established session gives its place to nobody, conntrack's late word about
// the connection before it or not.
func TestEstablishedIsNotEvicted(t *testing.T) {
	e := New(Options{Limits: Limits{Flows: 1}})
	w := connectOn(t, e)
	w.talk("S: 220 x\nC: NOOP")
	w.take(e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	other := wireOn(t, e)
	if d := other.raw(client, synOf(1)); d.Verdict == Accept {
		t.Error("a SYN takes the place of an established session")
	}
}

// A session that is drained ends in time, whatever its server does.
func TestDrainingEnds(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nC: RCPT TO:<a|b>")
	w.sent[client] -= len("RCPT TO:<a|b>\r\n")
	w.raw(server, segment{flags: layers.TCP{RST: true}, seq: w.isn[1] + 1 + uint32(w.sent[server])})
	w.send(server, "250-")
	w.tick(time.Hour)
	w.tick(time.Hour)
	if c := w.e.Counters(); c.Flows != 0 {
		t.Errorf("%d flows for ever", c.Flows)
	}
}
