package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestReady opens three queues, of which one takes its time.
func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(3)
		slow := make(chan struct{})
		r.opt.Open = func(queue uint16) (Queue, error) {
			if queue == 1 {
				<-slow
			}
			return r.queues[queue], nil
		}
		r.start()
		if isClosed(r.Ready()) || strings.Contains(r.log.String(), "msg=ready") {
			t.Error("ready before every queue was bound")
		}
		close(slow)
		synctest.Wait()
		if !isClosed(r.Ready()) {
			t.Error("not ready")
		}
		log := r.log.String()
		for _, want := range []string{`msg="queue 0"`, `msg="queue 1"`, `msg="queue 2"`} {
			if i := strings.Index(log, want); i < 0 || i > strings.Index(log, "msg=ready") {
				t.Errorf("no %s before ready in the log:\n%s", want, log)
			}
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenFails ends the daemon and names the queue; the other queues close.
func TestOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2)
		r.opt.Open = func(queue uint16) (Queue, error) {
			if queue == 1 {
				return nil, errors.New("it is already bound")
			}
			return r.queues[queue], nil
		}
		r.start()
		err := <-r.ended
		if err == nil || err.Error() != "inspect queue 1: it is already bound" {
			t.Errorf("got %v", err)
		}
		if isClosed(r.Ready()) {
			t.Error("it was ready")
		}
		if !r.queues[0].closed {
			t.Error("the other queue is open")
		}
	})
}

// TestVerdicts checks that each packet gets the engine's verdict, in its order.
func TestVerdicts(t *testing.T) {
	tests := []struct {
		name     string
		payloads []string
		want     string
		strays   uint64
	}{
		{"one by one", []string{"a", "b"}, "1 accept, 2 accept", 0},
		{"held and freed", []string{"hold", "a", "hold", "free"}, "2 accept, 1 accept, 3 accept, 4 accept", 0},
		{"a decision about no packet", []string{"stray"}, "1 accept", 1},
		{"held to the end", []string{"hold", "a"}, "2 accept, 1 drop", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(1)
				r.start()
				r.give(1, tt.payloads...)
				all, err := r.Snapshots(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if got := all[0]; got.Strays != tt.strays || got.Engine.Packets != uint64(len(tt.payloads)) {
					t.Errorf("counted %+v", got)
				}
				if err := r.finish(t); err != nil {
					t.Error(err)
				}
				if got := r.queues[0].show(); got != tt.want {
					t.Errorf("verdicts %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// TestTime gives packets between ticks: the engine's clock starts with the
// daemon's, ticks ten times a second and never runs backwards.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.start()
		pass(150 * time.Millisecond)
		r.give(1, "a")
		pass(100 * time.Millisecond)
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
		ms := time.Millisecond
		got := r.engines[0][0].times
		if want := []time.Duration{100 * ms, 150 * ms, 200 * ms}; !slices.Equal(got, want) {
			t.Errorf("the engine heard %v, want %v", got, want)
		}
	})
}

// TestFault lets the engine panic: what it had is dropped, and another engine
// goes on, with connection numbers of its own.
func TestFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2)
		r.start()
		r.give(1, "a", "hold", "boom", "b", "hold", "boom", "c")
		const want = "1 accept, 2 drop panic, 3 drop panic, 4 accept, 5 drop panic, 6 drop panic, 7 accept"
		got := strings.Split(r.queues[0].show(), ", ")
		slices.Sort(got) // packets dropped together have no order
		if strings.Join(got, ", ") != want {
			t.Errorf("verdicts %q, want %q", got, want)
		}
		all, err := r.Snapshots(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if c := all[0]; c.Panics != 2 || c.Engine.Drops[engine.ReasonPanic] != 4 || c.Engine.Packets != 7 || c.Engine.Flows != 5 {
			t.Errorf("counted %+v", c)
		}
		if all[1].Panics != 0 || len(r.engines[1]) != 1 {
			t.Error("the other shard's engine was replaced")
		}
		var first []uint64
		for _, e := range r.engines[0] {
			first = append(first, e.opt.FirstConn)
		}
		if want := []uint64{1, 1 + 2*3, 1 + 2*6}; !slices.Equal(first, want) {
			t.Errorf("connections numbered from %v, want %v", first, want)
		}
		if n := strings.Count(r.log.String(), "index out of range [7] with length 7"); n != 1 {
			t.Errorf("the fault is logged %d times, want once:\n%s", n, r.log)
		}
		if !strings.Contains(r.log.String(), "fakes_test.go") {
			t.Errorf("no stack in the log:\n%s", r.log)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestFaultElsewhere lets the engine panic where it was given no packet.
func TestFaultElsewhere(t *testing.T) {
	for _, where := range []string{"tick", "forget", "counters"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(1)
				r.start()
				r.give(1, "hold", "bad "+where)
				if where == "forget" {
					r.conntrack.gone <- flow.Tuple{}
				}
				pass(tickEvery)
				r.give(3, "a")
				if got, want := r.queues[0].show(), "2 accept, 1 drop panic, 3 accept"; got != want {
					t.Errorf("verdicts %q, want %q", got, want)
				}
				if err := r.finish(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestCountersSurviveFault keeps what was counted up to the last tick, without
// the gauges.
func TestCountersSurviveFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.start()
		r.give(1, "a", "b")
		pass(tickEvery)
		r.give(3, "boom", "c")
		all, err := r.Snapshots(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if c := all[0].Engine; c.Accepted != 3 || c.Packets != 4 || c.Flows != 5 {
			t.Errorf("counted %+v, want 3 accepted of 4 packets, 5 flows", c)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestEventsLost fills the channel to an audit that hangs.
func TestEventsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		hang := make(chan struct{})
		audited := 0
		r.audited = func(*engine.Event) { <-hang; audited++ }
		r.start()
		// One event is in the hands of the audit, eventsWaiting wait.
		r.give(eventsWaiting+8, "events")
		all, err := r.Snapshots(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		lost := all[0].Engine.EventsLost
		if lost != 7 && lost != 8 { // whether the audit had taken one by then
			t.Errorf("%d events lost", lost)
		}
		close(hang)
		pass(lossEvery)
		if !strings.Contains(r.log.String(), "events lost") {
			t.Errorf("the loss is not logged:\n%s", r.log)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
		if uint64(audited)+lost != eventsWaiting+8 {
			t.Errorf("%d events audited and %d lost of %d", audited, lost, eventsWaiting+8)
		}
		if n := strings.Count(r.log.String(), "events lost"); n != 1 {
			t.Errorf("the loss is logged %d times:\n%s", n, r.log)
		}
	})
}

// TestKill deletes what the engine wants deleted; a failure is logged.
func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.start()
		r.give(1, "kill")
		if n := len(r.conntrack.deleted); n != 1 {
			t.Errorf("%d entries deleted, want 1", n)
		}
		if !strings.Contains(r.log.String(), "out of luck") {
			t.Errorf("log:\n%s", r.log)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestGone tells every shard of a closed connection; what that frees gets its
// verdict.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2)
		r.start()
		r.give(1, "hold")
		k := flow.Tuple{Client: netip.MustParseAddrPort("10.9.1.2:4000"), Server: netip.MustParseAddrPort("10.9.2.2:25")}
		r.conntrack.gone <- k
		synctest.Wait()
		for i, e := range r.engines {
			if want := []flow.Tuple{k}; !slices.Equal(e[0].forgot, want) {
				t.Errorf("shard %d was told %v, want %v", i, e[0].forgot, want)
			}
		}
		if got, want := r.queues[0].show(), "1 accept"; got != want {
			t.Errorf("verdicts %q, want %q", got, want)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestShutdown stops a shard that holds one packet while more arrive: each gets
// a verdict before its queue closes.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		hang := make(chan struct{})
		r.audited = func(*engine.Event) { <-hang }
		r.start()
		r.give(1, "hold", "hold", "a")
		// The reader goes on delivering while the daemon stops.
		more := make(chan struct{})
		go func() {
			defer close(more)
			for id := uint32(4); id <= 9; id++ {
				select {
				case r.queues[0].in <- engine.Packet{ID: id, Data: []byte("hold")}:
				case <-r.shards[0].stopped:
					return
				}
			}
		}()
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
		<-more
		q := r.queues[0]
		if !q.closed {
			t.Error("the queue is open")
		}
		got := map[uint32]int{}
		for _, d := range q.verdicts {
			got[d.ID]++
			if d.ID != 3 && d.Verdict != engine.Drop {
				t.Errorf("packet %d: %+v", d.ID, d)
			}
		}
		for id := uint32(1); id <= 3; id++ {
			if got[id] != 1 {
				t.Errorf("packet %d got %d verdicts", id, got[id])
			}
		}
		for id, n := range got {
			if n != 1 {
				t.Errorf("packet %d got %d verdicts", id, n)
			}
		}
		if _, err := r.Snapshots(context.Background()); !errors.Is(err, errStopped) {
			t.Errorf("snapshot of a stopped daemon: %v", err)
		}
	})
}

// TestReaderFails ends the daemon when a socket does.
func TestReaderFails(t *testing.T) {
	for _, fail := range []error{errors.New("bad file descriptor"), nil} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(2)
			r.start()
			r.queues[1].fail <- fail
			want := "inspect queue 1: it ended by itself"
			if fail != nil {
				want = "inspect queue 1: bad file descriptor"
			}
			if err := <-r.ended; err == nil || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if !r.queues[0].closed {
				t.Error("the other queue is open")
			}
		})
	}
}

// TestVerdictErrors logs one of many.
func TestVerdictErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.queues[0].refuse = errors.New("send verdict: no buffer space")
		r.start()
		r.give(1, "a", "b", "c")
		all, err := r.Snapshots(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if all[0].VerdictErrors != 3 || strings.Count(r.log.String(), "no buffer space") != 1 {
			t.Errorf("counted %+v, log:\n%s", all[0], r.log)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestSignals sends the test itself a SIGTERM.
func TestSignals(t *testing.T) {
	task := Signals(logrus.New())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(context.Background()) }()
	<-task.Ready()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errStop) {
		t.Errorf("got %v", err)
	}
}

// TestStopBySignal takes the signal task's error for a clean end.
func TestStopBySignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(1)
		r.opt.Tasks = []Task{NewTask("signals", func(context.Context, func()) error { return errStop })}
		r.start()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestNotify tells systemd of the start and the end.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	r := newRig(1)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { r.ended <- r.Run(ctx) }()
	buffer := make([]byte, 100)
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		n, err := l.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if string(buffer[:n]) != want {
			t.Errorf("systemd is told %q, want %q", buffer[:n], want)
		}
		stop()
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// TestConntrackEventsLost has every shard compare its connections with conntrack's.
func TestConntrackEventsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(2)
		r.start()
		r.conntrack.lost <- map[flow.Key]struct{}{}
		r.conntrack.lost <- map[flow.Key]struct{}{flow.Tuple{}.Key(): {}}
		synctest.Wait()
		for i := range r.engines {
			if got := r.engines[i][0].reconciled; !slices.Equal(got, []bool{false, true}) {
				t.Errorf("shard %d: %v", i, got)
			}
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}
