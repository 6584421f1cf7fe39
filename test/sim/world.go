package sim

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// world is a schedule that runs: the ends, the networks and the engine between
// them. A worker reuses one world for all its schedules.
type world struct {
	seed uint64
	rnd  *rand.Rand
	plan plan
	eng  *engine.Engine

	now        time.Duration
	nextTick   time.Duration
	queue      events
	conns      []*conn
	spare      []*conn   // of earlier schedules
	free       []*packet // of earlier packets
	given      []*packet // by id: those that the engine has and has not decided on
	waiting    int       // how many those are
	handled    int       // events so far
	fault      *Violation
	forgetting bool     // the call of Engine.Forget is under way
	taken      []string // the forgeries that the engine has accepted
	stats      *Stats
	maps       []*policy.Map  // of rulebooks
	judges     map[int]*judge // by policy: the engines that replay what passed
	record     func(*packet)  // is shown each packet that the engine is given; may be nil
	trace      io.Writer      // is told each packet and decision; may be nil
}

// conn is one connection between a client and a server.
type conn struct {
	index    int
	template [2][]byte // IP headers of each direction
	port     [2]uint16 // source ports
	host     [2]*endpoint
	client   *client
	server   *server
	tap      [2]tap
	proxy    proxy
	net      [2]link // before the engine, by direction
	last     [2]*packet
	grown    []growth
	addrs    [2]netip.AddrPort
	after    *conn // its addresses are used again
	reused   bool  // another connection has its addresses now

	idleAt    time.Duration // since when both ends have done with it
	forgotten bool          // conntrack has said so
	flipped   bool          // a SYN came in by the wrong interface, or from the server: who is who is another question
	shaken    bool          // a SYN-ACK has passed since the last SYN
	foreign   bool          // text passed as that of an unjudged connection before it
	ended     bool          // the engine has judged a packet against it
	up        bool          // conntrack has seen the SYN-ACK
	killed    bool          // its conntrack entry was deleted
	offloaded bool          // the engine asked the kernel to take it over
	open      bool          // it passes unjudged: nothing can be said of it from here
}

// tick is how often Engine.Tick is called.
const tick = 100 * time.Millisecond

// maxEvents bounds a schedule; the longest honest one has a tenth of it.
const maxEvents = 200000

// run plays the schedule of a seed.
func (w *world) run(seed uint64) *Violation {
	w.reset(seed)
	for w.fault == nil && len(w.queue.heap) > 0 {
		ev := w.queue.pop()
		if ev.at > w.plan.horizon {
			break
		}
		w.tickUntil(ev.at)
		w.now = ev.at
		if w.handled++; w.handled > maxEvents {
			w.fail("bounded", "%d events, and no end", maxEvents)
			break
		}
		w.happen(&ev)
	}
	w.finish()
	return w.fault
}

// happen handles an event.
func (w *world) happen(ev *event) {
	switch ev.kind {
	case atEngine:
		ev.p.near = false
		w.process(ev.p)
	case atHost:
		ev.p.c.host[ev.p.dir.Other()].receive(ev.p)
		w.release(ev.p)
	case atTimer:
		ev.host.fired(ev.timer)
	case atStart:
		w.start(ev.c)
	}
}

// start begins a connection, whose addresses must be free.
func (w *world) start(c *conn) {
	if p := c.after; p != nil && !p.idle() {
		w.queue.push(event{at: w.now + time.Second, kind: atStart, c: c})
		return
	}
	if c.after != nil {
		c.after.reused = true
	}
	c.host[flow.Reply].phase = hostListen
	c.host[flow.Original].connect()
}

// idle reports whether both ends have done with the connection.
func (c *conn) idle() bool {
	for _, h := range c.host {
		if h.phase != hostDead && !h.finished() {
			return false
		}
	}
	return true
}

// tickUntil lets the engine's time pass.
func (w *world) tickUntil(t time.Duration) {
	for w.nextTick <= t && w.fault == nil {
		w.now = w.nextTick
		w.nextTick += tick
		w.decide(w.eng.Tick(w.now))
		w.destroy()
	}
}

// timeWait is how long conntrack keeps a connection that both ends have closed.
const timeWait = 6 * time.Second

// destroy tells the engine of connections that conntrack has forgotten.
func (w *world) destroy() {
	for _, c := range w.conns {
		switch {
		case !w.plan.conntrack || c.reused || c.forgotten || c.host[flow.Original].phase == hostClosed || !c.idle():
			c.idleAt = 0
		case c.idleAt == 0:
			c.idleAt = w.now
		case w.now-c.idleAt >= timeWait:
			c.forgotten, w.forgetting = true, true
			w.decide(w.eng.Forget(w.now, flow.Tuple{Client: c.addrs[flow.Original], Server: c.addrs[flow.Reply]}))
			w.forgetting = false
		}
	}
}

// packet returns a packet to be written.
func (w *world) packet() *packet {
	if n := len(w.free); n > 0 {
		p := w.free[n-1]
		w.free = w.free[:n-1]
		data := p.data[:0]
		*p = packet{data: data}
		return p
	}
	return &packet{data: make([]byte, 0, 256)}
}

// release takes back a packet that is nowhere any more.
func (w *world) release(p *packet) { w.free = append(w.free, p) }

// chance is true with probability percent/100.
func (w *world) chance(percent int) bool { return percent > 0 && w.rnd.IntN(100) < percent }

// between returns a number from lo to hi.
func (w *world) between(lo, hi int) int { return lo + w.rnd.IntN(hi-lo+1) }

// some returns one of several.
func some[T any](w *world, of ...T) T { return of[w.rnd.IntN(len(of))] }
