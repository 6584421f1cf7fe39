package stream

import (
	"encoding/binary"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/tcpassembly"
)

// Assembler is gopacket's tcpassembly, fed only with octets that the control
// block has accepted in order. On that path it allocates nothing and hands out
// the packet's own bytes, so that they can be edited in place; none of its known
// defects (stale RST or FIN, a SYN in mid-stream, skipped gaps, unbounded pages)
// can be reached. An Assembler belongs to one goroutine.
type Assembler struct {
	assembler *tcpassembly.Assembler
	sink      func([]byte) // of the Feed under way
	header    [tcpHeader]byte
	tcp       layers.TCP // scratch of Close, decoded from header
}

// NewAssembler returns an assembler without connections.
func NewAssembler() *Assembler {
	a := &Assembler{}
	a.assembler = tcpassembly.NewAssembler(tcpassembly.NewStreamPool(factory{a}))
	// Nothing is ever out of order here; one page keeps a mistake bounded.
	a.assembler.MaxBufferedPagesPerConnection = 1
	a.assembler.MaxBufferedPagesTotal = 1
	return a
}

// Feed gives the assembler an accepted segment: a SYN, or payload from the next
// octet on. sink is called with the payload, which aliases tcp.Payload.
func (a *Assembler) Feed(net gopacket.Flow, tcp *layers.TCP, sink func([]byte)) {
	a.sink = sink
	a.assembler.AssembleWithTimestamp(net, tcp, time.Time{})
	a.sink = nil
}

// tcpHeader is the length of a TCP header without options.
const tcpHeader = 20

// Close forgets one direction of a connection, from port src to port dst. It
// feeds a RST made from bytes: a decoded layer alone knows its ports.
func (a *Assembler) Close(net gopacket.Flow, src, dst uint16) {
	binary.BigEndian.PutUint16(a.header[0:], src)
	binary.BigEndian.PutUint16(a.header[2:], dst)
	a.header[12], a.header[13] = tcpHeader/4<<4, 1<<2 // data offset, RST
	if err := a.tcp.DecodeFromBytes(a.header[:], gopacket.NilDecodeFeedback); err == nil {
		a.Feed(net, &a.tcp, func([]byte) {})
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
