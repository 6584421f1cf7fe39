package flow

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
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

func TestKeyEnds(t *testing.T) {
	for _, c := range [][2]string{{"10.0.0.1:25", "10.0.0.2:26"}, {"10.0.0.2:26", "10.0.0.1:25"}, {"[2001:db8::1]:25", "[2001:db8::1]:26"}} {
		a, b := netip.MustParseAddrPort(c[0]), netip.MustParseAddrPort(c[1])
		k := KeyOf(a, b)
		if x, y := k.Ends(k.Place(a)); x != a || y != b || k.Place(a) == k.Place(b) {
			t.Errorf("%v: ends %v and %v", c, x, y)
		}
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
