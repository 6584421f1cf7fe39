package sim

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// class is what the ends and the network of a schedule may do, and so what must
// hold in the end.
type class uint8

const (
	unlucky       class = iota // honest ends, a bad network: everything arrives
	harmless                   // and someone who forges what no receiver takes: everything arrives
	hostileClient              // the client's side does what it likes
	hostileServer              // the server's side does
	numClasses
)

// classNames are the classes in reports.
var classNames = [numClasses]string{"unlucky network", "harmless forgeries", "hostile client", "hostile server"}

// plan is what is drawn for a schedule before it runs.
type plan struct {
	class     class
	policy    int // index in rulebooks
	m         *policy.Map
	tcp       *policy.TCPMap
	undecided engine.Undecided
	limits    engine.Limits

	conns      int
	messages   int // of each client
	size       int // octets of a message
	conntrack  bool
	kernelACKs bool
	synproxy   bool
	attacks    int // percent of the packets that give an attacker an idea
	beyond     [2]link
	horizon    time.Duration
	patience   time.Duration // longer no packet may be held
}

// hostile reports whether packets of direction dir pass an attacker on their way
// to the engine.
func (p *plan) hostile(dir flow.Dir) bool {
	switch p.class {
	case harmless:
		return true
	case hostileClient:
		return dir == flow.Original
	case hostileServer:
		return dir == flow.Reply
	}
	return false
}

// early reports whether a client speaks before the greeting.
func (p *plan) early(w *world) bool { return p.class == hostileClient && w.chance(5) }

// reckless reports whether a client sends a message that nobody asked for.
func (p *plan) reckless(w *world) bool { return p.class == hostileClient && w.chance(50) }

// honest reports whether everything must arrive.
func (p *plan) honest() bool { return p.class <= harmless }

// draw draws the plan of a schedule.
func (w *world) draw(maps []*policy.Map) {
	p := &w.plan
	*p = plan{class: some(w, unlucky, unlucky, unlucky, unlucky, unlucky, harmless, harmless, hostileClient, hostileClient, hostileServer)}
	for p.policy = w.rnd.IntN(len(maps)); p.honest() && !rulebooks[p.policy].lenient; {
		p.policy = w.rnd.IntN(len(maps))
	}
	p.m = maps[p.policy]
	p.conns, p.messages, p.size = w.between(1, 3), w.between(0, 2), w.between(10, 900)
	if w.chance(3) {
		p.messages, p.size = w.between(1, 4), w.between(2000, 40000)
	}
	p.conntrack, p.kernelACKs = w.chance(60), w.chance(80)
	p.horizon, p.patience = 40*time.Second, 4*time.Second
	if p.honest() {
		p.horizon = 10 * time.Minute
	}
	p.synproxy = (p.class == unlucky || p.class == hostileClient) && w.chance(10)
	p.attacks = w.between(2, 30)
	for dir := range p.beyond {
		p.beyond[dir] = w.link(false)
	}
	w.drawTCP()
	w.drawLimits()
	p.patience += 2 * tick
	if !p.honest() && w.chance(20) {
		p.undecided = engine.UndecidedOpen
	}
}

// drawTCP draws a tcp-map.
func (w *world) drawTCP() {
	w.plan.tcp = policy.DefaultTCPMap()
	if w.chance(75) {
		return
	}
	t := w.plan.tcp
	t.QueueLimit, t.QueueTimeout = uint64(w.rnd.IntN(6)), time.Duration(w.between(1, 8))*time.Second
	t.CheckRetransmission, t.ChecksumVerification = w.chance(50), w.chance(50)
	t.ReservedBits = some(w, policy.ReservedAllow, policy.ReservedClear, policy.ReservedDrop)
	w.plan.patience = t.QueueTimeout
}

// drawLimits draws bounds, sometimes so small that they are reached.
func (w *world) drawLimits() {
	l := &w.plan.limits
	*l = engine.DefaultLimits
	if w.chance(65) {
		return
	}
	if w.chance(50) {
		l.HeldPerFlow, l.Held, l.HeldOctets = w.between(1, 8), w.between(1, 12), w.between(2000, 30000)
	}
	if w.chance(50) {
		l.LedgerPerFlow, l.LedgerServer = w.between(3000, 9000), w.between(3000, 9000)
	}
	if w.chance(30) {
		l.Flows = w.between(1, 3)
		if w.plan.honest() {
			l.Flows = w.plan.conns // a full table refuses connections, which then do not complete
		}
	}
	if !w.plan.honest() && w.chance(50) {
		l.LedgerPerFlow, l.LedgerServer, l.Ledger = w.between(200, 4000), w.between(60, 600), w.between(300, 20000)
	}
}

// link draws a stretch of network.
func (w *world) link(near bool) link {
	l := link{delay: time.Duration(w.between(0, 20)) * time.Millisecond}
	if w.chance(30) {
		return l // a good one
	}
	l.jitter = time.Duration(w.rnd.IntN(3)*w.rnd.IntN(15)) * time.Millisecond
	l.losses = w.rnd.IntN(25)
	l.lose, l.repeat, l.late = w.rnd.IntN(30), w.rnd.IntN(15), w.rnd.IntN(20)
	if near {
		l.cut, l.merge = w.rnd.IntN(3)*w.rnd.IntN(30), w.rnd.IntN(3)*w.rnd.IntN(45)
	}
	return l
}

// traits draws an endpoint's habits.
func (w *world) traits() tcpTraits {
	t := tcpTraits{mss: some(w, 1460, 1460, 536, 1220, 100), buffer: some(w, 65535, 65535, 20000, 4000, 1000), scale: -1, pieces: 1 << 16}
	if w.chance(50) {
		t.scale = int8(w.rnd.IntN(8))
		t.buffer *= some(w, 1, 1, 4)
	}
	t.stamps, t.nagle, t.quickAck, t.probes = w.chance(40), w.chance(30), w.chance(30), w.chance(50)
	if w.chance(20) {
		t.pieces = some(w, 1, 5, 40, 300)
	}
	if w.chance(10) {
		t.readEach, t.readWait = w.between(50, 2000), time.Duration(w.between(1, 400))*time.Millisecond
	}
	if w.plan.size > 1000 {
		t.pieces, t.readEach = max(t.pieces, 300), 0 // a long message in single octets would take all day
	}
	return t
}

// wicked gives an endpoint the habits of a hostile client.
func (w *world) wicked(t *tcpTraits, dir flow.Dir) {
	if w.plan.class != hostileClient || dir != flow.Original || w.plan.synproxy {
		return
	}
	t.mute = w.chance(15)
	if w.chance(5) {
		t.early = w.between(1, maxShift)
	}
}

// reset makes the world ready for a schedule.
func (w *world) reset(seed uint64) {
	w.seed, w.rnd = seed, rand.New(rand.NewPCG(seed, 0x736d747077616c6c))
	for _, p := range w.given {
		if p != nil {
			w.free = append(w.free, p)
		}
	}
	for _, ev := range w.queue.heap {
		if ev.p != nil {
			w.free = append(w.free, ev.p)
		}
	}
	w.now, w.nextTick, w.waiting, w.handled, w.fault, w.taken = 0, tick, 0, 0, nil, w.taken[:0]
	w.queue.heap, w.queue.made = w.queue.heap[:0], 0
	w.given = append(w.given[:0], nil, nil) // ids 0 and 1 are nobody's
	w.spare, w.conns = append(w.spare, w.conns...), w.conns[:0]
	w.draw(w.maps)
	w.eng = engine.New(engine.Options{Map: w.plan.m, TCP: w.plan.tcp, Undecided: w.plan.undecided, Limits: w.plan.limits, Synproxy: func(netip.Addr) bool { return w.plan.synproxy },
		Midstream: some(w, engine.MidstreamReset, engine.MidstreamDrop)})
	w.stats.Classes[w.plan.class]++
	for i := range w.plan.conns {
		w.connection(i)
	}
}

// connection makes the ends of a connection and says when it begins.
func (w *world) connection(i int) {
	c := w.newConn()
	c.index = i
	if i > 0 && w.chance(25) {
		c.after = w.conns[i-1]
		c.template, c.port, c.addrs = c.after.template, c.after.port, c.after.addrs
	} else {
		c.address(w, i)
	}
	c.proxy.on = w.plan.synproxy && w.chance(80)
	if c.proxy.on {
		c.proxy.shift = w.rnd.Uint32()
		w.stats.Proxied++
	}
	for dir := range c.host {
		c.net[dir] = w.link(true)
		t := w.traits()
		w.wicked(&t, flow.Dir(dir))
		if c.proxy.on {
			t.scale, t.stamps = -1, false // what it offers on both sides is a matter of its own
		}
		c.host[dir].open(w, c, flow.Dir(dir), t)
		c.tap[dir].fin, c.tap[dir].acked, c.tap[dir].isn = -1, -1, c.host[dir].isn
	}
	if c.after != nil { // numbers that the old connection's packets do not reach
		for dir, h := range c.host {
			h.isn = c.after.host[dir].isn + 1<<24 + w.rnd.Uint32N(1<<30)
			c.tap[dir].isn = h.isn
		}
	}
	ops := w.honestScript(w.plan.m)
	if w.plan.class == hostileClient && !c.host[flow.Original].traits.mute {
		ops = w.wickedScript(w.plan.m)
	}
	c.client = &client{w: w, host: c.host[flow.Original], ops: ops, typing: w.chance(15)}
	c.server = &server{w: w, host: c.host[flow.Reply], wicked: w.plan.class == hostileServer, think: some(w, 0, 0, 5, 30)}
	c.server.banner = []byte(some(w, "220 mail.example ESMTP 2020\r\n", "220-two lines\r\n220 mail.example ESMTP 2.0\r\n", "220\r\n"))
	for _, f := range []string{"PIPELINING", "SIZE 20000000", secret, "CHUNKING", "STARTTLS", "8BITMIME", "AUTH LOGIN PLAIN", "DSN", "X2 y"} {
		if w.chance(70) {
			c.server.features = append(c.server.features, []byte(f))
		}
	}
	c.server.features = append(c.server.features, []byte("SMTPUTF8"), []byte("HELP"))
	c.host[flow.Original].app, c.host[flow.Reply].app = c.client, c.server
	w.conns = append(w.conns, c)
	w.queue.push(event{at: time.Duration(w.rnd.IntN(400)*i) * time.Millisecond, kind: atStart, c: c})
}

// newConn returns an empty connection, with the memory of an old one.
func (w *world) newConn() *conn {
	n := len(w.spare)
	if n == 0 {
		return &conn{host: [2]*endpoint{{}, {}}}
	}
	c := w.spare[n-1]
	w.spare = w.spare[:n-1]
	host, taps, grown := c.host, c.tap, c.grown[:0]
	*c = conn{host: host, grown: grown}
	for dir := range taps {
		s := taps[dir].stream
		s.reset()
		c.tap[dir] = tap{stream: s}
	}
	return c
}

// address gives a connection addresses of its own.
func (c *conn) address(w *world, i int) {
	c.port = [2]uint16{uint16(40000 + i), 25}
	from, to := netip.AddrFrom4([4]byte{203, 0, 113, 5}), netip.AddrFrom4([4]byte{192, 168, 1, 1})
	if w.chance(20) {
		from, to = netip.MustParseAddr("2001:db8::5"), netip.MustParseAddr("2001:db8:1::1")
	}
	c.addrs = [2]netip.AddrPort{netip.AddrPortFrom(from, c.port[0]), netip.AddrPortFrom(to, c.port[1])}
	c.template = [2][]byte{ipHeader(from, to), ipHeader(to, from)}
}

// ipHeader is the IP header of packets from one address to another.
func ipHeader(from, to netip.Addr) []byte {
	if from.Is6() {
		h := make([]byte, 40)
		h[0], h[6], h[7] = 0x60, 6, 64
		copy(h[8:], from.AsSlice())
		copy(h[24:], to.AsSlice())
		return h
	}
	h := make([]byte, 20)
	h[0], h[6], h[8], h[9] = 0x45, 0x40, 64, 6
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	return h
}
