package flow

import (
	"math/rand/v2"
	"testing"
	"time"
)

// Entries that come and go against the built-in map.
func TestTableAgainstOracle(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	table := NewTable[Key](3000)
	oracle := map[Key]*Entry[Key]{}
	for i := range 40000 {
		k := Key{port: [2]uint16{uint16(rnd.IntN(5000))}}
		en := table.Lookup(k)
		if en != oracle[k] || en != nil && en.Value != k {
			t.Fatalf("step %d: looked up %p, want %p", i, en, oracle[k])
		}
		switch {
		case en != nil && (i/8000%2 == 1 || rnd.IntN(4) == 0): // shrinks now and then
			table.Delete(en)
			delete(oracle, k)
		case en == nil && len(oracle) < 3000:
			en = table.Insert(k)
			en.Value = k
			oracle[k] = en
		case en == nil:
			if table.Insert(k) != nil {
				t.Fatalf("step %d: the bound does not hold", i)
			}
		}
		if table.Len() != len(oracle) {
			t.Fatalf("step %d: %d entries, want %d", i, table.Len(), len(oracle))
		}
	}
	if len(table.buckets) != 4096 {
		t.Errorf("%d buckets for up to 3000 entries, want 4096", len(table.buckets))
	}
}

// All gives every entry once, also where those in hand are deleted on the way.
func TestTableAll(t *testing.T) {
	table := NewTable[int](1000)
	for i := range 1000 {
		table.Insert(Key{port: [2]uint16{uint16(i)}}).Value = i
	}
	seen := map[int]int{}
	for en := range table.All() {
		if seen[en.Value]++; en.Value%2 == 0 {
			table.Delete(en)
		}
	}
	for i := range 1000 {
		if seen[i] != 1 {
			t.Errorf("entry %d: seen %d times", i, seen[i])
		}
	}
	left := 0
	for en := range table.All() {
		if left++; en.Value%2 == 0 {
			t.Errorf("entry %d was deleted", en.Value)
		}
	}
	if left != 500 || table.Len() != 500 {
		t.Errorf("%d left, Len %d, want 500", left, table.Len())
	}
	for range table.All() {
		break
	}
}

// The seed and the whole key decide on the bucket: of connections that differ
// in one field only, no chain is long.
func TestBucketsAreEven(t *testing.T) {
	const n = 1 << 12
	for name, key := range map[string]func(i int) Key{
		"ports":     func(i int) Key { return Key{port: [2]uint16{25, uint16(i)}} },
		"addresses": func(i int) Key { return Key{addr: [2][16]byte{{14: byte(i >> 8), 15: byte(i)}}} },
	} {
		table := NewTable[int](n)
		for i := range n {
			table.Insert(key(i))
		}
		longest := 0
		for _, en := range table.buckets {
			chain := 0
			for ; en != nil; en = en.chain {
				chain++
			}
			longest = max(longest, chain)
		}
		if longest > 16 { // with random buckets, fewer than one run in a billion has more
			t.Errorf("%s: the longest of %d chains has %d entries", name, len(table.buckets), longest)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := NewTable[int](2)
	k := Key{port: [2]uint16{25, 1}}
	en := table.Insert(k)
	if n := testing.AllocsPerRun(100, func() { table.SetTimer(table.Lookup(k), Embryonic, 0) }); n != 0 || table.Lookup(k) != en {
		t.Errorf("%v allocations", n)
	}
}

// The half-open entry that has waited longest, whatever it waits for.
func TestHalfOpen(t *testing.T) {
	table := NewTable[int](9)
	var entries []*Entry[int]
	for i := range 6 {
		entries = append(entries, table.Insert(Key{port: [2]uint16{uint16(i)}}))
	}
	const second = time.Second
	for _, c := range []struct {
		set   int
		class Timer
		now   time.Duration
		want  int // index of the half-open entry then; -1 is none
	}{
		{0, Tombstone, 0, -1},
		{1, Closing, 0, -1},
		{2, Embryonic, 1 * second, 2},
		{3, Embryonic, 2 * second, 2},
		{2, Greeting, 3 * second, 3}, // its SYN was answered: it has not waited since
		{4, Embryonic, 4 * second, 3},
		{3, NoTimer, 5 * second, 2}, // established
		{2, Draining, 6 * second, 4},
		{4, Greeting, 7 * second, 4},
		{4, NoTimer, 8 * second, -1},
	} {
		table.SetTimer(entries[c.set], c.class, c.now)
		var want *Entry[int]
		if c.want >= 0 {
			want = entries[c.want]
		}
		if got := table.HalfOpen(); got != want {
			t.Errorf("at %v, entry %d set to %d: got %p, want entry %d (%p)", c.now, c.set, c.class, got, c.want, want)
		}
	}
	if table.Waiting(Tombstone) != 1 || table.Waiting(Closing) != 1 || table.Waiting(Draining) != 1 || table.Waiting(Embryonic) != 0 || table.Waiting(Greeting) != 0 {
		t.Errorf("numbers of waiting entries %v", table.waiting)
	}
	table.Delete(entries[1])
	if table.Waiting(Closing) != 0 {
		t.Error("a deleted entry still waits")
	}
}
