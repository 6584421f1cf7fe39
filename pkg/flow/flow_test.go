package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

func TestKeyIgnoresDirection(t *testing.T) {
	ap := netip.MustParseAddrPort
	a, b, c := ap("10.0.0.1:25"), ap("10.0.0.1:26"), ap("[2001:db8::1]:25")
	if KeyOf(a, b) != KeyOf(b, a) || KeyOf(a, c) != KeyOf(c, a) {
		t.Error("the directions of a connection have different keys")
	}
	if KeyOf(a, b) == KeyOf(a, c) || KeyOf(a, a) == KeyOf(b, b) {
		t.Error("different connections have the same key")
	}
}

func TestTableIsBounded(t *testing.T) {
	table := NewTable[int](2)
	keys := []Key{{port: [2]uint16{1}}, {port: [2]uint16{2}}, {port: [2]uint16{3}}}
	first := table.Insert(keys[0])
	if table.Insert(keys[1]) == nil || table.Insert(keys[2]) != nil {
		t.Error("the bound does not hold")
	}
	table.Delete(first)
	if table.Lookup(keys[0]) != nil || table.Insert(keys[2]) == nil || table.Len() != 2 {
		t.Error("a deleted entry still counts")
	}
}

// Timers of many entries against a list that is searched from end to end.
func TestTimersAgainstOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	table := NewTable[int](100)
	deadline := map[*Entry[int]]time.Duration{}
	var entries []*Entry[int]
	for i := range 100 {
		entries = append(entries, table.Insert(Key{port: [2]uint16{uint16(i)}}))
	}
	now := time.Duration(0)
	for range 5000 {
		now += time.Duration(rnd.IntN(2000)) * time.Millisecond
		en := entries[rnd.IntN(len(entries))]
		class := Timer(rnd.IntN(int(NumTimers)))
		table.SetTimer(en, class, now)
		delete(deadline, en)
		if class != NoTimer {
			deadline[en] = now + timeouts[class]
		}
		for en := table.Expired(now); en != nil; en = table.Expired(now) {
			if d, ok := deadline[en]; !ok || d > now {
				t.Fatalf("at %v: an entry expired whose deadline is %v (%v)", now, d, ok)
			}
			delete(deadline, en)
			table.SetTimer(en, NoTimer, now)
		}
		for _, d := range deadline {
			if d <= now {
				t.Fatalf("at %v: an entry with deadline %v did not expire", now, d)
			}
		}
	}
}

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
			{Original, 4, 0, RST, 0, BadRST}, {Original, 5, 0, RST, 0, Closes}, {Original, 11, 0, RST, 0, Closes}, {Original, 12, 0, RST, 0, Old},
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
	tcb.Open(isn[Original])
	for i, s := range steps[1:] {
		seg := Segment{Seq: isn[s.dir].Add(s.seq), Ack: isn[s.dir.Other()].Add(s.ack), Flags: s.flags, Len: s.len}
		got := tcb.Check(s.dir, &seg)
		if got != s.want {
			t.Fatalf("step %d %+v: verdict %d, want %d", i+1, s, got, s.want)
		}
		if got == InOrder || got == Old {
			tcb.Forward(s.dir, &seg, got)
		}
	}
}
