package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// fakeQueue is a Queue in memory.
type fakeQueue struct {
	name string
	in   chan engine.Packet
	fail chan error

	mu       sync.Mutex
	verdicts []engine.Decision // up to the closing
	closed   bool
	refuse   error // what Verdict returns
}

func newFakeQueue(name string) *fakeQueue {
	return &fakeQueue{name: name, in: make(chan engine.Packet), fail: make(chan error, 1)}
}

func (q *fakeQueue) Run(ctx context.Context, handle func(engine.Packet)) error {
	defer func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.closed = true
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-q.fail:
			return err
		case p := <-q.in:
			handle(p)
		}
	}
}

func (q *fakeQueue) Verdict(d engine.Decision) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return errors.New("verdict after the closing")
	}
	q.verdicts = append(q.verdicts, d)
	return q.refuse
}

func (q *fakeQueue) String() string { return q.name }

// show writes the verdicts down: "1 accept, 2 drop panic".
func (q *fakeQueue) show() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []string
	for _, d := range q.verdicts {
		s := string(rune('0'+d.ID)) + " accept"
		if d.Verdict == engine.Drop {
			s = string(rune('0'+d.ID)) + " drop"
			if d.Reason != engine.ReasonNone {
				s += " " + d.Reason.String()
			}
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// fakeEngine does what the payload says: "hold", "free" (accepts what is held
// before itself), "boom" (panics), "kill", "events" (as many as its ID), "stray",
// "bad WHERE" (panics there); anything else is accepted.
type fakeEngine struct {
	opt    engine.Options
	held   []engine.Decision
	events []engine.Event
	kills  []flow.Tuple
	count  engine.Counters
	times  []time.Duration
	forgot []flow.Tuple
	cut    []flow.Tuple
	closed []time.Duration // when those were deleted
	ends   []string        // "forget", "cut" and "close PORT", in their order

	reconciled []bool // of each Reconcile: the zero Tuple was known
	bad        string // "tick", "forget" or "counters": where it panics
}

var errFault = errors.New("index out of range [7] with length 7")

func (e *fakeEngine) Process(p *engine.Packet) []engine.Decision {
	e.times = append(e.times, p.Time)
	d := engine.Decision{ID: p.ID, Data: p.Data}
	e.count.Packets++
	switch string(p.Data) {
	case "hold":
		e.held = append(e.held, d)
		return nil
	case "free":
		out := append(e.held, d)
		e.held = nil
		return out
	case "bad tick", "bad forget", "bad counters":
		e.bad = string(p.Data[4:])
	case "boom":
		panic(errFault)
	case "kill":
		e.kills = append(e.kills, flow.Tuple{})
	case "events":
		for range p.ID {
			e.events = append(e.events, engine.Event{Kind: engine.EventNotice})
		}
	case "stray":
		return []engine.Decision{{ID: 99}, d}
	}
	e.count.Accepted++
	return []engine.Decision{d}
}

func (e *fakeEngine) Tick(now time.Duration) []engine.Decision {
	e.times = append(e.times, now)
	if e.bad == "tick" {
		panic(errFault)
	}
	return nil
}

func (e *fakeEngine) Forget(now time.Duration, k flow.Tuple) []engine.Decision {
	if e.bad == "forget" {
		panic(errFault)
	}
	e.forgot = append(e.forgot, k)
	e.ends = append(e.ends, "forget")
	out := e.held
	e.held = nil
	return out
}

func (e *fakeEngine) Cut(_ time.Duration, k flow.Tuple, why engine.Teardown) []engine.Decision {
	e.cut = append(e.cut, k)
	e.ends = append(e.ends, fmt.Sprint("cut ", why))
	return nil
}

func (e *fakeEngine) Close(now, then time.Duration, k flow.Tuple) []engine.Decision {
	e.ends = append(e.ends, fmt.Sprint("close ", k.Client.Port()))
	e.closed = append(e.closed, then)
	return nil
}

func (e *fakeEngine) Reconcile(_ time.Duration, known func(flow.Key) bool) []engine.Decision {
	e.reconciled = append(e.reconciled, known(flow.Tuple{}.Key()))
	return nil
}

func (e *fakeEngine) TakeEvents() []engine.Event {
	out := e.events
	e.events = nil
	return out
}

func (e *fakeEngine) TakeKills() []flow.Tuple {
	out := e.kills
	e.kills = nil
	return out
}

func (e *fakeEngine) Counters() engine.Counters {
	if e.bad == "counters" {
		panic(errFault)
	}
	c := e.count
	c.Flows = 5
	return c
}

// fakeConntrack is a Conntrack in memory. What is deleted has the server's address
// as the client wrote it, where that is known.
type fakeConntrack struct {
	gone    chan flow.Tuple
	lost    chan map[flow.Key]struct{}
	deleted chan flow.Tuple
	tells   bool // of what is deleted, at once, as the kernel does
}

// missing is the id of an entry that is not there.
const missing = 404

func (c *fakeConntrack) Delete(t flow.Tuple, original netip.AddrPort, id uint32) (bool, error) {
	if c.tells {
		c.gone <- t
		<-time.After(time.Millisecond) // until the shards know
	}
	if original.IsValid() {
		t.Server = original
	}
	c.deleted <- t
	if id == missing {
		return false, nil
	}
	return id != 0, errors.New("delete conntrack entry: out of luck")
}

func (c *fakeConntrack) Listen(ctx context.Context, subscribed func(), gone func(flow.Tuple), lost func(map[flow.Key]struct{})) error {
	subscribed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case t := <-c.gone:
			gone(t)
		case known := <-c.lost:
			lost(known)
		}
	}
}

// rig is a Daemon among fakes.
type rig struct {
	*Daemon
	queues    []*fakeQueue
	engines   [][]*fakeEngine // of each shard, in the order they were made
	conntrack *fakeConntrack
	audited   func(*engine.Event)
	log       *bytes.Buffer
	stop      context.CancelFunc
	ended     chan error
}

// newRig makes a Daemon of n queues, 0 to n-1, which is not running.
func newRig(n int) *rig {
	r := &rig{
		log: &bytes.Buffer{}, ended: make(chan error, 1), engines: make([][]*fakeEngine, n),
		conntrack: &fakeConntrack{gone: make(chan flow.Tuple), lost: make(chan map[flow.Key]struct{}), deleted: make(chan flow.Tuple, 10)},
		audited:   func(*engine.Event) {},
	}
	log := logrus.New()
	log.SetOutput(r.log)
	opt := Options{
		Log: log, Start: time.Now(), Conntrack: r.conntrack,
		Audit: func(e *engine.Event) { r.audited(e) },
		Open:  func(queue uint16) (Queue, error) { return r.queues[queue], nil },
	}
	for i := range n {
		opt.Inspect = append(opt.Inspect, Inspect{Queue: uint16(i)})
		r.queues = append(r.queues, newFakeQueue("queue "+string(rune('0'+i))))
	}
	r.Daemon = New(opt)
	for i, s := range r.shards {
		s.newEngine = func(o engine.Options) inspector {
			e := &fakeEngine{opt: o}
			r.engines[i] = append(r.engines[i], e)
			return e
		}
		s.engine = s.newEngine(s.inspect.Engine)
	}
	return r
}

// start runs the Daemon.
func (r *rig) start() {
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx) }()
	synctest.Wait()
}

// give puts packets of these payloads, numbered from first, into queue 0.
func (r *rig) give(first uint32, payloads ...string) {
	for i, p := range payloads {
		r.queues[0].in <- engine.Packet{ID: first + uint32(i), Data: []byte(p)}
		synctest.Wait()
	}
}

// finish stops the Daemon and returns what Run returned.
func (r *rig) finish(t *testing.T) error {
	t.Helper()
	r.stop()
	synctest.Wait()
	select {
	case err := <-r.ended:
		return err
	default:
		t.Fatal("the daemon does not stop")
		return nil
	}
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
