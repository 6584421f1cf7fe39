package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smtpwall/smtpwall/pkg/ctnl"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Entries tells of conntrack's entries; pkg/ctnl has the real one.
type Entries interface {
	// Watch tells of every change until ctx ends, and of all entries at the
	// start, after a loss, and whenever again asks for them.
	Watch(ctx context.Context, w ctnl.Watcher, again <-chan struct{}) error
}

// Ruleset is the live ruleset's part in limiting connections; pkg/nftset has the
// real one.
type Ruleset interface {
	// Read returns what is to be enforced. It logs itself what in it is wrong.
	Read() (static.Config, error)
	// Apply brings the daemon's sets to what they are to hold.
	Apply(static.Sets) error
	// Cookies returns how many SYNs the kernel has answered with a cookie, by
	// the address as clients write it.
	Cookies() (map[netip.Addr]uint64, error)
	// Full returns how many SYNs the kernel has dropped because their host was
	// full, in the same way.
	Full() (map[netip.Addr]uint64, error)
}

// Limit is how the connections of mapped hosts are limited.
type Limit struct {
	Queue   uint16 // that their SYNs come to
	Entries Entries
	Ruleset Ruleset
	// Watch calls changed whenever another program has changed the ruleset,
	// until ctx ends.
	Watch func(ctx context.Context, changed func()) error
	Audit func(*static.Event) // called by one goroutine; must not block for long
	// Intercepted are the hosts, as clients write them, that were in intercept
	// when the daemon ended.
	Intercepted []netip.Addr
}

// cookiesEvery is how often the kernel's counts are read while a host is in
// intercept; the Tracker counts by seconds.
const cookiesEvery = time.Second

// limiter enforces the limits: it decides on SYNs in a queue of their own and
// keeps the ruleset's sets. It has no lock in common with the shards.
type limiter struct {
	daemon *Daemon
	opt    Limit

	needed  chan struct{} // closed once a host is limited
	counted chan struct{} // closed once its connections are known
	again   chan struct{} // asks conntrack for all entries
	changed chan struct{} // another program has changed the ruleset
	dirty   chan struct{} // the sets are to change
	read    chan struct{} // closed once the ruleset was read

	known, limited sync.Once // of closing read and needed

	proxied atomic.Pointer[map[netip.Addr]time.Time] // hosts in intercept, and when they were last
	// These belong to the task that keeps the sets.
	lastError string       // of failed
	intercept []netip.Addr // hosts in intercept
	full      []netip.Addr // those of them that are full
	ready     func()       // tells that the sets are as they are to be

	mu       sync.Mutex // guards what follows
	tracker  *static.Tracker
	counting bool // entries were asked for and have not come: the sets wait
	count    LimiterCounters
}

// LimiterCounters are what a limiter has done, beside its Tracker. They only grow.
type LimiterCounters struct {
	Undecodable   uint64 // packets of the queue that are no TCP: dropped
	VerdictErrors uint64 // verdicts that could not be sent
	KillsLost     uint64 // conntrack entries that were not deleted for want of room
	EventsLost    uint64 // records that found no room
	Failures      uint64 // of reading the ruleset or writing its sets
}

// LimiterSnapshot is what limiting connections has done since the start.
type LimiterSnapshot struct {
	static.Report
	Tracker static.Counters
	LimiterCounters
}

// newLimiter makes the limiter of d.
func newLimiter(d *Daemon, opt Limit) *limiter {
	return &limiter{
		daemon: d, opt: opt, tracker: static.New(),
		needed: make(chan struct{}), counted: make(chan struct{}), read: make(chan struct{}),
		again: make(chan struct{}, 1), changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
}

// tasks are what the limiter does: it follows the ruleset, follows conntrack,
// keeps the sets, and decides on SYNs.
func (l *limiter) tasks() []Task {
	return []Task{
		NewTask("follow the ruleset", func(ctx context.Context, ready func()) error {
			ready()
			return l.opt.Watch(ctx, func() { poke(l.changed) })
		}),
		NewTask("follow conntrack", l.follow),
		NewTask("keep the ruleset's sets", l.keep),
		NewTask(fmt.Sprintf("limit connections in queue %d", l.opt.Queue), l.decide),
	}
}

// poke sends a signal unless one is waiting.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// follow counts the connections that conntrack knows, once there is a limit.
func (l *limiter) follow(ctx context.Context, ready func()) error {
	ready()
	select {
	case <-l.needed:
	case <-ctx.Done():
		return nil
	}
	return l.opt.Entries.Watch(ctx, entries{l}, l.again)
}

// entries takes conntrack's entries into the count.
type entries struct{ *limiter }

// Resync takes all entries.
func (e entries) Resync(all []static.Entry) {
	e.with(func(t *static.Tracker, now time.Duration) {
		t.Resync(now, all)
		e.counting = false
	})
	select {
	case <-e.counted:
	default:
		close(e.counted) // only this goroutine does
	}
	poke(e.dirty)
}

// Changed takes an entry that is new or has changed.
func (e entries) Changed(one static.Entry) {
	e.with(func(t *static.Tracker, now time.Duration) { t.Update(now, one) })
}

// Gone takes an entry that conntrack has removed.
func (e entries) Gone(one static.Entry) {
	e.with(func(t *static.Tracker, now time.Duration) { t.Destroy(now, one) })
}

// with does something with the tracker, and then what follows from it.
func (l *limiter) with(do func(t *static.Tracker, now time.Duration)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	do(l.tracker, time.Since(l.daemon.opt.Start))
	if l.tracker.Changed() {
		poke(l.dirty)
	}
	for _, ev := range l.tracker.TakeEvents() {
		select {
		case l.daemon.limits <- ev:
		default:
			l.count.EventsLost++
		}
	}
	for _, k := range l.tracker.TakeKills() {
		select {
		case l.daemon.cuts <- k:
		default:
			l.count.KillsLost++
		}
	}
}

// keep reads the configuration whenever the ruleset changes, and writes the sets
// whenever they are to change.
func (l *limiter) keep(ctx context.Context, ready func()) error {
	tick, second := time.NewTicker(tickEvery), time.NewTicker(cookiesEvery)
	defer tick.Stop()
	defer second.Stop()
	l.ready = ready
	read, written := l.configure(), l.write()
	for {
		select {
		case <-ctx.Done():
			l.letGo()
			return nil
		case <-tick.C:
			l.with(func(t *static.Tracker, now time.Duration) { t.Tick(now) })
		case <-second.C:
			l.cookies()
			l.notice(l.intercept)
			if !read {
				read = l.configure()
			}
			if !written {
				written = l.write()
			}
		case <-l.changed:
			read, written = l.configure(), l.write()
		case <-l.dirty:
			written = l.write()
		}
	}
}

// letGo empties the sets of full hosts, which nobody else would: where the ruleset
// lets SYNs pass without a daemon, they are to pass.
func (l *limiter) letGo() {
	if len(l.full) == 0 {
		return
	}
	l.mu.Lock()
	sets := l.tracker.Sets()
	l.mu.Unlock()
	sets.Full = nil
	l.failed(l.opt.Ruleset.Apply(sets))
}

// configure puts in force what the ruleset says now.
func (l *limiter) configure() (ok bool) {
	cfg, err := l.opt.Ruleset.Read()
	if l.failed(err) {
		return false
	}
	l.with(func(t *static.Tracker, now time.Duration) {
		if t.Configure(now, cfg) && len(cfg.Limited()) > 0 {
			l.counting = true
			poke(l.again)
			l.limited.Do(func() { close(l.needed) })
		}
		if n := len(l.opt.Intercepted); n > 0 {
			l.daemon.log.Infof("%d addresses are in intercept from before the start; `smtpwall show static` lists their hosts", n)
		}
		for _, addr := range l.opt.Intercepted {
			t.Resume(now, addr)
		}
		l.opt.Intercepted = nil
	})
	l.known.Do(func() { close(l.read) })
	return true
}

// write brings the sets to what they are to hold. They wait for the connections
// of hosts that are newly limited: what is not counted cannot be limited.
func (l *limiter) write() (ok bool) {
	l.mu.Lock()
	waits := l.counting
	sets := l.tracker.Sets()
	l.mu.Unlock()
	if waits {
		return true
	}
	if !slices.Equal(l.intercept, sets.Intercept) || !slices.Equal(l.full, sets.Full) {
		l.cookies() // those counted before are no part of a flood that begins, and others are gone soon
	}
	l.intercept, l.full = sets.Intercept, sets.Full
	l.notice(l.intercept) // before the kernel knows
	if l.failed(l.opt.Ruleset.Apply(sets)) {
		return false
	}
	l.ready() // from the first time on
	return true
}

// proxiedFor is how long after a host has left intercept servers' answers to
// synproxy may still come.
const proxiedFor = time.Minute

// notice takes down which hosts are in intercept, for the shards to read.
func (l *limiter) notice(intercept []netip.Addr) {
	now := time.Now()
	all := map[netip.Addr]time.Time{}
	if old := l.proxied.Load(); old != nil {
		for addr, last := range *old {
			if now.Sub(last) < proxiedFor {
				all[addr] = last
			}
		}
	}
	for _, addr := range intercept {
		all[addr] = now
	}
	l.proxied.Store(&all)
}

// isProxied reports whether synproxy may have opened a connection to a server.
// The shards call it.
func (l *limiter) isProxied(server netip.Addr) bool {
	all := l.proxied.Load()
	if all == nil {
		return false
	}
	_, ok := (*all)[server]
	return ok
}

// cookies takes the kernel's counts, while anybody is in intercept.
func (l *limiter) cookies() {
	l.mu.Lock()
	flooded := l.tracker.Flooded()
	l.mu.Unlock()
	if !flooded {
		return
	}
	counts, err := l.opt.Ruleset.Cookies()
	if l.failed(err) {
		return
	}
	full, err := l.opt.Ruleset.Full()
	if l.failed(err) {
		return
	}
	l.with(func(t *static.Tracker, _ time.Duration) {
		t.Cookies(counts)
		t.Full(full)
	})
}

// failed counts and logs an error; the same one in a row is logged once.
func (l *limiter) failed(err error) bool {
	if err == nil {
		return false
	}
	l.mu.Lock()
	l.count.Failures++
	l.mu.Unlock()
	if text := err.Error(); text != l.lastError {
		l.daemon.log.Errorf("limit connections: %s", text)
		l.lastError = text
	}
	return true
}

// decide decides on the SYNs of limited hosts. As long as their connections are
// not known, no SYN passes.
func (l *limiter) decide(ctx context.Context, ready func()) error {
	if !l.informed(ctx) {
		return nil
	}
	q, err := l.daemon.opt.Open(l.opt.Queue)
	if err != nil {
		return err
	}
	l.daemon.log.Info(q.String())
	ready()
	return q.Run(ctx, func(p engine.Packet) {
		if err := q.Verdict(l.verdict(&p)); err != nil {
			l.with(func(*static.Tracker, time.Duration) { l.count.VerdictErrors++ })
		}
	})
}

// informed waits until the ruleset was read and, if it limits anybody, the
// connections are known. It reports false if ctx has ended.
func (l *limiter) informed(ctx context.Context) bool {
	select {
	case <-l.read:
	case <-ctx.Done():
		return false
	}
	select {
	case <-l.needed:
	default:
		return true
	}
	select {
	case <-l.counted:
		return true
	case <-ctx.Done():
		return false
	}
}

// verdict decides on a packet of the queue. Of those without an interface that
// they came in by the box itself is the sender: synproxy, for a client that has
// answered a cookie.
func (l *limiter) verdict(p *engine.Packet) engine.Decision {
	d := engine.Decision{ID: p.ID, Verdict: engine.Drop}
	client, server, ok := engine.Ends(p.Data)
	l.with(func(t *static.Tracker, now time.Duration) {
		syn := static.SYN{Conn: static.Conn{Client: client, Server: server}, Interface: p.In, Proven: p.In == 0}
		switch {
		case !ok:
			l.count.Undecodable++
		case t.SYN(now, syn):
			d.Verdict = engine.Accept
		}
	})
	return d
}

// snapshot returns what the limiter has done.
func (l *limiter) snapshot() LimiterSnapshot {
	l.mu.Lock()
	defer l.mu.Unlock()
	return LimiterSnapshot{Report: l.tracker.Report(), Tracker: l.tracker.Counters(), LimiterCounters: l.count}
}
