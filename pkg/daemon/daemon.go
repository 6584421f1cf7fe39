package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Queue is one NFQUEUE; pkg/nfq has the real one.
type Queue interface {
	// Run gives packets to handle on one goroutine until ctx ends, and closes
	// the queue.
	Run(ctx context.Context, handle func(engine.Packet)) error
	// Verdict tells the kernel a decision. After the end of Run it does nothing.
	Verdict(engine.Decision) error
	// String tells the settings in force, for the log.
	String() string
}

// Conntrack is the kernel's table of connections; pkg/ctnl has the real one.
type Conntrack interface {
	// Delete removes the entry of a connection, and reports whether there was
	// one. original is the destination as the client wrote it, invalid if not
	// known. An id other than 0 must be the entry's.
	Delete(t flow.Tuple, original netip.AddrPort, id uint32) (deleted bool, err error)
	// Listen tells closed connections until ctx ends; it calls subscribed when
	// the first one can come. When it has missed some, it gives lost all that
	// are open; nobody writes to the map.
	Listen(ctx context.Context, subscribed func(), gone func(flow.Tuple), lost func(known map[flow.Key]struct{})) error
}

// Bounds of the channels between goroutines.
const (
	// eventsWaiting is the room for events on the way to audit, of all shards: a
	// second of a busy box. Overflow: the new event is lost, counted and logged.
	eventsWaiting = 8192

	// killsWaiting is the room for connections whose conntrack entries are to be
	// deleted. Overflow: the entry stays, counted; the engine's tombstone drops
	// what still comes, and the limiter asks again.
	killsWaiting = 4096

	// limitsWaiting is the room for events of the limiter, which says little
	// about each host. Overflow: the new event is lost and counted.
	limitsWaiting = 1024
)

const (
	// tickEvery is how often an engine hears the time (design.md section 6).
	tickEvery = 100 * time.Millisecond

	// lossEvery is how often lost events are logged, at most.
	lossEvery = 10 * time.Second
)

// Inspect says which queue is inspected how.
type Inspect struct {
	Queue  uint16
	Engine engine.Options // connection numbers are given by the Daemon
}

// Options is how a Daemon is set up.
type Options struct {
	Log       *logrus.Logger
	Start     time.Time // the epoch of Packet.Time and Event.Time
	Inspect   []Inspect // one shard each
	Open      func(queue uint16) (Queue, error)
	Conntrack Conntrack
	Audit     func(*engine.Event) // called by one goroutine; must not block for long
	Limit     *Limit              // nil: connections are not limited
	Tasks     []Task              // run beside the daemon's own: Signals, the control server
}

// Daemon inspects the traffic of several queues.
type Daemon struct {
	opt    Options
	log    *logrus.Logger
	shards []*shard
	ready  chan struct{}

	events chan engine.Event
	lost   atomic.Uint64 // events that found no room
	kills  chan flow.Tuple
	usage  usage

	limiter *limiter // nil: connections are not limited
	limits  chan static.Event
	cuts    chan static.Kill // connections that the limiter ends
}

// New returns a Daemon that has not opened anything yet.
func New(opt Options) *Daemon {
	d := &Daemon{
		opt: opt, log: opt.Log, ready: make(chan struct{}),
		events: make(chan engine.Event, eventsWaiting),
		kills:  make(chan flow.Tuple, killsWaiting),
		limits: make(chan static.Event, limitsWaiting),
		cuts:   make(chan static.Kill, killsWaiting),
	}
	if opt.Limit != nil {
		d.limiter = newLimiter(d, *opt.Limit)
	}
	for i, in := range opt.Inspect {
		in.Engine.FirstConn, in.Engine.ConnStep = uint64(i+1), uint64(len(opt.Inspect))
		in.Engine.Limits = in.Engine.Limits.Share(len(opt.Inspect))
		if d.limiter != nil {
			in.Engine.Synproxy = d.limiter.isProxied
		}
		d.shards = append(d.shards, newShard(d, in, func(o engine.Options) inspector { return engine.New(o) }))
	}
	return d
}

// Add adds a task to those of Options, before Run.
func (d *Daemon) Add(t Task) { d.opt.Tasks = append(d.opt.Tasks, t) }

// Ready is closed once every task is ready: every queue is bound.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// Run inspects until ctx ends or Signals stops it, and returns nil then, or until
// a task fails. What was held is dropped, and what was told is audited.
func (d *Daemon) Run(ctx context.Context) error {
	var sinks sync.WaitGroup
	sinks.Go(d.audit)
	sinks.Go(d.kill)
	sinks.Go(d.cut)

	tasks := append([]Task{d.conntrack()}, d.opt.Tasks...)
	if d.limiter != nil {
		tasks = append(tasks, d.limiter.tasks()...)
	}
	for _, s := range d.shards {
		tasks = append(tasks, s.task())
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range tasks {
		g.Go(func() error { return t.Run(ctx) })
	}
	g.Go(func() error { d.announce(ctx, tasks); return nil })
	err := g.Wait()

	close(d.events) // the shards have ended
	close(d.kills)
	close(d.cuts)
	sinks.Wait()
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// announce tells the operator and systemd that every task is ready, and that
// the daemon stops.
func (d *Daemon) announce(ctx context.Context, tasks []Task) {
	for _, t := range tasks {
		select {
		case <-t.Ready():
		case <-ctx.Done():
			return
		}
	}
	close(d.ready)
	d.log.Info("ready")
	d.notify(sd.SdNotifyReady)
	<-ctx.Done()
	d.notify(sd.SdNotifyStopping)
}

// notify tells systemd a state; without systemd it does nothing.
func (d *Daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Warnf("notify systemd of %s: %v", state, err)
	}
}

// conntrack is the task that tells every shard of closed connections; the
// kernel's spread of connections over queues is not known here.
func (d *Daemon) conntrack() Task {
	return NewTask("conntrack events", func(ctx context.Context, ready func()) error {
		return d.opt.Conntrack.Listen(ctx, ready,
			func(t flow.Tuple) { d.tell(ending{by: conntrackForgot, conn: t}) },
			func(known map[flow.Key]struct{}) {
				d.log.Warnf("conntrack events were lost: compared with its %d connections", len(known))
				d.tell(ending{by: eventsLost, known: known})
			})
	})
}

// kill deletes conntrack entries until the shards have ended.
func (d *Daemon) kill() {
	for t := range d.kills {
		d.delete(t, netip.AddrPort{}, 0)
	}
}

// delete deletes a conntrack entry, and reports whether it was there.
func (d *Daemon) delete(t flow.Tuple, original netip.AddrPort, id uint32) bool {
	deleted, err := d.opt.Conntrack.Delete(t, original, id)
	if err != nil {
		d.log.Warn(err)
	}
	return deleted
}

// tell tells all shards of an ending.
func (d *Daemon) tell(e ending) {
	for _, s := range d.shards {
		select {
		case s.gone <- e:
		case <-s.stopped:
		}
	}
}

// cut ends connections on behalf of the limiter until the tasks have ended. The
// shards learn first of half-open ones: conntrack tells of what is deleted, and the
// record would give that as the cause. They learn of closed ones if those were
// there: else another connection may have taken their place.
func (d *Daemon) cut() {
	for k := range d.cuts {
		conn := flow.Tuple(k.Conn)
		switch at := time.Since(d.opt.Start); k.Cause {
		case static.Intercepted:
			d.tell(ending{by: intercepted, conn: conn})
			d.delete(conn, k.Original, k.ID)
		case static.TimedOut:
			d.tell(ending{by: timedOut, conn: conn})
			d.delete(conn, k.Original, k.ID)
		case static.Closed:
			if d.delete(conn, k.Original, k.ID) {
				d.tell(ending{by: deleted, conn: conn, at: at})
			}
		}
	}
}

// audit hands over events until the shards have ended, and logs lost ones.
func (d *Daemon) audit() {
	tick := time.NewTicker(lossEvery)
	defer tick.Stop()
	var logged uint64
	report := func() {
		if lost := d.lost.Load(); lost != logged {
			d.log.Errorf("audit is too slow: %d events lost, %d since the start", lost-logged, lost)
			logged = lost
		}
	}
	defer report()
	for {
		select {
		case ev, more := <-d.events:
			if !more {
				d.lastLimits()
				return
			}
			d.opt.Audit(&ev)
		case ev := <-d.limits:
			d.opt.Limit.Audit(&ev)
		case <-tick.C:
			report()
		}
	}
}

// lastLimits hands over what the limiter has left.
func (d *Daemon) lastLimits() {
	for {
		select {
		case ev := <-d.limits:
			d.opt.Limit.Audit(&ev)
		default:
			return
		}
	}
}

// Snapshot is what one shard has done since the start.
type Snapshot struct {
	Queue         uint16
	Engine        engine.Counters // of all engines the shard has had
	Panics        uint64          // faults of the engine, each of which replaced it
	KillsLost     uint64          // conntrack entries that were not deleted for want of room
	VerdictErrors uint64          // verdicts that could not be sent
	Strays        uint64          // decisions about packets that wait for none: a fault of the engine
}

// Snapshots asks every shard for its counters, in the order of Options.Inspect.
func (d *Daemon) Snapshots(ctx context.Context) ([]Snapshot, error) {
	var all []Snapshot
	for _, s := range d.shards {
		one, err := s.snapshot(ctx)
		if err != nil {
			return nil, fmt.Errorf("ask the shard of queue %d: %w", s.inspect.Queue, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// Limits returns what limiting connections has done; false if it is not done.
func (d *Daemon) Limits() (LimiterSnapshot, bool) {
	if d.limiter == nil {
		return LimiterSnapshot{}, false
	}
	return d.limiter.snapshot(), true
}
