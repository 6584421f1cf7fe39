package engine

import (
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// A SYN with the addresses of a session that is over: the old one is judged on
// until the server's SYN-ACK says that there is a new one.
func TestSYNAgainWhenOver(t *testing.T) {
	closed := func() *wireTest {
		w := connect(t, Options{})
		w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
		w.fin(client)
		w.fin(server)
		return w
	}
	syn := func(w *wireTest) segment { return segment{flags: layers.TCP{SYN: true}, seq: w.isn[0] + 90000} }
	w := closed()
	w.raw(client, syn(w))
	if d := w.raw(client, w.at(client, w.sent[client], "XFOO\r\n")); d.Verdict != Drop || d.Reason != ReasonBeyondFIN {
		t.Errorf("the old session is not judged: %+v", d)
	}
	refused := segment{flags: layers.TCP{RST: true, ACK: true}, ack: w.isn[0] + 90001}
	if d := w.raw(server, refused); d.Verdict != Accept {
		t.Errorf("nobody listens: %+v", d)
	}
	w.raw(client, syn(w))
	w.isn[0] += 90000
	w.isn[1] += 70000
	w.sent = [2]int{}
	for i := range w.got {
		w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
	}
	w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
	w.talk("S: 220 x\nC: XFOO")
	w.want(server, "220 *\n")
	w.want(client, "XXXX\n")
	w.done()
}

// Octets between a SYN and its SYN-ACK, on a session that is offloaded or was
// reset, are the old session's; a client that answers itself is not the server.
func TestSYNAgainNeedsTheServer(t *testing.T) {
	w := newWire(t, Options{})
	in := func(s segment, i uint32) segment { s.in = i; return s }
	w.raw(client, in(segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]}, 1))
	w.raw(server, in(segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1}, 2))
	w.sent[server] = 7
	w.raw(server, in(w.at(server, 0, "220 x\r\n"), 2))
	w.raw(client, in(segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1}, 1))
	w.raw(client, in(segment{flags: layers.TCP{SYN: true}, seq: 5000}, 1))
	own := segment{flags: layers.TCP{SYN: true, ACK: true}, seq: 9000, ack: 5001}
	if d := w.raw(server, in(own, 1)); d.Verdict != Drop {
		t.Errorf("the client played the server: %+v", d)
	}
	w.sent[client] = 6
	w.raw(client, in(w.at(client, 0, "XFOO\r\n"), 1))
	w.want(client, "XXXX\n")
	w.done()
}

// The new SYN makes conntrack forget the old connection, and its word comes
// before the SYN-ACK.
func TestSYNAgainForgotten(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x")
	w.fin(client)
	w.fin(server)
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 5000})
	w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	if d := w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: 9000, ack: 5001}); d.Verdict != Accept || d.Mark != MarkNone {
		t.Errorf("decision %+v", d)
	}
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: 5001})
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 6000})
	w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	w.tick(time.Minute) // nobody answers
	if c := w.e.Counters(); c.Flows != 0 {
		t.Error("not forgotten")
	}
}

// A RST that is not where its receiver must take it: the session goes on, and if
// conntrack says that it is over, that was why.
func TestDoubtfulRST(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP")
	if d := w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1 + 6}); d.Verdict != Accept {
		t.Errorf("decision %+v", d)
	}
	w.tick(time.Hour)
	w.talk("S: 250 ok\nC: XFOO")
	w.want(client, "NOOP\nNOOP\nXXXX\n")
	w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	if log := w.log(); log[len(log)-1] != "teardown 2" {
		t.Errorf("events %v", log)
	}
}

// A stranger's RST on a session that passes unjudged does not end it.
func TestBypassSurvivesRST(t *testing.T) {
	w := connect(t, Options{Undecided: UndecidedOpen})
	w.talk("S: 220 x\nS: 354 what") // nobody can say how the client's bytes are read
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: 12345})
	w.talk("C: anything")
	w.tick(time.Hour)
	if d := w.send(client, "more\r\n"); d.Verdict != Accept || d.Mark != MarkOffload {
		t.Errorf("decision %+v", d)
	}
	w.done()
}

// A SYN with the old number and a SYN-ACK that was under way do not make what was
// forwarded forgotten: the server has the octets, and would read others.
func TestSYNAgainWithTheOldNumber(t *testing.T) {
	for name, end := range map[string]func(w *wireTest){
		"reset": func(w *wireTest) {
			w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1 + uint32(w.sent[0])})
		},
		"ended": func(w *wireTest) { w.send(client, "RCPT TO:<a|b>\r\n") },
	} {
		for _, syns := range [][]uint32{{0}, {4000, 0}, {4000}} {
			w := newWire(t, Options{})
			old := segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1}
			w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]})
			w.raw(server, old)
			w.talk("C: NOOP")
			end(w)
			for _, n := range syns {
				w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0] + n})
			}
			w.raw(server, old)
			got := len(w.got[client].bytes)
			w.raw(client, w.at(client, 0, "NOOP xEXPN x\r\n"))
			if text := string(w.got[client].bytes[got:]); text != map[string]string{"reset": "XXXXXX\r\n"}[name] {
				t.Errorf("%s, SYNs %d: the server gets %q behind its NOOP", name, syns, text)
			}
			w.done()
		}
	}
}

// A client that lost its session to the inspection, and whose server knows
// nothing of that, connects again from the same port.
func TestSYNAgainBehindTombstone(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: RCPT TO:<a|b>")
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 5000})
	if d := w.raw(server, w.at(server, w.sent[server], "")); d.Verdict != Accept {
		t.Errorf("a challenge ACK: %+v", d)
	}
	if d := w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1}); d.Verdict != Accept {
		t.Errorf("the client's RST: %+v", d)
	}
	if d := w.raw(client, w.at(client, w.sent[client], "NOOP\r\n")); d.Verdict != Drop {
		t.Errorf("octets of the old session: %+v", d)
	}
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 5000})
	if d := w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: 9000, ack: 5001}); d.Verdict != Accept {
		t.Errorf("the SYN-ACK: %+v", d)
	}
	w.isn, w.sent = [2]uint32{5000, 9000}, [2]int{}
	for i := range w.got {
		w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
	}
	w.talk("S: 220 x\nC: XFOO")
	w.want(client, "XXXX\n")
	w.done()
}

// A synproxy has answered the client with another number than the server's.
func TestProxiedSession(t *testing.T) {
	synAck := func(w *wireTest) segment {
		return segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1}
	}
	w := newWire(t, Options{Synproxy: anyServer})
	w.raw(server, synAck(w))
	w.talk("S: 220 x")
	shifted := func(s segment) segment { s.ack += 77777; return s }
	w.sent[client] = 6
	w.raw(client, shifted(w.at(client, 0, "XFOO\r\n")))
	w.want(client, "XXXX\n")
	w.want(server, "220 *\n")
	if d := w.raw(client, shifted(shifted(w.at(client, 6, "NOOP\r\n")))); d.Reason != ReasonInvalidACK {
		t.Errorf("decision %+v", d)
	}
	w.done()

	w = newWire(t, Options{})
	if d := w.raw(server, synAck(w)); d.Mark != MarkReset {
		t.Errorf("without a synproxy: %+v", d)
	}
}

// What the client has acknowledged behind a synproxy is not known at first; what
// it may lack stays in the ledger.
func TestProxiedKeepsReplies(t *testing.T) {
	w := newWire(t, Options{Synproxy: anyServer})
	w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
	w.talk("S: 220 secret")
	w.sent[client] = 6
	s := w.at(client, 0, "NOOP\r\n")
	s.ack = w.isn[1] + 1 + 2 + 77777 // two octets of the greeting
	w.raw(client, s)
	w.got[server] = receiver{base: w.isn[server] + 1, data: map[uint32]byte{}}
	w.raw(server, w.at(server, 0, "220 secret\r\n"))
	w.want(server, "220 ******\n")
	w.done()
}

// A stranger's segment, which stands anywhere, teaches nothing about the numbers
// of a synproxy.
func TestProxiedLearnsFromTheClient(t *testing.T) {
	for name, forged := range map[string]segment{
		"not where the client goes on": {flags: layers.TCP{ACK: true, PSH: true}, seq: 5},
		"a RST":                        {flags: layers.TCP{ACK: true, RST: true}},
	} {
		w := newWire(t, Options{Synproxy: anyServer})
		w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
		w.talk("S: 220 x")
		forged.seq += w.isn[0] + 1
		forged.ack = 12345
		if forged.flags.RST {
			forged.seq -= 3 // stale
		}
		w.raw(client, forged)
		s := w.at(client, 0, "XFOO\r\n")
		s.ack += 77777
		w.raw(client, s)
		if w.want(client, "XXXX\n"); t.Failed() {
			t.Errorf("%s: drops %v", name, w.drops)
		}
	}
}

// A closed session stays as long as one of its ends repeats its FIN.
func TestClosingStays(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x")
	w.fin(client)
	w.fin(server)
	for range 5 {
		w.tick(20 * time.Second)
		s := w.at(client, w.sent[client]-1, "")
		s.flags.FIN = true
		if d := w.raw(client, s); d.Verdict != Accept || d.Mark != MarkNone {
			t.Fatalf("decision %+v", d)
		}
	}
	w.tick(30 * time.Second)
	if c := w.e.Counters(); c.Flows != 0 {
		t.Error("it stays for ever")
	}
	w.done()
}

// The same addresses again: there is no SYN to wait for.
func TestProxiedAgain(t *testing.T) {
	w := newWire(t, Options{Synproxy: anyServer})
	w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
	w.talk("S: 220 x\nC: NOOP")
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 7})
	if d := w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: 9000, ack: 5001}); d.Verdict != Accept || w.e.counters.Sessions != 2 {
		t.Errorf("decision %+v, %d sessions", d, w.e.counters.Sessions)
	}
	w.done()
}

// A connection that was open when the inspection began passes; a new one with
// its addresses is inspected, and so is what follows when that is forgotten.
func TestKnownIsUsedUp(t *testing.T) {
	w := newWire(t, Options{})
	key := flow.KeyOf(w.addr[0], w.addr[1])
	w = newWire(t, Options{Midstream: MidstreamBypass, Known: map[flow.Key]struct{}{key: {}}})
	if d := w.send(client, "XFOO\r\n"); d.Mark != MarkOffload {
		t.Fatalf("decision %+v", d)
	}
	w.sent[client] = 0
	w.handshake()
	w.now += settling
	w.take(w.e.Forget(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
	if d := w.send(client, "XFOO\r\n"); d.Mark != MarkReset {
		t.Errorf("decision %+v", d)
	}
	w.done()
}

// The time-out of the old connection comes between a new SYN and its SYN-ACK.
func TestTimeOutBetweenSYNAndSYNACK(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: QUIT\nS: 221 bye")
	w.fin(server)
	w.fin(client)
	w.tick(30*time.Second - 50*time.Millisecond)
	w.raw(client, synOf(w.isn[client]+1<<20))
	w.tick(200 * time.Millisecond)
	d := w.raw(server, synAckOf(w.isn[server]+1<<20, w.isn[client]+1<<20+1))
	if d.Verdict != Accept || d.Mark != MarkNone {
		t.Errorf("the SYN-ACK: %+v", d)
	}
}
