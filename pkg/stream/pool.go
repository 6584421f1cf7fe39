package stream

import "math/bits"

// minBuffer is the smallest ledger buffer: most SMTP replies fit. The last one
// of an idle session stays, for the client's pure ACKs are not seen.
const minBuffer = 64

// Pool is the memory of all ledgers of an engine. Buffers are powers of two and
// are reused, so that a steady stream allocates nothing.
type Pool struct {
	max  int // octets of all buffers together, in use or free
	used int
	free [32][][]byte // by the logarithm of their size
}

// NewPool returns a pool that holds at most max octets.
func NewPool(max int) *Pool { return &Pool{max: max} }

// Used is the number of octets in ledgers' buffers.
func (p *Pool) Used() int { return p.used }

// Shares of a connection when the pool is more than half full, and when it is nearly
// full: a few connections whose receivers acknowledge nothing must not take the
// room of all others. The last one holds the largest segment of an Ethernet.
const (
	tightShare = 64 << 10
	lastShare  = 16 << 10
)

// Share is how many octets a ledger may keep at present, of at most max.
func (p *Pool) Share(max int) int {
	if p.used > p.max-p.max/8 {
		return min(max, lastShare)
	}
	return max
}

// Offer is how many octets a sender may be offered to send at present. It shrinks
// before Share does, so that what was offered finds room.
func (p *Pool) Offer(max int) int {
	if p.used > p.max/2 {
		max = min(max, tightShare)
	}
	max = p.Share(max)
	return max - min(max/4, largestPacket) // a sender may pass the offer by a packet
}

// largestPacket is the payload of the largest IP packet: several segments may
// come as one.
const largestPacket = 1 << 16

// get returns a buffer of size octets, a power of two, or nil.
func (p *Pool) get(size int) []byte {
	if p.used+size > p.max {
		return nil
	}
	p.used += size
	class := bits.TrailingZeros(uint(size))
	if n := len(p.free[class]); n > 0 {
		b := p.free[class][n-1]
		p.free[class] = p.free[class][:n-1]
		return b
	}
	return make([]byte, size)
}

// maxFree bounds the buffers of one size that are kept for reuse.
const maxFree = 64

func (p *Pool) put(b []byte) {
	p.used -= len(b)
	class := bits.TrailingZeros(uint(len(b)))
	if len(p.free[class]) < maxFree {
		p.free[class] = append(p.free[class], b)
	}
}
