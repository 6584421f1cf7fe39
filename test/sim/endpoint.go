package sim

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// hostPhase is how far an endpoint's connection is.
type hostPhase uint8

const (
	hostClosed hostPhase = iota // a client that has not begun
	hostListen                  // a server that waits for a SYN
	hostSYNSent
	hostSYNReceived
	hostOpen // both directions have numbers; FINs are told by positions
	hostDead // a RST was accepted
)

// The timers of an endpoint.
const (
	timerResend uint8 = iota // retransmission, and the persist timer
	timerAck                 // delayed ACK
	timerRead                // a slow application takes what has come
	timerApp                 // the application's own
	numTimers
)

// timer is one deadline of an endpoint; 0 is off. queued is the time of the event
// that will look at it, so that moving a deadline costs no event.
type timer struct{ at, queued time.Duration }

// app is the application on an endpoint.
type app interface {
	readable() // new octets, or the end of them, can be read
	wake()     // timerApp has run out
}

// tcpTraits are an endpoint's habits, drawn for each connection.
type tcpTraits struct {
	mss      int
	buffer   int  // of the receiver
	scale    int8 // -1: not offered
	stamps   bool // offers timestamps
	nagle    bool
	quickAck bool          // no delayed ACK
	pieces   int           // largest segment it makes of its own accord
	probes   bool          // probes a zero window with an octet; else as Linux, with none
	readEach int           // octets that its application takes at a time; 0: all at once
	readWait time.Duration // between two of those

	mute  bool // acknowledges nothing
	early int  // begins its stream that many octets before its SYN has said, with a SYN cookie worked out for that
}

// endpoint is one end of a connection: the simplest TCP that does what RFC 9293
// and RFC 5961 say. Positions count payload octets; a FIN takes the position
// behind the last one.
type endpoint struct {
	w      *world
	c      *conn
	dir    flow.Dir // of what it sends
	phase  hostPhase
	app    app
	traits tcpTraits
	timers [numTimers]timer

	// What it sends.
	isn     uint32
	out     []byte // all that the application has written
	closing bool   // the application writes no more: a FIN stands behind out
	una     int    // the first position that is not acknowledged
	nxt     int    // the next position to send; behind max while it sends again
	max     int    // SND.NXT: behind the last position ever sent
	edge    int    // the receiver's window ends here
	maxWnd  int    // the largest window that the receiver has offered
	wl1     int    // position and acknowledgement of the last window update
	wl2     int
	dups    int // duplicate ACKs in a row
	flight  int // segments that may be under way
	wait    time.Duration
	mss     int
	stamps  bool
	base    uint32 // of its timestamps
	shift   [2]int8

	// What it receives.
	irs      uint32
	in       stream
	fin      int  // position of the peer's FIN, -1 while unknown
	eof      bool // the FIN is reached
	read     int  // octets that the application has taken
	offered  int  // right edge of the windows that it has offered
	unacked  int  // segments that no ACK was sent for
	recent   uint32
	lastAck  int // position of the last ACK sent
	troubles int // challenge ACKs and RSTs sent: bounded, so that no two ends argue for ever
}

// The retransmission timer: short, because packet time is cheap but not free.
const (
	firstWait = 300 * time.Millisecond
	lastWait  = 3 * time.Second
)

// maxTroubles bounds what an endpoint answers to nonsense (RFC 5961 section 7).
const maxTroubles = 40

// open makes e ready for a new connection.
func (e *endpoint) open(w *world, c *conn, dir flow.Dir, t tcpTraits) {
	in, out := e.in, e.out[:0]
	in.reset()
	*e = endpoint{w: w, c: c, dir: dir, traits: t, in: in, out: out}
	e.isn, e.base = w.rnd.Uint32(), w.rnd.Uint32()
	e.fin, e.mss, e.wait, e.flight = -1, t.mss, firstWait, 10
}

// connect sends the SYN.
func (e *endpoint) connect() {
	e.phase = hostSYNSent
	e.emit(flow.SYN, -1, nil)
	e.arm(timerResend, e.wait)
}

// arm sets a timer, or stops it with 0.
func (e *endpoint) arm(i uint8, d time.Duration) {
	t := &e.timers[i]
	if d == 0 {
		t.at = 0
		return
	}
	t.at = e.w.now + d
	if t.queued == 0 || t.queued > t.at {
		t.queued = t.at
		e.w.queue.push(event{at: t.at, kind: atTimer, timer: i, host: e})
	}
}

// fired looks at a timer at the time of one of its events.
func (e *endpoint) fired(i uint8) {
	t := &e.timers[i]
	if t.queued != e.w.now {
		return // another event looks sooner
	}
	t.queued = 0
	switch {
	case t.at == 0:
	case t.at > e.w.now:
		e.arm(i, t.at-e.w.now)
	default:
		t.at = 0
		e.expired(i)
	}
}

// expired acts on a timer that has run out.
func (e *endpoint) expired(i uint8) {
	switch i {
	case timerResend:
		e.resend()
	case timerAck:
		e.ackNow()
	case timerRead:
		e.takeSome()
	case timerApp:
		if e.phase != hostDead {
			e.app.wake()
		}
	}
}

// write takes octets from the application.
func (e *endpoint) write(b []byte) {
	if e.closing || e.phase == hostDead {
		return
	}
	e.out = append(e.out, b...)
	e.push()
}

// close ends what the application writes.
func (e *endpoint) close() {
	if e.closing || e.phase == hostDead {
		return
	}
	e.closing = true
	e.push()
}

// length is the positions that it sends in all, so far.
func (e *endpoint) length() int {
	if e.closing {
		return len(e.out) + 1
	}
	return len(e.out)
}

// next is the position that it expects next.
func (e *endpoint) next() int {
	if e.eof {
		return e.in.next + 1
	}
	return e.in.next
}

// finished reports whether both directions are closed and what it sent is
// acknowledged.
func (e *endpoint) finished() bool {
	return e.eof && e.closing && e.una == e.length()
}

// die takes a RST.
func (e *endpoint) die() {
	e.phase = hostDead
	for i := range e.timers {
		e.timers[i].at = 0
	}
}

// takeSome lets the application read.
func (e *endpoint) takeSome() {
	before := e.room()
	n := e.in.next - e.read
	if e.traits.readEach > 0 {
		n = min(n, e.traits.readEach)
	}
	e.read += n
	if e.read < e.in.next {
		e.arm(timerRead, e.traits.readWait)
	}
	if e.phase == hostOpen && before < e.mss && e.room() >= e.mss {
		e.ackNow() // the window opens again
	}
	e.app.readable()
}

// room is how much of its buffer is free.
func (e *endpoint) room() int { return max(0, e.traits.buffer-(e.in.next-e.read)) }
