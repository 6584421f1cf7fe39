package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// lister is the part of engine.Engine that lists connections.
type lister interface {
	Open() int
	Conns(at uint64, yield func(*engine.ConnInfo)) (next uint64)
}

// Conns are the connections under inspection.
type Conns struct {
	Now   time.Duration // by the clock of the connections' times
	InUse int
	Most  int               // that there ever were at the same time since the start
	List  []engine.ConnInfo // the oldest first; where InUse is more, the others found no room
}

// Conns lists at most limit connections. Packets wait for a slice of the list at
// most; a connection that comes or goes meanwhile may be missing.
func (d *Daemon) Conns(ctx context.Context, limit int) (Conns, error) {
	all := Conns{List: make([]engine.ConnInfo, 0, min(limit, int(d.usage.now.Load())))}
	for _, s := range d.shards {
		err := s.conns(ctx, func(c *engine.ConnInfo) {
			if all.InUse++; len(all.List) < limit {
				all.List = append(all.List, *c)
			}
		})
		if err != nil {
			return Conns{}, fmt.Errorf("list the connections of queue %d: %w", s.inspect.Queue, err)
		}
	}
	slices.SortFunc(all.List, func(a, b engine.ConnInfo) int {
		return cmp.Or(cmp.Compare(a.Started, b.Started), cmp.Compare(a.ID, b.ID))
	})
	all.Now = time.Since(d.opt.Start)
	all.Most = max(all.InUse, int(d.usage.most.Load()))
	return all, nil
}

// Usage is how many connections are open, and how many were at most at the same
// time since the start.
func (d *Daemon) Usage() (inUse, most int) {
	inUse = int(d.usage.now.Load())
	return inUse, max(inUse, int(d.usage.most.Load()))
}

// conns lists the shard's connections, from any goroutine: a slice at a time. A
// fault of the engine ends the list; its connections are lost with it.
func (s *shard) conns(ctx context.Context, take func(*engine.ConnInfo)) error {
	for at, next := uint64(0), uint64(0); ; at = next {
		select {
		case <-s.stopped:
			return errStopped
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
		next = 0
		s.safely(func() { next = s.engine.Conns(at, take) })
		if next == 0 {
			return nil
		}
	}
}

// usage counts the open connections of all shards.
type usage struct{ now, most atomic.Int64 }

// noteUsage tells how many connections the shard's engine has now, if that has
// changed.
func (s *shard) noteUsage() {
	n := s.engine.Open()
	if n == s.open {
		return
	}
	u := &s.daemon.usage
	now := u.now.Add(int64(n - s.open))
	s.open = n
	for most := u.most.Load(); now > most && !u.most.CompareAndSwap(most, now); most = u.most.Load() {
	}
}
