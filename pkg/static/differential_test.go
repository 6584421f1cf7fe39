package static

import (
	"math/rand/v2"
	"testing"
)

// Random lives of connections, and everything that can happen to their events.
func TestTrackerAgainstOracle(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t, rnd.IntN)
		w.say("seed %d", seed)
		for range 4000 {
			w.step()
		}
		w.finish()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// The same, each choice an octet.
func FuzzTracker(f *testing.F) {
	for seed := range uint64(4) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		b := make([]byte, 3000)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newWorld(t, func(n int) int {
			if len(b) == 0 {
				return 0
			}
			x := int(b[0]) % n
			b = b[1:]
			return x
		})
		for len(b) > 0 {
			w.step()
		}
		w.finish()
	})
}
