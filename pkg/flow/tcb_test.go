package flow

import (
	"testing"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// A step of a TCB test: a segment and what must be said of it. Sequence numbers
// are relative to the initial ones of the direction and, for ack, of the other.
type step struct {
	dir      Dir
	seq, ack int
	flags    Flags
	len      int
	want     Verdict
}

func TestTCB(t *testing.T) {
	handshake := []step{{Original, 0, 0, SYN, 0, InOrder}, {Reply, 0, 1, SYN | ACK, 0, InOrder}}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"greeting and command", []step{
			{Reply, 1, 1, ACK, 10, InOrder}, {Original, 1, 11, ACK | PSH, 6, InOrder}, {Reply, 11, 7, ACK, 0, Old},
		}},
		{"retransmission, overlap, gap", []step{
			{Original, 1, 1, ACK, 10, InOrder}, {Original, 1, 1, ACK, 10, Old}, {Original, 5, 1, ACK, 6, Old},
			{Original, 5, 1, ACK, 10, InOrder}, {Original, 20, 1, ACK, 1, Ahead}, {Original, 15, 1, ACK, 5, InOrder},
		}},
		{"keep-alive and pure ACK ahead of a gap", []step{
			{Original, 1, 1, ACK, 10, InOrder}, {Original, 10, 1, ACK, 1, Old}, {Original, 10, 1, ACK, 0, Old}, {Original, 30, 1, ACK, 0, Old},
		}},
		{"acknowledging too much", []step{
			{Reply, 1, 1, ACK, 10, InOrder}, {Original, 1, 12, ACK, 1, BadACK}, {Original, 1, 11, ACK, 1, InOrder},
		}},
		{"FINs in order", []step{
			{Original, 1, 1, ACK | FIN, 4, InOrder}, {Original, 1, 1, ACK | FIN, 4, Old}, {Reply, 1, 6, ACK | FIN, 0, InOrder},
			{Original, 6, 2, ACK, 0, Old}, {Original, 6, 2, ACK, 1, BadFIN},
		}},
		{"text at the FIN's own number", []step{ // a receiver that lost the FIN would deliver it
			{Original, 1, 1, ACK | FIN, 4, InOrder}, {Original, 5, 1, ACK, 1, BadFIN}, {Original, 1, 1, ACK, 5, BadFIN},
			{Original, 1, 1, ACK, 4, Old}, {Original, 5, 1, ACK | FIN, 0, Old}, {Original, 6, 1, ACK, 0, Old},
		}},
		{"a FIN behind a gap waits", []step{{Original, 5, 1, ACK | FIN, 0, Ahead}, {Original, 1, 1, ACK, 4, InOrder}, {Original, 5, 1, ACK | FIN, 0, InOrder}}},
		{"a stale FIN", []step{{Original, 1, 1, ACK, 10, InOrder}, {Original, 3, 1, ACK | FIN, 2, BadFIN}}},
		{"RST at, before and behind what is expected", []step{
			{Original, 1, 1, ACK, 10, InOrder}, {Reply, 1, 5, ACK, 0, Old},
			{Original, 4, 0, RST, 0, BadRST}, {Original, 5, 0, RST, 0, Old}, {Original, 11, 0, RST, 0, Closes}, {Original, 12, 0, RST, 0, Old},
		}},
		{"RST between what is acknowledged and what was sent, and behind the window", []step{
			{Original, 1, 1, ACK, 10, InOrder}, {Reply, 1, 5, ACK, 0, Old}, {Original, 6, 0, RST, 0, Old}, {Original, 10, 0, RST, 0, Old},
			{Original, 65540, 0, RST, 0, Old}, {Original, 65541, 0, RST, 0, BadRST}, {Reply, 1, 0, RST, 0, Closes},
		}},
		{"RST at the FIN", []step{
			{Original, 1, 1, ACK | FIN, 4, InOrder}, {Reply, 1, 6, ACK, 0, Old}, {Original, 5, 0, RST, 0, Closes}, {Original, 4, 0, RST, 0, BadRST},
		}},
		{"octets at the window's edge and behind it", []step{
			{Original, 65536, 1, ACK, 1, Ahead}, {Original, 65537, 1, ACK, 1, Beyond}, {Reply, 1, 1, ACK, 5, InOrder},
			{Reply, 70000, 1, ACK, 5, Ahead}, {Original, 65537, 1, ACK, 0, Old},
		}},
		{"an acknowledgement older than a window", []step{
			{Reply, 1, 1, ACK, 60000, InOrder}, {Original, 1, 60001, ACK, 1, InOrder}, {Reply, 60001, 1, ACK, 60000, InOrder},
			{Original, 2, 120001, ACK, 1, InOrder}, {Original, 3, 54465, ACK, 1, InOrder}, {Original, 4, 54464, ACK, 1, BadACK},
		}},
		{"a second SYN-ACK", []step{{Reply, 0, 1, SYN | ACK, 0, Old}, {Reply, 5, 1, SYN | ACK, 0, Duplicate}, {Reply, 0, 2, SYN | ACK, 0, BadACK}}},
		{"a SYN again, another SYN, a split handshake", []step{
			{Original, 0, 0, SYN, 0, Old}, {Original, 9, 0, SYN, 0, Duplicate}, {Reply, 0, 0, SYN, 0, NotSYN}, {Original, 0, 1, SYN | ACK, 0, NotSYN},
		}},
		{"no ACK at all", []step{{Original, 1, 0, PSH, 3, NotSYN}, {Original, 1, 0, 0, 3, NotSYN}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			runTCB(t, append(handshake[:2:2], c.steps...))
		})
	}
	t.Run("before the SYN-ACK", func(t *testing.T) {
		runTCB(t, []step{
			handshake[0], {Original, 0, 0, SYN, 0, Old}, {Original, 1, 1, ACK, 3, NotSYN}, {Reply, 1, 1, ACK, 3, NotSYN},
			{Reply, 9, 9, ACK, 0, Old}, {Original, 9, 0, RST, 0, Old}, {Reply, 0, 2, RST | ACK, 0, Old}, {Reply, 0, 1, RST | ACK, 0, Closes},
		})
	})
}

// runTCB plays steps with initial numbers that wrap at once.
func runTCB(t *testing.T, steps []step) {
	t.Helper()
	isn := [2]wire.Seq{0xfffffffe, 0x7ffffffe}
	var tcb TCB
	tcb.Open(&Segment{Seq: isn[Original], Window: 65535})
	for i, s := range steps[1:] {
		seg := Segment{Seq: isn[s.dir].Add(s.seq), Ack: isn[s.dir.Other()].Add(s.ack), Flags: s.flags, Len: s.len, Window: 65535}
		got := tcb.Check(s.dir, &seg)
		if got != s.want {
			t.Fatalf("step %d %+v: verdict %d, want %d", i+1, s, got, s.want)
		}
		if got == InOrder || got == Old {
			tcb.Forward(s.dir, &seg, got)
		}
	}
}

// opened is a connection whose SYN and SYN-ACK had the options given.
func opened(client, server Options) *TCB {
	tcb := &TCB{}
	tcb.Open(&Segment{Seq: 1000, Flags: SYN, Window: 65535, Options: client})
	synAck := &Segment{Seq: 5000, Ack: 1001, Flags: SYN | ACK, Window: 65535, Options: server}
	tcb.Forward(Reply, synAck, tcb.Check(Reply, synAck))
	return tcb
}

// PAWS: a timestamp before that of the last octets in order is refused, but for
// pure ACKs, RSTs and what may be a wrapped clock.
func TestStamps(t *testing.T) {
	stamp := func(v uint32) Options { return Options{HasStamp: true, Stamp: v} }
	for _, c := range []struct {
		name           string
		client, server Options
		seg            Segment
		want           Verdict
	}{
		{"newer", stamp(100), stamp(7), Segment{Flags: ACK, Len: 5, Options: stamp(101)}, InOrder},
		{"a tick older", stamp(100), stamp(7), Segment{Flags: ACK, Len: 5, Options: stamp(99)}, InOrder},
		{"older", stamp(100), stamp(7), Segment{Flags: ACK, Len: 5, Options: stamp(98)}, OldStamp},
		{"older across the wrap", stamp(3), stamp(7), Segment{Flags: ACK, Len: 5, Options: stamp(0xfffffff0)}, OldStamp},
		{"older FIN", stamp(100), stamp(7), Segment{Flags: ACK | FIN, Options: stamp(98)}, OldStamp},
		{"older pure ACK", stamp(100), stamp(7), Segment{Flags: ACK, Options: stamp(98)}, Old},
		{"older RST", stamp(100), stamp(7), Segment{Flags: RST, Options: stamp(98)}, Closes},
		{"weeks older", stamp(100), stamp(7), Segment{Flags: ACK, Len: 5, Options: stamp(^uint32(paws - 101))}, InOrder},
		{"none", stamp(100), stamp(7), Segment{Flags: ACK, Len: 5}, InOrder},
		{"not agreed on by the server", stamp(100), Options{}, Segment{Flags: ACK, Len: 5, Options: stamp(1)}, InOrder},
	} {
		tcb := opened(c.client, c.server)
		c.seg.Seq, c.seg.Ack = 1001, 5001
		if got := tcb.Check(Original, &c.seg); got != c.want {
			t.Errorf("%s: verdict %d, want %d", c.name, got, c.want)
		}
	}
}

// The time that counts moves with octets that the receiver has asked for, not
// with those that it may not have got.
func TestStampMoves(t *testing.T) {
	tcb := opened(Options{HasStamp: true, Stamp: 100}, Options{HasStamp: true})
	for _, s := range []struct {
		seq, len int
		stamp    uint32
		want     Verdict
	}{
		{1001, 10, 200, InOrder}, // acknowledged up to 1001: moves to 200
		{1011, 10, 300, InOrder}, // nothing has acknowledged 1011: stays
		{1021, 10, 250, InOrder},
		{1031, 10, 150, OldStamp},
	} {
		seg := &Segment{Seq: wire.Seq(s.seq), Ack: 5001, Flags: ACK, Len: s.len, Options: Options{HasStamp: true, Stamp: s.stamp}}
		v := tcb.Check(Original, seg)
		if v != s.want {
			t.Fatalf("%+v: verdict %d", s, v)
		}
		if v == InOrder {
			tcb.Forward(Original, seg, v)
		}
	}
}

// The window that a server may offer: lowered to the room there is, scaled, and
// never behind what it has offered before.
func TestWindow(t *testing.T) {
	scaled := Options{HasScale: true, Scale: 7}
	for _, c := range []struct {
		name                 string
		client, server       Options
		offered, room, again int // what the server offers first, the room, and what it offers then
		want                 uint16
	}{
		{"no need", scaled, scaled, 10, 1 << 20, 500, 500},
		{"lowered", scaled, scaled, 10, 128 * 100, 500, 100},
		{"lowered to a whole unit", scaled, scaled, 10, 128*100 + 1, 500, 101},
		{"offered before", scaled, scaled, 600, 128 * 100, 700, 600},
		{"no scale", scaled, Options{}, 0, 1000, 60000, 1000},
		{"closed stays closed", scaled, scaled, 10, 128 * 100, 0, 0},
	} {
		tcb := opened(c.client, c.server)
		// The SYN-ACK's window is used up, so that nothing is offered before.
		tcb.Forward(Original, &Segment{Seq: 1001, Ack: 5001, Flags: ACK, Len: 65535}, InOrder)
		first := &Segment{Seq: 5001, Ack: 1001 + 65535, Flags: ACK, Window: uint16(c.offered)}
		tcb.Forward(Reply, first, Old)
		again := &Segment{Seq: 5001, Ack: first.Ack, Flags: ACK, Window: uint16(c.again)}
		if got := tcb.Window(again, c.room); got != c.want {
			t.Errorf("%s: window %d, want %d", c.name, got, c.want)
		}
	}
}

// Before the SYN-ACK an ACK belongs to an older connection, whose windows are not
// this one's; a RST offers nothing.
func TestWindowLeftAlone(t *testing.T) {
	tcb := &TCB{}
	tcb.Open(&Segment{Seq: 1000, Flags: SYN})
	challenge := &Segment{Seq: 77, Ack: 88, Flags: ACK, Window: 5000}
	if got := tcb.Window(challenge, 100); got != 5000 {
		t.Errorf("a challenge ACK: window %d", got)
	}
	tcb = opened(Options{}, Options{})
	rst := &Segment{Seq: 5001, Ack: 1001, Flags: ACK | RST, Window: 65535}
	if got := tcb.Window(rst, 100); got != 65535 {
		t.Errorf("a RST: window %d", got)
	}
}

// A synproxy has answered with 9000 where the server's number is 5000: the
// client's acknowledgements are 4000 too large.
func TestProxied(t *testing.T) {
	for _, c := range []struct {
		name string
		acks []int // of the client, in its own space, each with one octet
		want []wire.Seq
	}{
		{"before any octet of the server", []int{9001, 9011}, []wire.Seq{5011, 5011}}, // seen behind 10 octets: taken for all of them at first
		{"behind all of them", []int{9011, 9011}, []wire.Seq{5011, 5011}},
		{"behind some of them", []int{9005, 9011}, []wire.Seq{5011, 5011}},
	} {
		tcb := &TCB{}
		synAck := &Segment{Seq: 5000, Ack: 1001, Flags: SYN | ACK, Window: 65535}
		tcb.OpenProxied(synAck)
		tcb.Forward(Reply, synAck, tcb.Check(Reply, synAck))
		greeting := &Segment{Seq: 5001, Ack: 1001, Flags: ACK, Len: 10}
		tcb.Forward(Reply, greeting, tcb.Check(Reply, greeting))
		for i, ack := range c.acks {
			seg := &Segment{Seq: wire.Seq(1001 + i), Ack: wire.Seq(ack), Flags: ACK, Len: 1}
			tcb.Translate(Original, seg)
			if v := tcb.Check(Original, seg); v != InOrder || seg.Ack != c.want[i] {
				t.Errorf("%s: segment %d: verdict %d, acknowledges %d, want %d", c.name, i, v, seg.Ack, c.want[i])
			}
			tcb.Forward(Original, seg, InOrder)
		}
		beyond := &Segment{Seq: 1003, Ack: 9012 + 10, Flags: ACK, Len: 1}
		tcb.Translate(Original, beyond)
		if v := tcb.Check(Original, beyond); v != BadACK {
			t.Errorf("%s: what was never sent is acknowledged: verdict %d", c.name, v)
		}
	}
}

// Retransmitted SYNs and SYN-ACKs count as they are: nobody knows which arrived.
func TestHandshakeAgain(t *testing.T) {
	with, without := Options{HasScale: true, Scale: 7}, Options{}
	syn := func(o Options) *Segment { return &Segment{Seq: 1000, Flags: SYN, Window: 65535, Options: o} }
	synAck := func(o Options, window uint16) *Segment {
		return &Segment{Seq: 5000, Ack: 1001, Flags: SYN | ACK, Window: window, Options: o}
	}
	for _, c := range []struct {
		name   string
		later  []*Segment // behind a SYN with the option
		window uint16     // in the server's first ACK
		edge   int        // octets from the SYN on that the client may send then
	}{
		{"scaled", []*Segment{synAck(with, 1000)}, 100, 12800},
		{"the SYN again without the option", []*Segment{syn(without), synAck(without, 1000)}, 100, 1000},
		{"both again without the option", []*Segment{synAck(with, 1000), syn(without), synAck(without, 2000)}, 100, 2000},
		{"the SYN-ACK again, larger", []*Segment{synAck(with, 1000), synAck(with, 20000)}, 100, 20000},
		{"the SYN again, late", []*Segment{synAck(with, 1000), syn(with)}, 100, 12800},
	} {
		tcb := &TCB{}
		tcb.Open(syn(with))
		for _, s := range c.later {
			dir := Original
			if s.Flags&ACK != 0 {
				dir = Reply
			}
			v := tcb.Check(dir, s)
			if v != InOrder && v != Old {
				t.Fatalf("%s: verdict %d", c.name, v)
			}
			tcb.Forward(dir, s, v)
		}
		tcb.Forward(Reply, &Segment{Seq: 5001, Ack: 1001, Flags: ACK, Window: c.window}, Old)
		for n, want := range map[int]Verdict{c.edge: Ahead, c.edge + 1: Beyond} {
			seg := &Segment{Seq: wire.Seq(1001 + n), Ack: 5001, Flags: ACK, Len: 1}
			if got := tcb.Check(Original, seg); got != want {
				t.Errorf("%s: octet %d: verdict %d, want %d", c.name, n, got, want)
			}
		}
	}
}
