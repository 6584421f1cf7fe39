package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// What was edited once stays edited, whatever the borders of a retransmission.
func TestRetransmissionCarriesTheEdit(t *testing.T) {
	w := connect(t, Options{})
	w.send(server, "220 x\r\n")
	line := "NOOP\r\nXCLIENT ADDR=1\r\nNOOP\r\n"
	w.send(client, line)
	masked := "NOOP\r\nXXXXXXXXXXXXXX\r\nNOOP\r\n"
	w.got[client] = receiver{base: w.isn[client] + 1, data: map[uint32]byte{}} // the network lost all of it
	for from := 0; from < len(line); from += 5 {
		end := min(from+7, len(line)) // overlapping pieces
		w.raw(client, w.at(client, from, line[from:end]))
	}
	w.want(client, strings.ReplaceAll(masked, "\r\n", "\n"))
	w.got[client] = receiver{base: w.isn[client] + 1, data: map[uint32]byte{}}
	w.sent[client] += len("QUIT\r\n")
	d := w.raw(client, w.at(client, 0, line+"QUIT\r\n")) // old and new bytes in one segment
	if d == nil || !d.Edited {
		t.Fatalf("decision %+v", d)
	}
	w.want(client, strings.ReplaceAll(masked, "\r\n", "\n")+"QUIT\n")
	w.raw(client, w.at(client, 8, "evil")) // different bytes at the same place
	w.ack(client)
	if c := w.e.Counters(); c.LedgerBytes > 256 {
		t.Errorf("acknowledged bytes are kept: %d", c.LedgerBytes)
	}
	w.done()
}

func TestOutOfOrderIsHeld(t *testing.T) {
	w := connect(t, Options{})
	w.send(server, "220 x\r\n")
	w.sent[client] = len("NOOP\r\nXFOO\r\nQUIT\r\n")
	if d := w.raw(client, w.at(client, 12, "QUIT\r\n")); d != nil {
		t.Fatalf("a packet behind a gap was decided: %+v", d)
	}
	if d := w.raw(client, w.at(client, 6, "XFOO\r\n")); d != nil {
		t.Fatalf("a packet behind a gap was decided: %+v", d)
	}
	w.raw(client, w.at(client, 0, "NOOP\r\n"))
	w.want(client, "NOOP\nXXXX\nQUIT\n")
	w.done()
}

// queueTimeout is how long a packet waits for the gap before it (ASA, queue-limit).
const queueTimeout = 4 * time.Second

func TestHoldTimesOut(t *testing.T) {
	w := connect(t, Options{})
	w.send(server, "220 x\r\n")
	w.sent[client] = 100
	w.raw(client, w.at(client, 6, "XFOO\r\n"))
	w.tick(queueTimeout - 10*time.Millisecond)
	if len(w.drops) > 0 {
		t.Fatal("dropped too early")
	}
	w.tick(10 * time.Millisecond)
	if diff := cmp.Diff([]Reason{ReasonHoldTimeout}, w.drops); diff != "" {
		t.Error(diff)
	}
	w.raw(client, w.at(client, 0, "NOOP\r\n"))
	w.raw(client, w.at(client, 6, "XFOO\r\n")) // TCP sends it again
	w.want(client, "NOOP\nXXXX\n")
	w.done()
}

func TestHoldIsBounded(t *testing.T) {
	w := connect(t, Options{Limits: Limits{HeldPerFlow: 3}})
	w.send(server, "220 x\r\n")
	w.sent[client] = 100
	for i := range 4 {
		w.raw(client, w.at(client, 6+i, "X"))
	}
	if diff := cmp.Diff([]Reason{ReasonHoldFull}, w.drops); diff != "" {
		t.Error(diff)
	}
	w.done()
}

// An established connection leaves by FIN, RST or conntrack's word, never by
// idleness; one that never got a greeting does.
func TestIdle(t *testing.T) {
	w := connect(t, Options{})
	w.tick(5 * time.Minute)
	if w.e.Counters().Flows != 1 {
		t.Fatal("a client waits five minutes for its greeting (RFC 5321)")
	}
	w.talk("S: 220 x")
	w.tick(24 * time.Hour)
	w.talk("C: XFOO")
	w.want(client, "XXXX\n")
	silent := connect(t, Options{})
	silent.tick(6 * time.Minute)
	if silent.e.Counters().Flows != 0 {
		t.Error("a connection without payload stays for ever")
	}
}

func TestSYNAgain(t *testing.T) {
	w := newWire(t, Options{})
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0] - 500}) // never answered
	w.handshake()                                                             // begun anew with another number
	w.talk("S: 220 x\nC: NOOP")
	w.want(client, "NOOP\n")
	if len(w.drops) > 0 {
		t.Errorf("drops %v", w.drops)
	}
}

// The same addresses again, with a lower sequence number: nothing of the old
// connection may stand in the way of the new one.
func TestTupleReuse(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP")
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1 + uint32(w.sent[0])})
	for i := range w.isn {
		w.isn[i] -= 5000
		w.sent[i] = 0
		w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
	}
	w.handshake()
	w.talk("S: 220 x\nC: XFOO")
	w.want(server, "220 *\n")
	w.want(client, "XXXX\n")
	w.done()
}

func TestMidstream(t *testing.T) {
	known := map[flow.Key]struct{}{flow.KeyOf(newWire(t, Options{}).addr[0], newWire(t, Options{}).addr[1]): {}}
	for _, c := range []struct {
		opt  Options
		want Decision
	}{
		{Options{Midstream: MidstreamReset, Known: known}, Decision{Mark: MarkReset}},
		{Options{Midstream: MidstreamBypass, Known: known}, Decision{Mark: MarkOffload}},
		{Options{Midstream: MidstreamBypass}, Decision{Mark: MarkReset}},
		{Options{Midstream: MidstreamDrop, Known: known}, Decision{Verdict: Drop, Reason: ReasonMidstream}},
	} {
		w := newWire(t, c.opt)
		d := w.send(client, "QUIT\r\n")
		if d.Verdict != c.want.Verdict || d.Mark != c.want.Mark || d.Reason != c.want.Reason {
			t.Errorf("%+v: decision %+v", c.opt, d)
		}
		rst := segment{flags: layers.TCP{RST: true}, seq: 1}
		if d := w.raw(client, rst); d.Mark == MarkReset {
			t.Errorf("%+v: a RST is answered with a RST", c.opt)
		}
	}
}

func TestTCPRefusals(t *testing.T) {
	for _, c := range []struct {
		name string
		dir  flow.Dir
		seg  func(w *wireTest) segment
		want Reason
	}{
		{"SYN with payload on a session", client, func(w *wireTest) segment {
			return segment{flags: layers.TCP{SYN: true}, seq: w.isn[0] + 500, payload: "EVIL"}
		}, ReasonSYNPayload},
		{"SYN on a session", client, func(w *wireTest) segment { return segment{flags: layers.TCP{SYN: true}, seq: w.isn[0] + 500} }, ReasonDuplicateSYN},
		{"SYN of the server", server, func(w *wireTest) segment { return segment{flags: layers.TCP{SYN: true}, seq: w.isn[1] + 9} }, ReasonNotSYN},
		{"acknowledges what was not sent", client, func(w *wireTest) segment {
			s := w.at(client, w.sent[0], "NOOP\r\n")
			s.ack += 100
			return s
		}, ReasonInvalidACK},
		{"RST before the window", client, func(w *wireTest) segment {
			return segment{flags: layers.TCP{RST: true}, seq: w.isn[0] - 10}
		}, ReasonInvalidRST},
		{"FIN inside old bytes", client, func(w *wireTest) segment {
			s := w.at(client, 0, "NO")
			s.flags.FIN = true
			return s
		}, ReasonBeyondFIN},
		{"no ACK", client, func(w *wireTest) segment {
			s := w.at(client, w.sent[0], "NOOP\r\n")
			s.flags.ACK = false
			return s
		}, ReasonNotSYN},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := connect(t, Options{})
			w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
			d := w.raw(c.dir, c.seg(w))
			if d == nil || d.Verdict != Drop || d.Reason != c.want {
				t.Fatalf("decision %+v, want drop %v", d, c.want)
			}
			w.talk("C: XFOO") // the session is unharmed and inspected
			w.want(client, "NOOP\nXXXX\n")
			w.done()
		})
	}
}

// A RST that its receiver may refuse must not blind the inspection.
func TestRSTDoesNotBlind(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
	w.raw(client, segment{flags: layers.TCP{RST: true}, seq: w.isn[0] + 1 + uint32(w.sent[0])})
	w.talk("C: XFOO")
	w.want(client, "NOOP\nXXXX\n")
	w.done()
}

func TestSpoofedInterface(t *testing.T) {
	w := newWire(t, Options{})
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0], in: 1})
	synAck := segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1, in: 1}
	if d := w.raw(server, synAck); d.Reason != ReasonSpoofed {
		t.Errorf("the client played the server: %+v", d)
	}
	synAck.in = 2
	if d := w.raw(server, synAck); d.Verdict != Accept {
		t.Errorf("the server's SYN-ACK: %+v", d)
	}
	s := w.at(server, 0, "220 x\r\n")
	s.in = 1
	if d := w.raw(server, s); d.Reason != ReasonSpoofed {
		t.Errorf("the client played the server: %+v", d)
	}
	w.done()
}

// A full table takes a new SYN in the place of one that is half open, and refuses
// it if none is.
func TestTableFull(t *testing.T) {
	w := newWire(t, Options{Limits: Limits{Flows: 1}})
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 1})
	w.addr[0] = netipMustParse("203.0.113.6:1000")
	w.handshake()
	if c := w.e.Counters(); c.Evicted != 1 || c.Flows != 1 || c.DropTotal() > 0 {
		t.Errorf("counters %+v", c)
	}
	w.talk("S: 220 x")
	w.addr[0] = netipMustParse("203.0.113.7:1000")
	if d := w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 1}); d.Reason != ReasonTableFull {
		t.Errorf("decision %+v", d)
	}
	w.addr[0] = netipMustParse("203.0.113.6:1000")
	w.talk("C: XFOO")
	w.want(client, "XXXX\n")
	w.done()
}

func TestForget(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP")
	k := flow.Tuple{Client: w.addr[0], Server: w.addr[1]}
	w.take(w.e.Forget(w.now, k), 0) // may be about an earlier connection
	if d := w.send(server, "250 ok\r\n"); d.Verdict != Accept || d.Mark != MarkNone {
		t.Errorf("decision %+v", d)
	}
	w.now += settling
	w.take(w.e.Forget(w.now, k), 0)
	if w.e.Counters().Flows != 0 {
		t.Error("not forgotten")
	}
	if diff := cmp.Diff("teardown 6", w.log()[len(w.log())-1]); diff != "" {
		t.Error(diff)
	}
}

// A connection whose entry was deleted, because conntrack took it for closed, ends
// however young it is. One that began since is another one.
func TestClose(t *testing.T) {
	for _, tt := range []struct {
		name  string
		since time.Duration // from the deletion to the SYN
		log   []string
	}{
		{"it was there", -time.Millisecond, []string{"built", "teardown 6"}},
		{"it began later", time.Millisecond, []string{"built"}},
	} {
		w := newWire(t, Options{})
		then := w.now - tt.since
		w.handshake()
		w.talk("S: 220 x\nC: NOOP")
		w.take(w.e.Close(w.now, then, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}), 0)
		if diff := cmp.Diff(tt.log, w.log()); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// TCP intercept ends half-open connections only: those without a SYN-ACK, and those
// whose server has answered and whose client has not been heard of again.
func TestCut(t *testing.T) {
	for _, answered := range []bool{false, true} {
		w := newWire(t, Options{})
		k := flow.Tuple{Client: w.addr[0], Server: w.addr[1]}
		w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]})
		if answered {
			w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
		}
		w.take(w.e.Cut(w.now, k, TeardownIntercept), 0)
		if n := w.e.Counters().Flows; n != 0 {
			t.Errorf("answered %v: %d flows left", answered, n)
		}
		if diff := cmp.Diff([]string{"built", "teardown 8"}, w.log()); diff != "" {
			t.Errorf("answered %v: %s", answered, diff)
		}
	}
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP")
	w.take(w.e.Cut(w.now, flow.Tuple{Client: w.addr[0], Server: w.addr[1]}, TeardownIntercept), 0)
	if n := w.e.Counters().Flows; n != 1 {
		t.Error("an established connection was cut")
	}
}

func TestUndecodable(t *testing.T) {
	good := newWire(t, Options{}).packet(client, segment{flags: layers.TCP{SYN: true}})
	fragment := append([]byte(nil), good...)
	fragment[6] = 0x20 // more fragments
	mapped := append([]byte(nil), newWire6(t).packet(client, segment{flags: layers.TCP{SYN: true}})...)
	copy(mapped[8:24], []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 5})
	for name, data := range map[string][]byte{
		"an IPv4 address in IPv6": mapped,
		"empty":                   {}, "version 5": {0x50}, "cut": good[:len(good)-1], "longer than its length": append(append([]byte(nil), good...), 0),
		"fragment": fragment, "header only": good[:20],
	} {
		e := New(Options{})
		if d := e.Process(&Packet{ID: 7, Data: data}); len(d) != 1 || d[0].Verdict != Drop || d[0].Reason != ReasonUndecodable || d[0].ID != 7 {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestLedgerOfRepliesForgets(t *testing.T) {
	w := connect(t, Options{Limits: Limits{LedgerServer: 64 << 10}})
	w.talk("S: 220 x\nC: HELP")
	line := "214-" + strings.Repeat("x", 994) + "\r\n"
	for range 100 { // no client bytes in between: pure ACKs do not come through the queue
		if d := w.send(server, line); d.Verdict != Accept {
			t.Fatalf("decision %+v", d)
		}
	}
	if d := w.raw(server, w.at(server, w.sent[server]-3000, "evil")); !d.Edited {
		t.Errorf("a conflicting retransmission passed: %+v", d)
	}
	if d := w.raw(server, w.at(server, 100, "evil")); d.Verdict != Drop || d.Reason != ReasonLedgerFull {
		t.Errorf("bytes that are not kept any more: %+v", d)
	}
	w.done()
}

// The same, and the packet goes on behind the last octet.
func TestLedgerOfRepliesForgotAndNew(t *testing.T) {
	w := connect(t, Options{Limits: Limits{LedgerServer: 64}})
	w.talk("S: 220-secret")
	for range 3 {
		w.talk("S: 220-012345678901234567890123456789")
	}
	end := w.sent[server]
	d := w.raw(server, w.at(server, 0, "220-secret\r\n"+strings.Repeat("0", end-12)+"220 new\r\n"))
	if d.Verdict != Drop || d.Reason != ReasonLedgerFull {
		t.Errorf("decision %+v", d)
	}
	w.done()
}

// What a packet says again must not be forgotten to make room for its new octets.
func TestLedgerOfRepliesMakesRoom(t *testing.T) {
	w := connect(t, Options{Limits: Limits{LedgerServer: 16}})
	w.talk("S: 220-secret")
	d := w.raw(server, w.at(server, 4, "secret\r\n220 new\r\n"))
	if d.Verdict != Drop || d.Reason != ReasonLedgerFull {
		t.Errorf("decision %+v, text %q", d, d.Data[40:])
	}
	w.done()
}
