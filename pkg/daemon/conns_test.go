package daemon

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// Open is one connection for each packet that was accepted.
func (e *fakeEngine) Open() int { return int(e.count.Accepted) }

// Conns lists them, the newest first, two in a slice. That of a packet began at
// its time.
func (e *fakeEngine) Conns(at uint64, yield func(*engine.ConnInfo)) uint64 {
	if e.bad == "conns" && at > 0 {
		panic(errFault)
	}
	n := e.count.Accepted
	for end := min(at+2, n); at < end; at++ {
		i := n - 1 - at
		yield(&engine.ConnInfo{Conn: engine.Conn{ID: e.opt.FirstConn + i*e.opt.ConnStep}, Started: time.Duration(i) * time.Second})
	}
	if at == n {
		return 0
	}
	return at
}

// listed are the numbers of the connections in a list.
func listed(c Conns) (ids []uint64) {
	for _, info := range c.List {
		ids = append(ids, info.ID)
	}
	return ids
}

// TestConns lists the connections of two shards: those of the first are numbered
// 1, 3, 5, 7, those of the second 2.
func TestConns(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limit  int
		listed []uint64
	}{
		{"all", 100, []uint64{1, 2, 3, 5, 7}},
		{"just all", 5, []uint64{1, 2, 3, 5, 7}},
		{"one too many", 4, []uint64{1, 3, 5, 7}}, // the second shard comes last
		{"none", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(2)
				r.start()
				r.give(1, "a", "b", "c", "d")
				r.queues[1].in <- engine.Packet{ID: 5}
				pass(2 * time.Second)
				got, err := r.Conns(context.Background(), tt.limit)
				if err != nil {
					t.Fatal(err)
				}
				if ids := listed(got); !slices.Equal(ids, tt.listed) {
					t.Errorf("listed %v, want %v", ids, tt.listed)
				}
				if got.InUse != 5 || got.Most != 5 || got.Now != 2*time.Second {
					t.Errorf("%d in use, %d most used, at %v", got.InUse, got.Most, got.Now)
				}
				if err := r.finish(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestUsage remembers the most connections at the same time: a fault of the
// engine loses those of one shard.
func TestUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2)
		r.start()
		want := func(what string, inUse, most int) {
			t.Helper()
			if n, m := r.Usage(); n != inUse || m != most {
				t.Errorf("%s: %d in use, %d most used; want %d and %d", what, n, m, inUse, most)
			}
		}
		want("at first", 0, 0)
		r.give(1, "a", "b", "c")
		r.queues[1].in <- engine.Packet{ID: 4}
		synctest.Wait()
		want("four packets", 4, 4)
		r.give(5, "boom")
		pass(tickEvery)
		want("a fault in the first shard", 1, 4)
		r.give(6, "a", "b")
		want("two packets more", 3, 4)
		all, err := r.Conns(context.Background(), 100)
		if err != nil || all.InUse != 3 || all.Most != 4 {
			t.Errorf("listed %+v, %v", all, err)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestConnsFail names the queue whose shard does not answer, and survives a fault
// of the engine in the middle of its list.
func TestConnsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.start()
		r.give(1, "a", "b", "c")
		r.engines[0][0].bad = "conns"
		got, err := r.Conns(context.Background(), 100)
		if ids := listed(got); err != nil || !slices.Equal(ids, []uint64{2, 3}) {
			t.Errorf("listed %v, %v; want the first slice, the newest two", ids, err)
		}
		if len(r.engines[0]) != 2 {
			t.Error("the engine with the fault goes on")
		}
		ended, stop := context.WithCancel(context.Background())
		stop()
		if _, err := r.Conns(ended, 100); err == nil || err.Error() != "list the connections of queue 0: context canceled" {
			t.Errorf("with a context that has ended: %v", err)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
		if _, err := r.Conns(context.Background(), 100); err == nil || err.Error() != "list the connections of queue 0: it has stopped" {
			t.Errorf("after the end: %v", err)
		}
	})
}
