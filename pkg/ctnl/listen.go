package ctnl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

const (
	// resyncEvery is how often Watch compares everything: what is wrong for a
	// reason nobody thought of is wrong no longer than that.
	resyncEvery = time.Minute

	// dumpPause is the least time from the end of a dump to one that makes up for
	// lost events: a flood that makes the kernel lose events must not have the
	// daemon do nothing but dump, nor lose more events meanwhile.
	dumpPause = 5 * time.Second
)

// Watcher is told of TCP connections by Watch, all on one goroutine.
// static.Tracker is what it is for.
type Watcher interface {
	// Resync takes all entries. Those told before are older. What is told next
	// may be a little older too, but never an entry's last word: that comes later,
	// but for an entry that the kernel is just about to remove and has told so.
	Resync([]static.Entry)
	// Changed takes an entry that is new or whose state is.
	Changed(static.Entry)
	// Gone takes an entry that conntrack has removed; State may be 0.
	Gone(static.Entry)
}

// Listen gives every TCP connection that conntrack forgets to gone, until ctx
// ends; then it returns nil. It subscribes anew when the kernel lost events or
// sent one that cannot be read; after that it gives lost what conntrack knows,
// which makes up for what was not told. What gone is told before is older than
// that. Both are called on one goroutine, and lost may keep the map. subscribed is
// called once, when the first event can come. An error says that there was no
// subscribing.
func (c *Conn) Listen(ctx context.Context, subscribed func(), gone func(flow.Tuple), lost func(known map[flow.Key]struct{})) error {
	l := listening{
		conn: c, groups: []group{groupDestroy},
		told:   func(e event) { gone(flow.Tuple(e.Conn)) },
		dumped: func(entries []static.Entry) { lost(keys(entries)) },
	}
	return l.run(ctx, func() error { subscribed(); return nil })
}

// Watch tells w of every TCP connection until ctx ends; then it returns nil. All
// entries are dumped at first, after events were lost, whenever again delivers,
// which must not be closed, and every minute. An error says that there was no
// subscribing or no first dump.
func (c *Conn) Watch(ctx context.Context, w Watcher, again <-chan struct{}) error {
	minute := time.NewTicker(resyncEvery)
	defer minute.Stop()
	l := listening{
		conn: c, groups: []group{groupNew, groupUpdate, groupDestroy}, again: again, tick: minute.C,
		told: func(e event) {
			switch {
			case e.gone:
				w.Gone(e.Entry)
			case e.State != 0: // else something else has changed, a mark say
				w.Changed(e.Entry)
			}
		},
		dumped: w.Resync,
	}
	return l.run(ctx, l.dump)
}

// keys are the connections of entries.
func keys(entries []static.Entry) map[flow.Key]struct{} {
	known := make(map[flow.Key]struct{}, len(entries))
	for _, e := range entries {
		known[flow.Tuple(e.Conn).Key()] = struct{}{}
	}
	return known
}

// listening is a Listen or a Watch under way.
type listening struct {
	conn   *Conn
	groups []group
	again  <-chan struct{}  // asks for a dump; nil: nobody does
	tick   <-chan time.Time // the same
	told   func(event)
	dumped func([]static.Entry)

	owed     bool      // events were lost since the last dump
	lastDump time.Time // when it ended; zero: there was none
}

// run tells what there is to tell until ctx ends. subscribed is called once.
//
// A lost event ends a subscription, because the kernel says once only that its
// buffer is full and then loses events until it is empty: a new socket is the one
// whose losses are known.
func (l *listening) run(ctx context.Context, subscribed func() error) error {
	for {
		s, err := l.conn.subscribe(l.groups)
		if err != nil {
			return fmt.Errorf("listen to conntrack: %w", remedy(err))
		}
		if subscribed != nil {
			err = subscribed()
			subscribed = nil
		}
		if err == nil {
			err = l.pass(ctx, s)
		}
		s.close()
		if !errors.Is(err, errLost) {
			return err
		}
		l.conn.count.overruns.Add(1)
		l.owed = true
	}
}

// errLost is the end of a subscription that has lost events.
var errLost = errors.New("events were lost")

// pass tells what a subscription tells, and dumps when it is time, until ctx ends,
// which is no error, or the subscription does. While a dump is put off, events go
// on being told.
func (l *listening) pass(ctx context.Context, s *subscription) error {
	var due <-chan time.Time // of the dump that is owed
	for {
		if l.owed && due == nil {
			wait := time.Until(l.lastDump.Add(l.conn.pause))
			if wait <= 0 {
				l.resync()
				continue
			}
			due = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return nil
		case events, more := <-s.events:
			if !more {
				return fmt.Errorf("%w: %w", errLost, s.err)
			}
			l.conn.count.events.Add(uint64(len(events)))
			for _, e := range events {
				l.told(e)
			}
			continue
		case <-due:
		case <-l.tick:
		case <-l.again:
		}
		due = nil
		l.resync()
	}
}

// resync dumps. A dump that fails is owed, as one after a loss.
func (l *listening) resync() {
	if err := l.dump(); err != nil {
		l.conn.count.failures.Add(1)
	}
}

// dump tells all entries.
func (l *listening) dump() error {
	l.owed = true
	entries, err := l.conn.dump()
	l.lastDump = time.Now()
	if err != nil {
		return err
	}
	l.owed = false
	l.conn.count.resyncs.Add(1)
	l.dumped(entries)
	return nil
}

// subscription is a socket whose events a goroutine reads.
type subscription struct {
	events <-chan []event // closed at the first error
	err    error          // that error, once events is closed
	close  func()         // ends the goroutine and closes the socket; call it once
}

// subscribe begins a subscription, in the network namespace of the calling thread.
func subscribe(buffer int, groups []group) (*subscription, error) {
	socket, err := newSocket()
	if err != nil {
		return nil, err
	}
	if err := socket.subscribe(buffer, groups); err != nil {
		socket.conn.Close()
		return nil, err
	}
	events, done := make(chan []event), make(chan struct{})
	s := &subscription{events: events}
	s.close = func() {
		close(done)
		socket.interrupt()
		for range events { // until the goroutine has ended
		}
		socket.conn.Close()
	}
	go func() {
		defer close(events)
		for s.err == nil {
			var batch []event
			if batch, s.err = socket.batch(); len(batch) == 0 {
				continue
			}
			select {
			case events <- batch:
			case <-done:
				return
			}
		}
	}()
	return s, nil
}
