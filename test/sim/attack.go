package sim

import (
	"encoding/binary"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// forgery is a segment that nobody sent. It starts as what the end of direction
// dir could send next; pos, ackPos and the rest are then changed.
type forgery struct {
	w      *world
	c      *conn
	dir    flow.Dir
	from   *endpoint // who is played
	to     *endpoint // who shall be fooled
	s      segment
	pos    int
	ackPos int
	in     uint32
	wreck  uint8 // how the packet is broken
	name   string
}

// trick is a kind of forgery.
type trick struct {
	name string
	play func(*forgery)
}

// play sends one of several tricks.
func (f *forgery) play(of []trick) {
	t := &of[f.w.rnd.IntN(len(of))]
	f.name = t.name
	t.play(f)
}

// The ways to break a packet.
const (
	whole       uint8 = iota
	badChecksum       // nobody has verified it
	shortened         // its end is missing
	badOffset         // the TCP header is shorter than one can be
)

// attack lets an attacker who has seen p, a packet of direction dir, send what it
// likes.
func (w *world) attack(c *conn, dir flow.Dir, p *packet) {
	if !w.chance(w.plan.attacks) {
		return
	}
	for range w.between(1, 3) {
		f := w.forge(c, dir)
		if w.plan.class == harmless {
			if !f.open() {
				return
			}
			f.play(harmlessForgeries)
		} else {
			f.play(wickedForgeries)
		}
	}
	if w.plan.class != harmless && len(p.payload()) > 0 && w.chance(10) {
		copy(p.payload(), f2(w))
		p.finish()
		p.forged, p.trick = true, "other text in an honest packet"
		w.stats.Forged++
	}
}

// f2 is text that may stand anywhere.
func f2(w *world) []byte {
	return []byte(some(w, "XFOO\r\n", "\r\nEXPN x\r\n", ".\r\n", "\r\n.\r\nDEBUG\r\n", "evil evil evil", "\r\n", "MAIL FROM:<x|y>\r\n", "TURN\r\n", "354 x\r\n", "a"))
}

// forge begins a forgery.
func (w *world) forge(c *conn, dir flow.Dir) *forgery {
	f := &forgery{w: w, c: c, dir: dir, from: c.host[dir], to: c.host[dir.Other()], in: interfaceOf(dir)}
	f.pos, f.ackPos = f.from.max, f.from.next()
	window := max(0, f.from.offered-f.from.next()) >> max(0, f.from.shift[dir])
	if w.plan.class != harmless && w.chance(50) {
		window = w.rnd.IntN(65536)
	}
	f.s = segment{flags: flow.ACK, window: uint16(window), scale: f.from.shift[dir], mss: 1460, stamped: f.from.stamps}
	return f
}

// open reports whether a forgery can only be one: both ends are in the midst of
// their connection.
func (f *forgery) open() bool {
	return f.from.phase == hostOpen && f.to.phase == hostOpen && !f.from.closing && !f.to.closing && f.c.up
}

// send brings the forgery to the engine, at once.
func (f *forgery) send() {
	w := f.w
	f.s.seq = f.from.isn + 1 + uint32(f.pos)
	f.s.ack = f.to.isn + 1 + uint32(f.ackPos)
	if f.dir == flow.Original {
		f.s.ack += f.c.proxy.shift
	}
	if f.s.stamped && f.s.stamp == 0 {
		f.s.stamp, f.s.echo = f.from.clock(), f.from.recent
	}
	p := w.packet()
	p.build(f.c, f.dir, &f.s)
	p.forged, p.in, p.trick = true, f.in, f.name
	if f.in != interfaceOf(f.dir) {
		p.out = interfaceOf(f.dir)
	}
	p.wreck(w, f.wreck)
	w.stats.Forged++
	if w.intercept(p) || w.plan.synproxy && f.s.flags&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK { // conntrack takes none
		w.release(p)
		return
	}
	p.near = true
	w.queue.push(event{at: w.now, kind: atEngine, p: p})
}

// wreck breaks a packet.
func (p *packet) wreck(w *world, how uint8) {
	p.broken = how != whole
	switch how {
	case badChecksum:
		sum := p.data[p.tcp+tcpSum:]
		binary.BigEndian.PutUint16(sum, binary.BigEndian.Uint16(sum)+1+uint16(w.rnd.IntN(60000)))
		p.sum = engine.ChecksumUnverified
	case shortened:
		p.data = p.data[:len(p.data)-1]
		p.body = min(p.body, len(p.data))
	case badOffset:
		p.data[p.tcp+tcpOffset] = 0x40
		p.body = min(len(p.data), p.tcp+tcpHeader)
	}
}

// evil is text for a forgery.
func (f *forgery) evil() []byte {
	w := f.w
	text := f2(w)
	if n := len(f.from.out); n > 0 && w.chance(30) { // something like the truth
		at := w.rnd.IntN(n)
		text = append([]byte(nil), f.from.out[at:min(n, at+60)]...)
		text[w.rnd.IntN(len(text))] ^= 0x20
	}
	return text
}

// harmlessForgeries are what no receiver takes: whoever is in the path must not
// take it either.
var harmlessForgeries = []trick{
	{"a stale RST", func(f *forgery) {
		f.pos = f.to.next() - f.w.between(1, some(f.w, 50, 5000))
		if f.pos == f.c.tap[f.dir].acked {
			f.pos-- // as far as the engine can know, that one is exact
		}
		f.s.flags = some(f.w, flow.RST, flow.RST|flow.ACK)
		f.send()
	}},
	{"a RST far ahead", func(f *forgery) {
		f.pos = f.to.next() + 1<<28 + f.w.rnd.IntN(1000)
		f.s.flags = some(f.w, flow.RST, flow.RST|flow.ACK)
		f.send()
	}},
	{"a SYN in mid-stream", func(f *forgery) {
		f.s.flags = flow.SYN
		if f.dir == flow.Reply {
			f.s.flags |= flow.ACK
		}
		f.pos = some(f.w, -1, f.pos, f.w.rnd.IntN(1<<30))
		f.send()
	}},
	{"old octets with other values", func(f *forgery) {
		f.s.payload = f.evil()
		f.pos = min(f.from.una, f.to.next()) - len(f.s.payload) - f.w.rnd.IntN(3)
		f.send()
	}},
	{"a keep-alive probe", func(f *forgery) {
		f.pos = min(f.from.una, f.to.next()) - 1
		f.s.payload = []byte("X")[:f.w.rnd.IntN(2)]
		f.send()
	}},
	{"acknowledges what was never sent", func(f *forgery) {
		f.s.payload = f.evil()[:f.w.rnd.IntN(2)]
		f.ackPos = f.to.max + f.w.between(100000, 1<<30)
		f.send()
	}},
	{"an acknowledgement so old that nobody takes the text (RFC 5961 section 5.2)", func(f *forgery) {
		f.s.payload = f.evil()
		f.ackPos = f.to.una - 1<<28
		f.send()
	}},
	{"no ACK flag", func(f *forgery) {
		f.s.payload, f.s.flags = f.evil(), some(f.w, flow.PSH, 0, flow.FIN)
		f.send()
	}},
	{"one end's text from the other side", func(f *forgery) {
		g := f.w.forge(f.c, f.dir.Other())
		g.in = interfaceOf(f.dir)
		g.s.payload, g.name = g.evil(), f.name
		g.s.flags |= some(f.w, 0, flow.FIN, flow.PSH)
		g.send()
	}},
	{"a packet that nobody can read", func(f *forgery) {
		f.s.payload = f.evil()
		f.wreck = some(f.w, badChecksum, shortened, badOffset)
		f.send()
	}},
	{"an old timestamp (RFC 7323 section 5)", func(f *forgery) {
		if f.to.stamps {
			f.s.payload = f.evil()
			f.s.stamp = f.to.recent - uint32(f.w.between(1, 1<<30))
			f.send()
		}
	}},
	{"text behind the window; the client's is not known to who is in the path", func(f *forgery) {
		if f.dir == flow.Original {
			f.s.payload = f.evil()
			f.pos = f.to.offered + 1<<20 + f.w.rnd.IntN(100000)
			f.send()
		}
	}},
	{"what was sent before, as urgent, with reserved bits", func(f *forgery) {
		if f.from.max > f.from.una && f.from.una < len(f.from.out) {
			f.pos = f.from.una
			f.s.payload = f.from.out[f.pos : f.pos+1]
			f.s.flags |= flow.URG
			f.s.urgent = uint16(f.w.rnd.IntN(3))
			f.ackPos = f.from.lastAck
			f.send()
		}
	}},
}

// wickedForgeries are everything.
var wickedForgeries = []trick{
	{"a conflict", (*forgery).conflict},
	{"a conflict", (*forgery).conflict},
	{"a conflict", (*forgery).conflict},
	{"any segment", (*forgery).random},
	{"text that comes before the one in front of it", func(f *forgery) {
		f.s.payload = f.evil()
		f.pos += f.w.between(1, 300)
		f.send()
	}},
	{"RST", func(f *forgery) {
		f.pos = some(f.w, f.to.next(), f.to.next()+f.w.rnd.IntN(50), f.to.next()-f.w.rnd.IntN(50), f.pos)
		f.s.flags = some(f.w, flow.RST, flow.RST|flow.ACK)
		f.send()
	}},
	{"FIN", func(f *forgery) {
		f.pos += f.w.between(-60, 60)
		f.s.flags |= flow.FIN
		f.s.payload = f.evil()[:f.w.rnd.IntN(2)]
		f.send()
	}},
	{"SYN", func(f *forgery) {
		f.s.flags = some(f.w, flow.SYN, flow.SYN, flow.SYN|flow.ACK, flow.SYN|flow.FIN, flow.SYN|flow.RST)
		f.pos = some(f.w, -1, f.pos, f.w.rnd.IntN(1<<30))
		f.s.scale = some[int8](f.w, f.s.scale, -1, 0, 14)
		f.s.payload = f.evil()[:f.w.rnd.IntN(2)]
		f.send()
	}},
	{"", func(f *forgery) { f.play(harmlessForgeries) }},
}

// conflict sends octets that were sent, or will be, with other values and other
// borders.
func (f *forgery) conflict() {
	f.s.payload = f.evil()
	f.pos = f.from.una + f.w.between(-20, max(20, f.from.max-f.from.una+20))
	if f.w.chance(20) {
		f.s.flags |= flow.URG
		f.s.urgent = uint16(f.w.rnd.IntN(5))
	}
	f.send()
}

// random sends any segment.
func (f *forgery) random() {
	w := f.w
	f.s.flags = flow.Flags(w.rnd.IntN(64))
	f.pos += w.between(-100, 100)
	f.ackPos += w.between(-100, 100)
	f.s.reserved = uint8(w.rnd.IntN(16))
	f.s.urgent = uint16(w.rnd.IntN(3))
	f.s.payload = f.evil()[:w.rnd.IntN(2)]
	if f.s.stamped {
		f.s.stamped, f.s.stamp = w.chance(80), f.from.clock()-uint32(w.rnd.IntN(200))
	}
	if w.chance(10) {
		f.in = interfaceOf(f.dir.Other())
	}
	f.send()
}
