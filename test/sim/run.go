package sim

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// maxReported is how many violations a run keeps; it counts all.
const maxReported = 20

// Result is what a run has found.
type Result struct {
	Schedules  uint64
	Violations uint64
	First      []*Violation // the first ones, by seed
	Stats      Stats
}

// Run plays n schedules; schedule i has the seed seed+i. They run side by side on
// all processors, each of them alone in its world, so that the result of a seed
// is always the same. With first they stop at a violation.
func Run(n, seed uint64, first bool) (*Result, error) {
	var next atomic.Uint64
	var wait sync.WaitGroup
	var lock sync.Mutex
	res := &Result{Schedules: n}
	for range min(uint64(runtime.GOMAXPROCS(0)), n) {
		w, err := newWorld()
		if err != nil {
			return nil, err
		}
		wait.Add(1)
		go func() {
			defer wait.Done()
			var found []*Violation
			for i := next.Add(1) - 1; i < n; i = next.Add(1) - 1 {
				if v := w.run(seed + i); v != nil {
					found = append(found, v)
					if first {
						next.Store(n)
					}
				}
			}
			lock.Lock()
			defer lock.Unlock()
			res.First = append(res.First, found...)
			res.Stats.add(w.stats)
		}()
	}
	wait.Wait()
	res.Violations = uint64(len(res.First))
	slices.SortFunc(res.First, func(a, b *Violation) int { return cmp.Compare(a.Seed, b.Seed) })
	res.First = res.First[:min(len(res.First), maxReported)]
	return res, nil
}
