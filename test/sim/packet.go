package sim

import (
	"encoding/binary"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// Offsets in a TCP header (RFC 9293 section 3.1).
const (
	tcpSeq    = 4
	tcpAck    = 8
	tcpOffset = 12
	tcpFlags  = 13
	tcpWindow = 14
	tcpSum    = 16
	tcpUrgent = 18
	tcpHeader = 20
)

// TCP options that the ends use.
const (
	optMSS   = 2 // RFC 9293 section 3.2
	optScale = 3 // RFC 7323 section 2
	optTime  = 8 // RFC 7323 section 3
)

// maxHead is the longest IP and TCP header that is built here.
const maxHead = 40 + 20 + 40

// packet is an IP packet on its way. It belongs to one stage at a time: the
// network before the engine, the engine, the network behind it, its receiver.
type packet struct {
	c    *conn
	dir  flow.Dir // by its addresses
	data []byte   // from the IP header on
	tcp  int      // offset of the TCP header
	body int      // offset of the payload

	in, out uint32          // interfaces
	sum     engine.Checksum // what is known of its checksum
	merged  bool            // several segments as one
	forged  bool            // no end sent it
	trick   string          // forged: how
	near    bool            // it is under way to the engine
	broken  bool            // no TCP packet that can be read, or a wrong checksum: no host takes it

	id    uint32        // the engine's name for it; 0 before
	given time.Duration // when the engine got it
	head  [maxHead]byte // its headers as the engine got them
}

// segment is what an endpoint or a forger wants to send.
type segment struct {
	seq, ack uint32
	flags    flow.Flags
	window   uint16
	urgent   uint16
	reserved uint8 // the four reserved bits
	mss      uint16
	scale    int8 // -1: no such option
	stamped  bool // with a timestamp option
	stamp    uint32
	echo     uint32
	payload  []byte
}

// build writes the packet of direction dir that carries s.
func (p *packet) build(c *conn, dir flow.Dir, s *segment) {
	p.c, p.dir = c, dir
	p.data = append(p.data[:0], c.template[dir]...)
	p.tcp = len(p.data)
	var head [tcpHeader]byte
	p.data = append(p.data, head[:]...)
	p.options(s)
	p.body = len(p.data)
	p.data = append(p.data, s.payload...)
	tcp := p.data[p.tcp:]
	binary.BigEndian.PutUint16(tcp, c.port[dir])
	binary.BigEndian.PutUint16(tcp[2:], c.port[dir.Other()])
	binary.BigEndian.PutUint32(tcp[tcpSeq:], s.seq)
	binary.BigEndian.PutUint32(tcp[tcpAck:], s.ack)
	tcp[tcpOffset] = byte(p.body-p.tcp)/4<<4 | s.reserved
	tcp[tcpFlags] = byte(s.flags)
	binary.BigEndian.PutUint16(tcp[tcpWindow:], s.window)
	binary.BigEndian.PutUint16(tcp[tcpUrgent:], s.urgent)
	p.in, p.out = interfaceOf(dir), interfaceOf(dir.Other())
	p.finish()
}

// options writes the TCP options of s, padded to whole words.
func (p *packet) options(s *segment) {
	if s.flags&flow.SYN != 0 {
		p.data = append(p.data, optMSS, 4, byte(s.mss>>8), byte(s.mss))
		if s.scale >= 0 {
			p.data = append(p.data, 1, optScale, 3, byte(s.scale))
		}
	}
	if s.stamped {
		p.data = append(p.data, 1, 1, optTime, 10)
		p.data = binary.BigEndian.AppendUint32(p.data, s.stamp)
		p.data = binary.BigEndian.AppendUint32(p.data, s.echo)
	}
}

// finish sets the lengths and checksums of a packet whose bytes have changed.
func (p *packet) finish() {
	if p.data[0]>>4 == 4 {
		binary.BigEndian.PutUint16(p.data[2:], uint16(len(p.data)))
		p.data[10], p.data[11] = 0, 0
		binary.BigEndian.PutUint16(p.data[10:], ^wire.Fold(wire.Sum(p.data[:20], 0)))
	} else {
		binary.BigEndian.PutUint16(p.data[4:], uint16(len(p.data)-40))
	}
	wire.SetTCPChecksum(p.data, p.tcp)
	p.sum = engine.ChecksumGood
}

// offload leaves the checksum to the card: the packet carries none yet.
func (p *packet) offload() {
	binary.BigEndian.PutUint16(p.data[p.tcp+tcpSum:], 0)
	p.sum = engine.ChecksumPartial
}

// copyFrom makes p a copy of q, under way anew.
func (p *packet) copyFrom(q *packet) {
	data := append(p.data[:0], q.data...)
	*p = *q
	p.data, p.id, p.near = data, 0, false
}

func (p *packet) seq() uint32       { return binary.BigEndian.Uint32(p.data[p.tcp+tcpSeq:]) }
func (p *packet) ack() uint32       { return binary.BigEndian.Uint32(p.data[p.tcp+tcpAck:]) }
func (p *packet) flags() flow.Flags { return flow.Flags(p.data[p.tcp+tcpFlags]) }
func (p *packet) window() uint16    { return binary.BigEndian.Uint16(p.data[p.tcp+tcpWindow:]) }
func (p *packet) urgent() uint16    { return binary.BigEndian.Uint16(p.data[p.tcp+tcpUrgent:]) }
func (p *packet) payload() []byte   { return p.data[p.body:] }

// setSeq moves the packet; finish must follow.
func (p *packet) setSeq(seq uint32) { binary.BigEndian.PutUint32(p.data[p.tcp+tcpSeq:], seq) }

// setFlags changes its flags; finish must follow.
func (p *packet) setFlags(f flow.Flags) { p.data[p.tcp+tcpFlags] = byte(f) }

// option returns the value of a TCP option, nil if there is none.
func (p *packet) option(kind byte) []byte {
	opts := p.data[p.tcp+tcpHeader : p.body]
	for len(opts) > 1 && opts[0] != 0 {
		if opts[0] == 1 {
			opts = opts[1:]
			continue
		}
		n := int(opts[1])
		if n < 2 || n > len(opts) {
			return nil
		}
		if opts[0] == kind {
			return opts[2:n]
		}
		opts = opts[n:]
	}
	return nil
}

// pureACK reports whether p is one of those that the ruleset's rule for the
// client's pure ACKs accepts: exactly ACK, no payload.
func (p *packet) pureACK() bool { return p.flags() == flow.ACK && len(p.data) == p.body }

// The interfaces of the simulated firewall.
const (
	clientSide uint32 = 1
	serverSide uint32 = 2
)

// interfaceOf is where packets of direction dir come in.
func interfaceOf(dir flow.Dir) uint32 {
	if dir == flow.Original {
		return clientSide
	}
	return serverSide
}
