package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// decider is the part of engine.Engine that decides.
type decider interface {
	Process(*engine.Packet) []engine.Decision
	Tick(time.Duration) []engine.Decision
}

// forgetter is the part of engine.Engine that learns from conntrack of connections'
// ends.
type forgetter interface {
	Forget(time.Duration, flow.Tuple) []engine.Decision
	Reconcile(now time.Duration, known func(flow.Key) bool) []engine.Decision
}

// ender is the part of engine.Engine that learns of connections that the limiter
// has ended.
type ender interface {
	Cut(time.Duration, flow.Tuple, engine.Teardown) []engine.Decision
	Close(now, then time.Duration, k flow.Tuple) []engine.Decision
}

// reporter is the part of engine.Engine that tells what was done.
type reporter interface {
	TakeEvents() []engine.Event
	TakeKills() []flow.Tuple
	Counters() engine.Counters
}

// inspector is an engine.Engine; tests have another.
type inspector interface {
	decider
	forgetter
	ender
	reporter
	lister
}

// ending tells of connections that others than the engine have ended.
type ending struct {
	by    cause
	conn  flow.Tuple
	at    time.Duration         // of deleted: when
	known map[flow.Key]struct{} // of eventsLost: all connections that are open
}

// cause is who.
type cause uint8

// The causes.
const (
	conntrackForgot cause = iota
	intercepted           // a half-open one, whose server's place a client needs
	timedOut              // a half-open one, of a host with limits
	deleted               // the limiter has had conntrack forget a closed one
	eventsLost            // conntrack has forgotten those that are not known
)

// shard inspects one queue. Packets are decided on by the goroutine of the queue's
// reader, so that none waits for another goroutine to wake up; everything else is
// done by that of the shard's task, but for lists (conns.go). mu guards what they
// touch.
type shard struct {
	daemon    *Daemon
	inspect   Inspect
	newEngine func(engine.Options) inspector

	gone    chan ending        // from conntrack and the limiter
	ask     chan chan Snapshot // from whoever wants one
	stopped chan struct{}      // closed when the task has ended

	queue Queue
	mu    sync.Mutex // guards all that follows

	engine  inspector
	waiting map[uint32]struct{} // packets given to engine that have no verdict
	taken   uint64              // packets given to any engine
	past    engine.Counters     // of engines that were replaced
	last    engine.Counters     // of engine, at the last tick
	count   Snapshot            // without Engine
	failure error               // why the queue's reader ended
	open    int                 // connections of engine, as daemon.usage has them
}

// newShard makes the shard of in.
func newShard(d *Daemon, in Inspect, newEngine func(engine.Options) inspector) *shard {
	return &shard{
		daemon: d, inspect: in, newEngine: newEngine, engine: newEngine(in.Engine),
		gone:    make(chan ending),
		ask:     make(chan chan Snapshot),
		stopped: make(chan struct{}),
		waiting: map[uint32]struct{}{},
		count:   Snapshot{Queue: in.Queue},
	}
}

// task is the shard's life: open the queue, inspect, drop what is left, close.
func (s *shard) task() Task {
	return NewTask(fmt.Sprintf("inspect queue %d", s.inspect.Queue), func(ctx context.Context, ready func()) error {
		defer close(s.stopped)
		q, err := s.daemon.opt.Open(s.inspect.Queue)
		if err != nil {
			return err
		}
		s.queue = q
		s.daemon.log.Info(q.String())
		return s.run(ctx, ready)
	})
}

// run inspects what the open queue gives until ctx ends or the queue fails.
func (s *shard) run(ctx context.Context, ready func()) error {
	// The queue outlives ctx: what waits is decided before it closes.
	open, closeQueue := context.WithCancel(context.WithoutCancel(ctx))
	defer closeQueue()
	reader := make(chan error, 1)
	go func() { reader <- s.queue.Run(open, func(p engine.Packet) { s.take(ctx, p) }) }()
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	ready()
	for {
		switch s.turn(ctx, reader, tick.C) {
		case goOn:
		case readerEnded:
			s.dropAll()
			return s.failure
		case stop:
			s.dropAll()
			closeQueue()
			err := <-reader
			s.dropAll()
			return err
		}
	}
}

// take is called by the queue's reader. A packet that comes when ctx has ended
// is dropped.
func (s *shard) take(ctx context.Context, p engine.Packet) {
	if ctx.Err() != nil {
		// Its error would be told to nobody who can help: the queue closes.
		_ = s.queue.Verdict(engine.Decision{ID: p.ID, Verdict: engine.Drop, Data: p.Data})
		return
	}
	s.safely(func() {
		s.taken++
		s.waiting[p.ID] = struct{}{}
		p.Time = s.now()
		s.carryOut(s.engine.Process(&p))
	})
}

// next is what the shard does after a turn.
type next uint8

// The values of next.
const (
	goOn next = iota
	stop
	readerEnded // s.failure says why
)

// turn takes one input that is no packet.
func (s *shard) turn(ctx context.Context, reader <-chan error, tick <-chan time.Time) next {
	select {
	case <-ctx.Done():
		return stop
	case s.failure = <-reader:
		return readerEnded
	case e := <-s.gone:
		s.safely(func() { s.carryOut(s.ended(e)) })
	case <-tick:
		s.safely(func() {
			s.carryOut(s.engine.Tick(s.now()))
			s.last = s.engine.Counters()
		})
	case reply := <-s.ask:
		s.safely(func() { reply <- s.counters() })
	}
	return goOn
}

// ended tells the engine.
func (s *shard) ended(e ending) []engine.Decision {
	switch e.by {
	case intercepted:
		return s.engine.Cut(s.now(), e.conn, engine.TeardownIntercept)
	case timedOut:
		return s.engine.Cut(s.now(), e.conn, engine.TeardownSYNTimeout)
	case deleted:
		return s.engine.Close(s.now(), e.at, e.conn)
	case eventsLost:
		return s.engine.Reconcile(s.now(), func(k flow.Key) bool { _, ok := e.known[k]; return ok })
	}
	return s.engine.Forget(s.now(), e.conn)
}

// safely does one thing with the engine. It is the only place that recovers: a
// fault of the engine, which reads what strangers send, must neither end the
// daemon nor leave a packet without a verdict.
func (s *shard) safely(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if fault := recover(); fault != nil {
			s.replaceEngine(fault, debug.Stack())
		}
	}()
	do()
}

// now is the engine's clock. It is read here and not by the queue's reader, so
// that a packet that waited is not older than the tick before it.
func (s *shard) now() time.Duration { return time.Since(s.daemon.opt.Start) }

// carryOut gives verdicts and hands on what the engine tells.
func (s *shard) carryOut(decisions []engine.Decision) {
	for _, d := range decisions {
		if _, ok := s.waiting[d.ID]; !ok {
			s.count.Strays++
			continue
		}
		delete(s.waiting, d.ID)
		s.verdict(d)
	}
	for _, ev := range s.engine.TakeEvents() {
		select {
		case s.daemon.events <- ev:
		default:
			s.past.EventsLost++
			s.daemon.lost.Add(1)
		}
	}
	for _, t := range s.engine.TakeKills() {
		select {
		case s.daemon.kills <- t:
		default:
			s.count.KillsLost++
		}
	}
	s.noteUsage()
}

// verdict tells the kernel a decision. Its error is counted and, once, logged:
// there may be one a packet.
func (s *shard) verdict(d engine.Decision) {
	err := s.queue.Verdict(d)
	if err == nil {
		return
	}
	if s.count.VerdictErrors++; s.count.VerdictErrors == 1 {
		s.daemon.log.Errorf("%v; further ones are counted only", err)
	}
}

// dropWaiting gives up every packet that the engine was given and has not
// decided on.
func (s *shard) dropWaiting(why engine.Reason) {
	for id := range s.waiting {
		s.past.Drops[why]++
		s.verdict(engine.Decision{ID: id, Verdict: engine.Drop, Reason: why})
	}
	clear(s.waiting)
}

// dropAll gives up every packet, at the end.
func (s *shard) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropWaiting(engine.ReasonNone)
}

// replaceEngine goes on after a fault with an engine that knows no connection:
// --midstream decides on the packets of those under way. What the old one
// counted since the last tick is lost with it.
func (s *shard) replaceEngine(fault any, stack []byte) {
	s.count.Panics++
	if s.count.Panics == 1 {
		s.daemon.log.Errorf("queue %d: fault in the inspection: %v; its connections are now taken up in the middle; further faults are counted only\n%s",
			s.inspect.Queue, fault, stack)
	}
	s.dropWaiting(engine.ReasonPanic)
	s.last.Flows, s.last.HeldNow, s.last.LedgerBytes = 0, 0, 0 // gauges
	s.past = audit.Sum(s.past, s.last)
	s.last = engine.Counters{}
	opt := s.inspect.Engine
	opt.FirstConn += opt.ConnStep * s.taken // no more connections than packets had a number
	opt.Known = nil                         // some of them were inspected since
	s.engine = s.newEngine(opt)
}

// counters are what the shard has done.
func (s *shard) counters() Snapshot {
	all := s.count
	all.Engine = audit.Sum(s.past, s.engine.Counters())
	all.Engine.Packets = s.taken
	return all
}

// errStopped is the answer of a shard that does not inspect any more.
var errStopped = errors.New("it has stopped")

// snapshot asks the shard for its counters, from another goroutine.
func (s *shard) snapshot(ctx context.Context) (Snapshot, error) {
	reply := make(chan Snapshot, 1)
	select {
	case s.ask <- reply:
	case <-s.stopped:
		return Snapshot{}, errStopped
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
	select {
	case all := <-reply:
		return all, nil
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	}
}
