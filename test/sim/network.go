package sim

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// link is a stretch of network in one direction: percentages of what happens to
// a packet on it.
type link struct {
	lose, repeat, late, cut, merge int
	delay, jitter                  time.Duration
	losses                         int // how many packets it may still lose: an unlucky network lets TCP win in the end
}

// send takes a segment from an endpoint.
func (w *world) send(c *conn, dir flow.Dir, s *segment) {
	p := w.packet()
	p.build(c, dir, s)
	switch {
	case c.reused, w.intercept(p):
		w.release(p)
	case w.plan.kernelACKs && dir == flow.Original && c.up && p.pureACK():
		w.stats.KernelACKs++
		w.translate(p)
		w.travel(p, &c.net[dir], atHost)
	default:
		if w.plan.hostile(dir) {
			w.attack(c, dir, p)
		}
		w.approach(p)
	}
}

// approach brings a packet to the engine: cut, merged, late, twice or never.
func (w *world) approach(p *packet) {
	c, l := p.c, &p.c.net[p.dir]
	n := len(p.payload())
	if n > 1 && !p.broken && w.chance(l.cut) {
		w.cut(p, l)
		return
	}
	if last := c.last[p.dir]; n > 0 && last != nil && last.near && last.c == c && w.chance(l.merge) && last.extend(p, w) {
		w.release(p)
		return
	}
	c.last[p.dir] = p
	w.travel(p, l, atEngine)
}

// travel lets a packet pass a link.
func (w *world) travel(p *packet, l *link, to eventKind) {
	if l.losses > 0 && w.chance(l.lose) {
		l.losses--
		w.stats.Lost++
		w.release(p)
		return
	}
	if w.chance(l.repeat) {
		twin := w.packet()
		twin.copyFrom(p)
		w.arrive(twin, l, to)
	}
	w.arrive(p, l, to)
}

// arrive says when a packet comes out of a link.
func (w *world) arrive(p *packet, l *link, to eventKind) {
	d := l.delay
	if l.jitter > 0 {
		d += time.Duration(w.rnd.Int64N(int64(l.jitter)))
	}
	if w.chance(l.late) {
		d += time.Duration(w.rnd.Int64N(int64(200 * time.Millisecond)))
		w.stats.Late++
	}
	p.near = to == atEngine
	w.queue.push(event{at: w.now + d, kind: to, p: p})
}

// cut sends a packet on as pieces with borders of the network's own, which may
// overlap, in any order.
func (w *world) cut(p *packet, l *link) {
	text, flags := p.payload(), p.flags()
	for from := 0; from < len(text); {
		end := min(len(text), from+w.between(1, len(text)))
		start := from
		if w.chance(20) {
			start = max(0, from-w.between(1, 8))
		}
		piece := w.packet()
		piece.copyFrom(p)
		piece.data = append(piece.data[:piece.body], text[start:end]...)
		piece.setSeq(p.seq() + uint32(start))
		if end < len(text) {
			piece.setFlags(flags &^ (flow.FIN | flow.PSH))
		}
		if start > 0 {
			piece.setFlags(piece.flags() &^ flow.SYN)
		}
		piece.finish()
		w.travel(piece, l, atEngine)
		from = end
	}
	w.stats.Cut++
	w.release(p)
}

// maxMerged is the longest packet that is made of several here. GSO makes them
// up to 64 KiB.
const maxMerged = 16 << 10

// extend appends p to the packet in front of it, as GRO does: same flags but for
// PSH and FIN, same acknowledgement, window and options.
func (q *packet) extend(p *packet, w *world) bool {
	text := p.payload()
	same := q.seq()+uint32(len(q.payload())) == p.seq() && !q.forged && !p.forged && !q.broken && !p.broken &&
		q.flags()&^flow.PSH == flow.ACK && p.flags()&^(flow.PSH|flow.FIN) == flow.ACK &&
		len(q.payload()) > 0 && len(q.data)+len(text) <= maxMerged && q.body == p.body && q.in == p.in &&
		string(q.data[q.tcp+tcpAck:q.tcp+tcpFlags]) == string(p.data[p.tcp+tcpAck:p.tcp+tcpFlags]) &&
		q.window() == p.window() &&
		string(q.data[q.tcp+tcpUrgent:q.body]) == string(p.data[p.tcp+tcpUrgent:p.body])
	if !same {
		return false
	}
	q.data = append(q.data, text...)
	q.setFlags(q.flags() | p.flags())
	q.finish()
	q.merged = true
	if w.chance(50) {
		q.offload()
	}
	w.stats.Merged++
	return true
}

// depart brings a packet that the engine has accepted to its receiver. A merged
// one becomes segments again.
func (w *world) depart(p *packet) {
	l := &w.plan.beyond[p.dir]
	if !w.translate(p) {
		return
	}
	if !p.merged {
		w.travel(p, l, atHost)
		return
	}
	text, size := p.payload(), p.c.host[p.dir].mss
	for from := 0; from < len(text); from += size {
		end := min(len(text), from+size)
		piece := w.packet()
		piece.copyFrom(p)
		piece.id = p.id
		piece.data = append(piece.data[:piece.body], text[from:end]...)
		piece.setSeq(p.seq() + uint32(from))
		if end < len(text) {
			piece.setFlags(p.flags() &^ (flow.FIN | flow.PSH))
		}
		piece.finish()
		w.travel(piece, l, atHost)
	}
	w.release(p)
}
