package sim

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// silent is an application that says and does nothing.
type silent struct{}

func (silent) readable() {}
func (silent) wake()     {}

// lone is a server's end with an open connection: it has sent 10 octets, of which
// 4 are acknowledged, has got 20 and offers 100 more.
func lone(t *testing.T) *endpoint {
	t.Helper()
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	w.rnd = rand.New(rand.NewPCG(1, 1))
	w.plan = plan{class: unlucky, m: w.maps[0], tcp: policy.DefaultTCPMap(), limits: engine.DefaultLimits}
	c := w.newConn()
	c.address(w, 0)
	e := c.host[flow.Reply]
	e.open(w, c, flow.Reply, tcpTraits{mss: 1460, buffer: 100, scale: -1, pieces: 1 << 16, quickAck: true})
	e.app, e.phase = silent{}, hostOpen
	e.isn, e.irs = 1000, 5000
	e.out, e.una, e.nxt, e.max, e.maxWnd, e.edge = make([]byte, 10), 4, 10, 10, 50, 60
	e.in.put(0, make([]byte, 20), 1)
	e.read, e.offered, e.lastAck = 20, 120, 20
	e.stamps, e.recent = true, 7000
	return e
}

// Each row is a segment that comes to the end above: pos is its position (20 is
// the next octet), acked the position that it acknowledges.
func TestAcceptance(t *testing.T) {
	const ack = flow.ACK
	for _, c := range []struct {
		name       string
		flags      flow.Flags
		pos, acked int
		text       string
		stamp      uint32

		next, una int  // afterwards
		dead      bool // afterwards
		answers   int  // packets that it sends at once
	}{
		{"the next text", ack, 20, 4, "abc", 7001, 23, 4, false, 1},
		{"text acknowledging more", ack, 20, 10, "abc", 7001, 23, 10, false, 1},
		{"a pure ACK", ack, 20, 9, "", 7001, 20, 9, false, 0},
		{"text behind a gap", ack, 25, 4, "abc", 7001, 20, 4, false, 1},
		{"old text", ack, 10, 4, "abc", 7001, 20, 4, false, 1},
		{"old and new text", ack, 18, 4, "abcd", 7001, 22, 4, false, 1},
		{"text at the last octet of the window", ack, 119, 4, "a", 7001, 20, 4, false, 1},
		{"text behind the window", ack, 120, 4, "a", 7001, 20, 4, false, 1},
		{"acknowledges what was not sent", ack, 20, 11, "abc", 7001, 20, 4, false, 1},
		{"acknowledges a window back", ack, 20, 4 - 50, "abc", 7001, 23, 4, false, 1},
		{"acknowledges more than a window back", ack, 20, 4 - 51, "abc", 7001, 20, 4, false, 1},
		{"no ACK flag", flow.PSH, 20, 4, "abc", 7001, 20, 4, false, 0},
		{"an old timestamp", ack, 20, 4, "abc", 6999, 20, 4, false, 1},
		{"FIN", ack | flow.FIN, 20, 4, "", 7001, 21, 4, false, 1},
		{"text and FIN", ack | flow.FIN, 20, 4, "abc", 7001, 24, 4, false, 1},
		{"a stale FIN", ack | flow.FIN, 10, 4, "", 7001, 20, 4, false, 1},
		{"a FIN behind a gap", ack | flow.FIN, 25, 4, "", 7001, 20, 4, false, 1},
		{"RST at the exact number", flow.RST, 20, 4, "", 6000, 20, 4, true, 0},
		{"RST in the window", flow.RST, 21, 4, "", 7001, 20, 4, false, 1},
		{"a stale RST", flow.RST, 19, 4, "", 7001, 20, 4, false, 0},
		{"RST behind the window", flow.RST, 120, 4, "", 7001, 20, 4, false, 0},
		{"SYN in the window", flow.SYN, 20, 4, "", 7001, 20, 4, false, 1},
		{"a keep-alive probe", ack, 19, 4, "", 7001, 20, 4, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := lone(t)
			p := &packet{}
			p.build(e.c, flow.Original, &segment{seq: 5001 + uint32(c.pos), ack: 1001 + uint32(c.acked), flags: c.flags, window: 50,
				scale: -1, stamped: true, stamp: c.stamp, payload: []byte(c.text)})
			p.id = 2
			e.c.tap[flow.Original].put(0, append(make([]byte, 20), "abcdefgh"...), 2)
			e.c.open = true // what is delivered is another test's matter
			e.receive(p)
			if e.next() != c.next || e.una != c.una || (e.phase == hostDead) != c.dead {
				t.Errorf("next %d, una %d, dead %v; want %d, %d, %v", e.next(), e.una, e.phase == hostDead, c.next, c.una, c.dead)
			}
			sent := 0
			for _, ev := range e.w.queue.heap {
				if ev.p != nil {
					sent++
				}
			}
			if sent != c.answers {
				t.Errorf("%d packets sent, want %d", sent, c.answers)
			}
		})
	}
}

// The first copy of an octet wins, before and behind the gap.
func TestStream(t *testing.T) {
	type piece struct {
		pos  int
		text string
	}
	for _, c := range []struct {
		name   string
		pieces []piece
		want   string
	}{
		{"in order", []piece{{0, "ab"}, {2, "cd"}}, "abcd"},
		{"a gap", []piece{{0, "ab"}, {3, "d"}}, "ab"},
		{"a gap that closes", []piece{{3, "d"}, {0, "abc"}}, "abcd"},
		{"a conflict behind the gap", []piece{{2, "cd"}, {1, "XXX"}, {0, "a"}}, "aXcd"},
		{"a conflict with what is there", []piece{{0, "abc"}, {1, "XXX"}}, "abcX"},
		{"octets before the first", []piece{{-2, "XXab"}}, "ab"},
		{"all before the first", []piece{{-2, "XX"}}, ""},
	} {
		var s stream
		for i, p := range c.pieces {
			s.put(p.pos, []byte(p.text), uint32(i+1))
		}
		if got := string(s.data[:s.next]); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestEventsComeInTheirOrder(t *testing.T) {
	var q events
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		q.push(event{at: time.Duration(rnd.IntN(20))})
	}
	last := q.pop()
	for range 499 {
		next := q.pop()
		if next.at < last.at || next.at == last.at && next.order < last.order {
			t.Fatalf("event %d of %v behind event %d of %v", next.order, next.at, last.order, last.at)
		}
		last = next
	}
}
