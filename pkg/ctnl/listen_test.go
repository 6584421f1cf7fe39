package ctnl

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// fake is a conntrack in memory. Each subscription takes what is sent to events;
// an error ends it.
type fake struct {
	*Conn
	start   time.Time
	events  chan []event
	errors  chan error
	entries []static.Entry // of the next dumps
	failing atomic.Bool    // the next dumps
	log     []string       // what was done and told, and when

	subscribed, closed int
}

// newFake makes a fake; call it in a synctest bubble.
func newFake() *fake {
	f := &fake{start: time.Now(), events: make(chan []event), errors: make(chan error)}
	f.Conn = &Conn{subscribe: f.subscription, dump: f.dump, pause: dumpPause}
	return f
}

func (f *fake) dump() ([]static.Entry, error) {
	if f.failing.Load() {
		return nil, syscall.ENOMEM
	}
	return f.entries, nil
}

func (f *fake) subscription(groups []group) (*subscription, error) {
	f.subscribed++
	f.note("subscribed %v", groups)
	out, done := make(chan []event), make(chan struct{})
	s := &subscription{events: out, close: func() { f.closed++; close(done) }}
	go func() {
		for {
			select {
			case batch := <-f.events:
				out <- batch
			case s.err = <-f.errors:
				close(out)
				return
			case <-done:
				return
			}
		}
	}()
	return s, nil
}

// note writes a line with the seconds since the start.
func (f *fake) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf("%gs ", time.Since(f.start).Seconds())+fmt.Sprintf(format, args...))
}

// fake is the Watcher, too.
func (f *fake) Resync(entries []static.Entry) { f.note("resync %d", len(entries)) }
func (f *fake) Changed(e static.Entry)        { f.note("changed %d to %d", e.ID, e.State) }
func (f *fake) Gone(e static.Entry)           { f.note("gone %d", e.ID) }

// tell sends one batch of events and waits until it is told.
func (f *fake) tell(events ...event) {
	f.events <- events
	synctest.Wait()
}

// lose loses events.
func (f *fake) lose(err error) {
	f.errors <- err
	synctest.Wait()
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// entry is one with the number id; conn makes its addresses.
func entry(id uint32, s static.State) static.Entry {
	c := named(fmt.Sprintf("203.0.113.5:%d", 4000+id), "192.168.1.1:25")
	return static.Entry{Conn: static.Conn(c), ID: id, State: s}
}

// run does something with f while listen runs, and returns the log and what listen
// returned.
func (f *fake) run(t *testing.T, listen func(ctx context.Context) error, do func()) []string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- listen(ctx) }()
	synctest.Wait()
	do()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if f.subscribed != f.closed {
		t.Errorf("%d subscriptions, %d closed", f.subscribed, f.closed)
	}
	return f.log
}

func TestWatch(t *testing.T) {
	synSent, established := event{entry(1, static.SYNSent), false}, event{entry(1, static.Established), false}
	tests := []struct {
		name  string
		do    func(f *fake, again chan<- struct{})
		want  []string
		count Counters
	}{
		{
			"a connection",
			func(f *fake, _ chan<- struct{}) {
				f.tell(synSent, established)
				f.tell(event{entry(1, 0), false}) // its mark
				f.tell(event{entry(1, 0), true})
			},
			[]string{"0s subscribed [1 2 3]", "0s resync 2", "0s changed 1 to 1", "0s changed 1 to 3", "0s gone 1"},
			Counters{Events: 4, Resyncs: 1},
		},
		{
			"asked for, and every minute",
			func(f *fake, again chan<- struct{}) {
				f.entries = nil
				pass(2 * time.Second)
				again <- struct{}{}
				again <- struct{}{}
				pass(119 * time.Second)
			},
			[]string{"0s subscribed [1 2 3]", "0s resync 2", "2s resync 0", "2s resync 0", "60s resync 0", "120s resync 0"},
			Counters{Resyncs: 5},
		},
		{
			"a loss long after a dump",
			func(f *fake, _ chan<- struct{}) {
				pass(7 * time.Second)
				f.lose(syscall.ENOBUFS)
				pass(time.Second)
				f.tell(synSent)
			},
			[]string{"0s subscribed [1 2 3]", "0s resync 2", "7s subscribed [1 2 3]", "7s resync 2", "8s changed 1 to 1"},
			Counters{Events: 1, Overruns: 1, Resyncs: 2},
		},
		{
			"one loss after another",
			func(f *fake, _ chan<- struct{}) {
				for range 3 {
					f.lose(syscall.ENOBUFS)
					f.tell(synSent)
					pass(2 * time.Second)
				}
				f.lose(errUnreadable)
				pass(20 * time.Second)
			},
			[]string{
				"0s subscribed [1 2 3]", "0s resync 2",
				"0s subscribed [1 2 3]", "0s changed 1 to 1", "2s subscribed [1 2 3]", "2s changed 1 to 1",
				"4s subscribed [1 2 3]", "4s changed 1 to 1", "5s resync 2",
				"6s subscribed [1 2 3]", "10s resync 2",
			},
			Counters{Events: 3, Overruns: 4, Resyncs: 3},
		},
		{
			"a dump that is asked for makes up for a loss",
			func(f *fake, again chan<- struct{}) {
				f.lose(syscall.ENOBUFS)
				pass(time.Second)
				again <- struct{}{}
				pass(20 * time.Second)
			},
			[]string{"0s subscribed [1 2 3]", "0s resync 2", "0s subscribed [1 2 3]", "1s resync 2"},
			Counters{Overruns: 1, Resyncs: 2},
		},
		{
			"a dump that fails is repeated",
			func(f *fake, again chan<- struct{}) {
				f.failing.Store(true)
				again <- struct{}{}
				pass(7 * time.Second)
				f.failing.Store(false)
				pass(20 * time.Second)
			},
			[]string{"0s subscribed [1 2 3]", "0s resync 2", "10s resync 2"},
			Counters{Resyncs: 2, Failures: 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, again := newFake(), make(chan struct{})
				f.entries = []static.Entry{entry(1, static.Established), entry(2, static.SYNRecv)}
				got := f.run(t, func(ctx context.Context) error { return f.Watch(ctx, f, again) }, func() { tt.do(f, again) })
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Error(diff)
				}
				if got := f.Counters(); got != tt.count {
					t.Errorf("counted %+v, want %+v", got, tt.count)
				}
			})
		})
	}
}

// TestWatchRefused returns the error of a subscription, or of a first dump, that
// does not come about.
func TestWatchRefused(t *testing.T) {
	c := &Conn{subscribe: func([]group) (*subscription, error) { return nil, syscall.EPERM }}
	if err := c.Watch(context.Background(), &fake{}, nil); !errors.Is(err, syscall.EPERM) {
		t.Errorf("no subscription: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.failing.Store(true)
		if err := f.Watch(context.Background(), f, nil); !errors.Is(err, syscall.ENOMEM) || f.closed != 1 {
			t.Errorf("no dump: %v, %d closed", err, f.closed)
		}
	})
}

// TestListen loses events: what conntrack knows then is told behind what was told
// before, and before what comes next.
func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.entries = []static.Entry{entry(7, static.Established)}
		gone := func(c flow.Tuple) { f.note("gone %s %s", c.Client, c.Server) }
		lost := func(known map[flow.Key]struct{}) {
			if _, ok := known[named("203.0.113.5:4007", "192.168.1.1:25").Key()]; !ok {
				t.Errorf("known are %v", known)
			}
			f.note("lost: %d known", len(known))
		}
		got := f.run(t, func(ctx context.Context) error {
			return f.Listen(ctx, func() { f.note("can come") }, gone, lost)
		}, func() {
			f.tell(event{entry(1, 0), true}, event{entry(2, 0), true})
			f.lose(syscall.ENOBUFS)
			f.tell(event{entry(3, 0), true})
			f.lose(errUnreadable)
			f.tell(event{entry(4, 0), true})
			pass(10 * time.Minute)
		})
		want := []string{
			"0s subscribed [3]", "0s can come", "0s gone 203.0.113.5:4001 192.168.1.1:25", "0s gone 203.0.113.5:4002 192.168.1.1:25",
			"0s subscribed [3]", "0s lost: 1 known", "0s gone 203.0.113.5:4003 192.168.1.1:25",
			"0s subscribed [3]", "0s gone 203.0.113.5:4004 192.168.1.1:25", "5s lost: 1 known",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if got, want := f.Counters(), (Counters{Events: 4, Overruns: 2, Resyncs: 2}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	})
}

// TestListenRefused returns the error of a subscription that does not come about.
func TestListenRefused(t *testing.T) {
	c := &Conn{subscribe: func([]group) (*subscription, error) { return nil, syscall.EPERM }}
	err := c.Listen(context.Background(), func() { t.Error("announced") }, nil, nil)
	if !errors.Is(err, syscall.EPERM) {
		t.Errorf("got %v", err)
	}
}
