package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// reconcile tells the engine that conntrack knows the connection of w, or does not.
func (w *wireTest) reconcile(known bool) {
	w.t.Helper()
	w.take(w.e.Reconcile(w.now, func(k flow.Key) bool { return known && k == flow.KeyOf(w.addr[0], w.addr[1]) }), 0)
}

// TestReconcile loses conntrack's word that a connection is over, at every stage
// of its life. A session that Reconcile must leave is asked for again after its
// time-out.
func TestReconcile(t *testing.T) {
	syn := func(w *wireTest) { w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]}) }
	established := func(w *wireTest) {
		w.handshake()
		w.talk("S: 220 x\nC: NOOP")
	}
	closed := func(w *wireTest) {
		established(w)
		w.fin(client)
		w.fin(server)
	}
	bypassed := func(w *wireTest) {
		established(w)
		w.talk("S: 354 what") // --undecided open
	}
	tests := []struct {
		name  string
		life  func(w *wireTest)
		wait  time.Duration // before Reconcile
		left  uint64        // sessions afterwards
		leave string        // the last event
	}{
		{"a SYN on its way", syn, 0, 1, "built"},
		{"a SYN that will be repeated", syn, 7 * time.Second, 1, "built"},
		{"just established", established, settling - time.Second, 1, "built"},
		{"no greeting", (*wireTest).handshake, settling, 0, "teardown 6"},
		{"established", established, settling, 0, "teardown 6"},
		{"closed", closed, settling, 0, "teardown 1"},
		{"offloaded", bypassed, settling, 0, "teardown 6"},
		{"offloaded, a new SYN on its way", func(w *wireTest) {
			bypassed(w)
			w.now += settling
			w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 5000})
		}, 0, 1, "undecided"},
		{"ended by the inspection", func(w *wireTest) {
			established(w)
			w.talk("S: 250 ok\nC: MAIL FROM:<a|b>")
		}, settling, 1, "teardown 3"},
		{"ended, replies owed", func(w *wireTest) {
			established(w)
			w.talk("C: MAIL FROM:<a|b>")
		}, settling, 1, "teardown 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, Options{Undecided: UndecidedOpen})
			tt.life(w)
			w.now += tt.wait
			before := w.e.Counters().Flows
			w.reconcile(true)
			if got := w.e.Counters().Flows; got != before {
				t.Fatalf("%d sessions, %d before: one that conntrack knows was forgotten", got, before)
			}
			w.reconcile(false)
			if got := w.e.Counters().Flows; got != tt.left {
				t.Errorf("%d sessions, want %d", got, tt.left)
			}
			if log := w.log(); log[len(log)-1] != tt.leave {
				t.Errorf("events %v, want %s last", log, tt.leave)
			}
		})
	}
}

// What was too young is judged again.
func TestReconcileLater(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP")
	w.reconcile(false)
	if d := w.send(server, "250 ok\r\n"); d.Verdict != Accept || d.Mark != MarkNone {
		t.Errorf("decision %+v", d)
	}
	w.now += settling
	w.reconcile(false)
	if c := w.e.Counters(); c.Flows != 0 {
		t.Error("not forgotten")
	}
}

// A new SYN on the addresses of an offloaded session: should nobody answer it, the
// session leaves, however often events are lost meanwhile.
func TestReconcileNewSYNUnanswered(t *testing.T) {
	w := connect(t, Options{Undecided: UndecidedOpen})
	w.talk("S: 220 x\nS: 354 what")
	w.now += settling
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 5000})
	for range 7 {
		w.reconcile(false)
		w.tick(5 * time.Second)
	}
	if c := w.e.Counters(); c.Flows != 0 {
		t.Error("not forgotten")
	}
}

// Replies that are owed do not pass any more when conntrack has forgotten the
// connection: a tombstone is left.
func TestReconcileDraining(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nC: NOOP")
	got := w.sent[client]
	w.talk("C: MAIL FROM:<a|b>")
	w.sent[client] = got // the server has not got it
	w.talk("S: 250 one")
	w.now += settling
	w.reconcile(false)
	w.talk("S: 250 two")
	if got := string(w.got[server].bytes); !strings.HasSuffix(got, "250 one\r\n") {
		t.Errorf("the client got %q", got)
	}
	if drop := w.drops[len(w.drops)-1]; drop != ReasonEnded {
		t.Errorf("dropped for %v, want %v", drop, ReasonEnded)
	}
	w.done()
}

// The packets that a forgotten session held get their decisions.
func TestReconcileHeld(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: MAIL FROM:<a@example.org>\nS: 250 ok\nC: DATA")
	w.now += settling
	if d := w.send(client, "RSET\r\n"); d != nil {
		t.Fatalf("not held: %+v", d)
	}
	w.reconcile(false)
	if len(w.wait) > 0 || w.drops[len(w.drops)-1] != ReasonEnded {
		t.Errorf("%v without a decision, drops %v", w.wait, w.drops)
	}
}

// Of many sessions those go that conntrack does not know, and a connection that
// was open at the start is not let through any more when it is gone.
func TestReconcileMany(t *testing.T) {
	open := flow.KeyOf(netipMustParse("203.0.113.9:1"), netipMustParse("192.168.1.1:25"))
	closed := flow.KeyOf(netipMustParse("203.0.113.9:2"), netipMustParse("192.168.1.1:25"))
	e := New(Options{Midstream: MidstreamBypass, Known: map[flow.Key]struct{}{open: {}, closed: {}}})
	const n = 1000
	known := map[flow.Key]struct{}{open: {}}
	var all []*wireTest
	for i := range n {
		w := connectOn(t, e)
		if all = append(all, w); i%3 == 0 {
			known[flow.KeyOf(w.addr[0], w.addr[1])] = struct{}{}
		}
	}
	asked := 0
	e.Reconcile(all[n-1].now+settling, func(k flow.Key) bool {
		asked++
		_, ok := known[k]
		return ok
	})
	if got := e.Counters().Flows; got != 334 || asked != n+2 {
		t.Errorf("%d sessions left, want 334; asked %d times, want %d", got, asked, n+2)
	}
	for i, w := range all {
		if got, want := e.table.Lookup(flow.KeyOf(w.addr[0], w.addr[1])) != nil, i%3 == 0; got != want {
			t.Errorf("session %d: there %v, want %v", i, got, want)
		}
	}
	for port, want := range map[string]Mark{"1": MarkOffload, "2": MarkReset} {
		w := wireOn(t, e)
		w.addr[0] = netipMustParse("203.0.113.9:" + port)
		if d := w.send(client, "x"); d.Mark != want {
			t.Errorf("a packet from port %s: %+v, want mark %d", port, d, want)
		}
	}
}
