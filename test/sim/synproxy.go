package sim

import (
	"encoding/binary"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// proxy is the kernel's synproxy in front of a connection's server: it answers
// the client's SYN with a number of its own, and sends the SYN to the server once
// the client has shown that it is there. From then on it only translates: behind
// the engine it puts the server's numbers into the client's space, and the
// client's acknowledgements into the server's.
type proxy struct {
	on    bool
	shift uint32 // the server's numbers as the client sees them, minus what they are
}

// acked is the acknowledgement number of p in the space of the octets that it
// acknowledges, as they stand in packets before the engine.
func (p *packet) acked() uint32 {
	if p.dir == flow.Original {
		return p.ack() - p.c.proxy.shift
	}
	return p.ack()
}

// intercept takes the client's packets until the server has answered, and reports
// whether it took p.
func (w *world) intercept(p *packet) bool {
	c := p.c
	if !c.proxy.on || p.dir == flow.Reply || c.up && p.flags()&flow.SYN == 0 {
		return false
	}
	client, server := c.host[flow.Original], c.host[flow.Reply]
	switch {
	case p.forged:
	case p.flags()&flow.SYN != 0:
		w.speak(c, flow.Reply, segment{seq: server.isn + c.proxy.shift, ack: client.isn + 1, flags: flow.SYN | flow.ACK, mss: 1460, scale: -1})
	default:
		w.speak(c, flow.Original, segment{seq: client.isn, flags: flow.SYN, mss: uint16(client.traits.mss), scale: -1, window: p.window()})
	}
	return true
}

// speak sends a segment of the proxy's own to the receiver of direction dir. It is
// not lost: the proxy keeps no state and sends nothing again, and a client that
// waits for a greeting sends nothing either.
func (w *world) speak(c *conn, dir flow.Dir, s segment) {
	p := w.packet()
	p.build(c, dir, &s)
	w.arrive(p, &link{delay: w.plan.beyond[dir].delay}, atHost)
}

// translate brings a packet that has passed the engine into its receiver's
// space. It reports whether the packet goes on: a SYN-ACK is the proxy's, which
// completes the handshake with the server and opens the client's window.
func (w *world) translate(p *packet) bool {
	c := p.c
	if !c.proxy.on {
		return true
	}
	if p.dir == flow.Reply && p.flags()&flow.SYN != 0 {
		client, server := c.host[flow.Original], c.host[flow.Reply]
		open := segment{seq: client.isn + 1, ack: server.isn + 1, flags: flow.ACK, scale: -1, window: uint16(min(client.traits.buffer, 65535))}
		w.speak(c, flow.Original, open)
		w.speak(c, flow.Reply, segment{seq: server.isn + 1 + c.proxy.shift, ack: client.isn + 1, flags: flow.ACK, scale: -1, window: p.window()})
		w.release(p)
		return false
	}
	sum := p.sum
	if p.dir == flow.Reply {
		p.setSeq(p.seq() + c.proxy.shift)
	} else {
		binary.BigEndian.PutUint32(p.data[p.tcp+tcpAck:], p.ack()-c.proxy.shift)
	}
	p.finish()
	p.sum = sum
	return true
}
