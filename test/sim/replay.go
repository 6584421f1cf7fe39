package sim

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// judge is an engine that is shown, as clean connections and packet by packet in
// order, what another engine has let through.
type judge struct {
	eng   *engine.Engine
	now   time.Duration
	id    uint32
	conns uint32
	p     packet
	want  []byte
}

// judgeLife is how many connections a judge sees; then there is a fresh one.
const judgeLife = 500

// judgeOf returns the judge for the schedule's policy.
func (w *world) judgeOf() *judge {
	key := w.plan.policy*2 + int(w.plan.undecided)
	j := w.judges[key]
	if j == nil || j.conns >= judgeLife {
		j = &judge{eng: engine.New(engine.Options{Map: w.plan.m, Undecided: w.plan.undecided})}
		w.judges[key] = j
	}
	return j
}

// replay checks that what passed is what the inspection lets pass: a clean
// connection with the same octets, borders and times is accepted and unchanged to
// its end. What ended a session was never let through, so it is not there.
func (w *world) replay(c *conn) {
	if len(c.grown) == 0 {
		return
	}
	j := w.judgeOf()
	clean := j.open()
	base := j.now - c.grown[0].at
	var passed [2]int // octets of each direction so far
	acked := 0        // of the client's
	for _, g := range c.grown {
		if g.dir == flow.Original && g.to-acked > 1<<15 { // the server's window is 65535
			acked = passed[flow.Original]
			j.send(clean, flow.Reply, base+g.at, &segment{seq: uint32(1 + passed[flow.Reply]), ack: uint32(1 + acked), flags: flow.ACK, window: 65535, scale: -1})
		}
		t := &c.tap[g.dir]
		text := t.data[g.from:g.to]
		s := segment{seq: uint32(1 + g.from), flags: flow.ACK | flow.PSH, window: 65535, scale: -1, payload: text}
		s.ack = uint32(1 + passed[g.dir.Other()])
		passed[g.dir] = g.to
		d := j.send(clean, g.dir, base+g.at, &s)
		switch {
		case d == nil:
			w.fail("delivered == judged", "conn %d, direction %d, octets %d to %d: %.100q are held when they come in order", c.index, g.dir, g.from, g.to, text)
		case d.Verdict == engine.Drop || d.Mark&engine.MarkReset != 0:
			w.fail("delivered == judged", "conn %d, direction %d, octets %d to %d: %.100q are refused when they come in order (%v)", c.index, g.dir, g.from, g.to, text, d.Reason)
		case d.Mark&engine.MarkOffload != 0:
		case !bytes.Equal(j.p.data, j.want):
			w.fail("delivered == judged", "conn %d, direction %d, octets %d to %d: %.100q become %.100q when they come in order", c.index, g.dir, g.from, g.to, text, j.p.data[j.p.body:])
		default:
			continue
		}
		break
	}
	j.close(clean)
	w.stats.Replayed++
	if w.fault != nil {
		delete(w.judges, w.plan.policy*2+int(w.plan.undecided))
	}
}

// open makes the handshake of a clean connection.
func (j *judge) open() *conn {
	j.conns++
	c := &conn{port: [2]uint16{uint16(1024 + j.conns), 25}}
	from, to := netip.AddrFrom4([4]byte{203, 0, 113, 6}), netip.AddrFrom4([4]byte{192, 168, 1, 2})
	c.template = [2][]byte{ipHeader(from, to), ipHeader(to, from)}
	j.send(c, flow.Original, j.now, &segment{flags: flow.SYN, window: 65535, mss: 1460, scale: -1})
	j.send(c, flow.Reply, j.now, &segment{ack: 1, flags: flow.SYN | flow.ACK, window: 65535, mss: 1460, scale: -1})
	return c
}

// send gives the judge a packet and returns the decision on it, nil if there is
// none yet.
func (j *judge) send(c *conn, dir flow.Dir, at time.Duration, s *segment) *engine.Decision {
	j.now = max(j.now, at)
	j.id++
	j.p.build(c, dir, s)
	j.want = append(j.want[:0], j.p.data...)
	ds := j.eng.Process(&engine.Packet{ID: j.id, Time: j.now, In: interfaceOf(dir), Out: interfaceOf(dir.Other()), Checksum: engine.ChecksumGood, Data: j.p.data})
	j.eng.TakeEvents()
	j.eng.TakeKills()
	for i := range ds {
		if ds[i].ID == j.id {
			return &ds[i]
		}
	}
	return nil
}

// close ends the clean connection and lets the engine forget it.
func (j *judge) close(c *conn) {
	j.send(c, flow.Original, j.now, &segment{flags: flow.RST, scale: -1})
	j.now += time.Hour
	j.eng.Tick(j.now)
	j.now += time.Hour
	j.eng.Tick(j.now)
	j.eng.Forget(j.now, flow.Tuple{
		Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, 6}), c.port[0]),
		Server: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 1, 2}), c.port[1]),
	})
	j.eng.Tick(j.now)
	j.eng.TakeEvents()
	j.eng.TakeKills()
}
