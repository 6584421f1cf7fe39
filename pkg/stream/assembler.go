package stream

import (
	"encoding/binary"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/tcpassembly"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// Assembler is gopacket's tcpassembly, fed only with octets that the control
// block has accepted in order. On that path it allocates nothing and hands out
// the packet's own bytes, so that they can be edited in place; none of its known
// defects (stale RST or FIN, a SYN in mid-stream, skipped gaps, unbounded pages)
// can be reached. An Assembler belongs to one goroutine.
//
// tcpassembly needs some 500 octets for a direction and keeps them until it is
// closed. Here a direction is opened when octets come, with a SYN made for the
// sequence number before them (what lies before that was handed out), and it is
// closed when maxOpen others have been opened since. So neither idle sessions
// nor a flood of SYNs cost anything.
type Assembler struct {
	assembler *tcpassembly.Assembler
	sink      func([]byte)        // of the Feed under way
	open      map[direction]int32 // index in slots
	slots     []openSlot          // a ring in the order of opening, once it has grown to maxOpen
	oldest    int32
	header    [tcpHeader]byte
	tcp       layers.TCP // scratch of control, decoded from header
}

// maxOpen is how many directions are open in tcpassembly. It is what
// tcpassembly makes room for at the start, so that nothing in it ever grows, and
// more than are busy within a moment. When more are, each of their segments
// costs half a microsecond for closing one and opening another.
const maxOpen = 1024

// direction is one direction of a connection, as tcpassembly tells them apart.
type direction struct {
	net      gopacket.Flow
	src, dst uint16
}

// openSlot is a place in the ring of open directions.
type openSlot struct {
	direction
	next wire.Seq // of the octet that tcpassembly expects
}

// NewAssembler returns an assembler without connections.
func NewAssembler() *Assembler {
	a := &Assembler{open: make(map[direction]int32)}
	a.assembler = tcpassembly.NewAssembler(tcpassembly.NewStreamPool(factory{a}))
	// Nothing is ever out of order here; one page keeps a mistake bounded.
	a.assembler.MaxBufferedPagesPerConnection = 1
	a.assembler.MaxBufferedPagesTotal = 1
	return a
}

// Feed gives the assembler an accepted segment: a SYN, or payload from the next
// octet on. sink is called with the payload, which aliases tcp.Payload.
func (a *Assembler) Feed(net gopacket.Flow, tcp *layers.TCP, sink func([]byte)) {
	d := direction{net, uint16(tcp.SrcPort), uint16(tcp.DstPort)}
	if len(tcp.Payload) == 0 || tcp.SYN {
		if tcp.SYN || tcp.FIN || tcp.RST {
			a.close(d)
		}
		return
	}
	slot := a.at(d, wire.Seq(tcp.Seq))
	slot.next = slot.next.Add(len(tcp.Payload))
	a.sink = sink
	a.assembler.AssembleWithTimestamp(net, tcp, time.Time{})
	a.sink = nil
	if tcp.FIN || tcp.RST {
		delete(a.open, d) // tcpassembly has closed it
	}
}

// Close forgets one direction of a connection, from port src to port dst.
func (a *Assembler) Close(net gopacket.Flow, src, dst uint16) {
	a.close(direction{net, src, dst})
}

// at returns the slot of d, which is open there and expects the octet next.
func (a *Assembler) at(d direction, next wire.Seq) *openSlot {
	if i, ok := a.open[d]; ok {
		if a.slots[i].next == next {
			return &a.slots[i]
		}
		a.close(d)
	}
	i := a.take()
	slot := &a.slots[i]
	*slot = openSlot{d, next}
	a.open[d] = i
	a.control(slot, flagSYN, next.Add(-1))
	return slot
}

// take returns the index of a free slot. In a full ring that is the one taken
// longest ago: what it is for is closed, or was, and then perhaps opened again
// in another slot, which costs that one an early close.
func (a *Assembler) take() int32 {
	if len(a.slots) < maxOpen {
		a.slots = append(a.slots, openSlot{})
		return int32(len(a.slots) - 1)
	}
	i := a.oldest
	a.oldest = (i + 1) % maxOpen
	a.close(a.slots[i].direction)
	return i
}

// close ends d in tcpassembly, if it is open there.
func (a *Assembler) close(d direction) {
	i, ok := a.open[d]
	if !ok {
		return
	}
	a.control(&a.slots[i], flagRST, a.slots[i].next)
	delete(a.open, d)
}

// A TCP header (RFC 9293 section 3.1).
const (
	tcpHeader = 20 // without options
	flagSYN   = 1 << 1
	flagRST   = 1 << 2
)

// control feeds tcpassembly with a segment of our own, without payload. It is
// made from bytes: only a decoded layer knows its ports.
func (a *Assembler) control(slot *openSlot, flag byte, seq wire.Seq) {
	binary.BigEndian.PutUint16(a.header[0:], slot.src)
	binary.BigEndian.PutUint16(a.header[2:], slot.dst)
	binary.BigEndian.PutUint32(a.header[4:], uint32(seq))
	a.header[12], a.header[13] = tcpHeader/4<<4, flag // data offset, flags
	if err := a.tcp.DecodeFromBytes(a.header[:], gopacket.NilDecodeFeedback); err == nil {
		a.assembler.AssembleWithTimestamp(slot.net, &a.tcp, time.Time{})
	}
}

// factory makes the streams of an Assembler: they all lead to the sink of the
// Feed under way, which knows its half.
type factory struct{ *Assembler }

// New is called by tcpassembly for each direction of a connection.
func (f factory) New(_, _ gopacket.Flow) tcpassembly.Stream { return f }

// Reassembled is called by tcpassembly with octets in order.
func (f factory) Reassembled(rs []tcpassembly.Reassembly) {
	for i := range rs {
		if len(rs[i].Bytes) > 0 {
			f.sink(rs[i].Bytes)
		}
	}
}

// ReassemblyComplete is called by tcpassembly when a direction has ended.
func (factory) ReassemblyComplete() {}
