package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// process gives the engine a packet built from s and changed by edit.
func (w *wireTest) process(s segment, edit func(*Packet)) *Decision {
	w.id++
	w.now += time.Millisecond
	w.wait[w.id] = client
	p := &Packet{ID: w.id, Time: w.now, Data: w.packet(client, s)}
	edit(p)
	return w.take(w.e.Process(p), w.id)
}

// count is how many events of a kind there were.
func (w *wireTest) count(k EventKind) (n int) {
	for _, ev := range w.events {
		if ev.Kind == k {
			n++
		}
	}
	return n
}

// A wrong checksum: no receiver takes the packet, and an edit would repair it.
func TestChecksum(t *testing.T) {
	verify := policy.DefaultTCPMap()
	verify.ChecksumVerification = true
	for _, c := range []struct {
		name  string
		tcp   *policy.TCPMap
		known Checksum
		want  Reason
	}{
		{"the kernel has not looked", nil, ChecksumUnverified, ReasonChecksum},
		{"the kernel has looked", nil, ChecksumGood, ReasonNone},
		{"not computed yet", verify, ChecksumPartial, ReasonNone},
		{"a capture", nil, ChecksumUnknown, ReasonNone},
		{"a capture, checksum-verification", verify, ChecksumUnknown, ReasonChecksum},
	} {
		w := connect(t, Options{TCP: c.tcp})
		w.talk("S: 220 x")
		w.sent[client] = 6
		d := w.process(w.at(client, 0, "XFOO\r\n"), func(p *Packet) {
			p.Checksum = c.known
			p.Data[20+16] ^= 0x55
		})
		if d.Reason != c.want {
			t.Errorf("%s: decision %+v", c.name, d)
		}
		w.process(w.at(client, 0, "XFOO\r\n"), func(p *Packet) { p.Checksum = ChecksumUnverified }) // a right one
		w.want(client, "XXXX\n")
		w.done()
	}
}

func TestReservedBits(t *testing.T) {
	for _, c := range []struct {
		do    policy.ReservedBits
		flags byte // what of the reserved bits 0101 passes
		want  Reason
	}{{policy.ReservedAllow, 5, ReasonNone}, {policy.ReservedClear, 0, ReasonNone}, {policy.ReservedDrop, 5, ReasonReservedBits}} {
		m := policy.DefaultTCPMap()
		m.ReservedBits = c.do
		w := connect(t, Options{TCP: m})
		w.talk("S: 220 x")
		w.sent[client] = 6
		d := w.process(w.at(client, 0, "NOOP\r\n"), func(p *Packet) {
			p.Data[20+tcpOffset] |= 5
			putSeq(p.Data, be32(p.Data[24:]), be32(p.Data[28:])) // the checksum
		})
		if d.Reason != c.want || d.Data[20+tcpOffset]&reserved != c.flags {
			t.Errorf("%d: decision %+v", c.do, d)
		}
		w.done()
	}
}

func TestUrgent(t *testing.T) {
	urgent := func(w *wireTest) segment {
		s := w.at(client, w.sent[client], "NOOP\r\n")
		s.flags.URG, s.flags.Urgent = true, 3
		w.sent[client] += 6
		return s
	}
	w := connect(t, Options{})
	w.talk("S: 220 x")
	for range 3 {
		if d := w.raw(client, urgent(w)); !d.Edited || d.Data[20+tcpFlags]&flagURG != 0 {
			t.Errorf("decision %+v", d)
		}
	}
	if c := w.e.Counters(); c.UrgentCleared != 3 || w.count(EventUrgentCleared) != 1 {
		t.Errorf("%d cleared, %d told", c.UrgentCleared, w.count(EventUrgentCleared))
	}
	w.done()

	m := policy.DefaultTCPMap()
	m.AllowUrgent = true
	w = connect(t, Options{TCP: m})
	w.talk("S: 220 x")
	if d := w.raw(client, urgent(w)); d.Edited || d.Data[20+tcpFlags]&flagURG == 0 {
		t.Errorf("urgent-flag allow: decision %+v", d)
	}
}

func TestExceedMSS(t *testing.T) {
	m := policy.DefaultTCPMap()
	m.DropOverMSS = true
	for _, c := range []struct {
		name   string
		tcp    *policy.TCPMap
		len    int
		merged bool
		want   Reason
	}{
		{"at", m, 600, false, ReasonNone}, {"over", m, 601, false, ReasonExceedsMSS},
		{"several segments as one", m, 601, true, ReasonNone}, {"allowed", nil, 601, false, ReasonNone},
	} {
		w := newWire(t, Options{TCP: c.tcp})
		mss := []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{600 >> 8, 600 & 255}}}
		w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]})
		w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true, Options: mss}, seq: w.isn[1], ack: w.isn[0] + 1})
		w.talk("S: 220 x")
		text := strings.Repeat("NOOP\r\n", 101)[:c.len]
		d := w.process(w.at(client, 0, text), func(p *Packet) { p.Merged = c.merged })
		if d.Reason != c.want || w.count(EventExceedsMSS) != map[Reason]int{ReasonExceedsMSS: 1}[c.want] {
			t.Errorf("%s: decision %+v, events %v", c.name, d.Reason, w.log())
		}
		w.done()
	}
}

// A retransmission that says something else is counted, and told if asked for.
func TestCheckRetransmission(t *testing.T) {
	m := policy.DefaultTCPMap()
	m.CheckRetransmission = true
	for _, tcp := range []*policy.TCPMap{nil, m} {
		w := connect(t, Options{TCP: tcp})
		w.talk("S: 220 x\nC: NOOP\nC: XFOO")
		w.raw(client, w.at(client, 0, "NOOP\r\nXFOO\r\n")) // the same; the mask is ours
		w.raw(client, w.at(client, 2, "no"))
		w.want(client, "NOOP\nXXXX\n")
		told := 0
		if tcp != nil {
			told = 1
		}
		if c := w.e.Counters(); c.Conflicts != 1 || w.count(EventRetransmission) != told {
			t.Errorf("%d conflicts, events %v", c.Conflicts, w.log())
		}
		if told == 1 && w.events[len(w.events)-1].Offset != 2 {
			t.Errorf("offset %d", w.events[len(w.events)-1].Offset)
		}
		w.done()
	}
}

// queue-limit N timeout S: N packets wait, S seconds.
func TestQueueLimit(t *testing.T) {
	m := policy.DefaultTCPMap()
	m.QueueLimit, m.QueueTimeout = 2, time.Second
	w := connect(t, Options{TCP: m})
	w.talk("S: 220 x")
	w.sent[client] = 100
	w.heldBack(6, "a")
	w.heldBack(7, "a")
	w.raw(client, w.at(client, 8, "a"))
	if w.last() != ReasonHoldFull {
		t.Errorf("drops %v", w.drops)
	}
	w.tick(time.Second)
	if len(w.drops) != 3 || w.last() != ReasonHoldTimeout {
		t.Errorf("drops %v", w.drops)
	}
	w.done()
}

// Held packets are bounded by their octets too.
func TestHeldOctets(t *testing.T) {
	w := connect(t, Options{Limits: Limits{HeldOctets: 100}})
	w.talk("S: 220 x")
	w.sent[client] = 100
	w.heldBack(6, "12345678901234567890") // 60 with the headers
	w.raw(client, w.at(client, 30, "a"))
	if w.last() != ReasonHoldFull {
		t.Errorf("drops %v", w.drops)
	}
	w.raw(client, w.at(client, 0, "NOOP\r\n"))
	w.heldBack(30, "a")
	w.done()
	if c := w.e.Counters(); c.HeldOctets != 0 {
		t.Errorf("%d octets held", c.HeldOctets)
	}
}

// The queue of time-outs does not grow with packets that were decided at once.
func TestHoldQueueIsBounded(t *testing.T) {
	w := connect(t, Options{Limits: Limits{Held: 10}})
	w.talk("S: 220 x")
	for i := range 1000 {
		w.sent[client] += 12
		w.heldBack(12*i+6, "NOOP\r\n")
		w.raw(client, w.at(client, 12*i, "NOOP\r\n"))
		w.talk("S: 250 ok\nS: 250 ok")
	}
	if n := len(w.e.holds); n > 41 {
		t.Errorf("%d time-outs for %d packets", n, w.e.counters.HeldNow)
	}
	w.done()
}

// What is told once a session.
func TestToldOnce(t *testing.T) {
	w := newWire(t, Options{})
	w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0], in: 1})
	w.raw(server, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1, in: 2})
	for range 3 {
		w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: 77, in: 1})
		s := w.at(server, 0, "220 x\r\n")
		s.in = 1
		w.raw(server, s)
		s = w.at(client, 0, "QUIT\r\n")
		s.in = 2
		w.raw(client, s)
	}
	if w.count(EventDuplicateSYN) != 1 || w.count(EventSpoofed) != 2 || len(w.drops) != 9 {
		t.Errorf("events %v, drops %v", w.log(), w.drops)
	}
	w.done()
}

// Four queues keep as many octets as one, and as many sessions and packets each.
func TestLimitsShared(t *testing.T) {
	got := Limits{Flows: 7}.Share(4)
	want := DefaultLimits
	want.Flows, want.Ledger, want.HeldOctets = 7, 64<<20, 16<<20
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
