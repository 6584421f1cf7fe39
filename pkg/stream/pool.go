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
	kept int          // octets of the free ones, at most an eighth of max
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

// Tight reports whether the pool is nearly full.
func (p *Pool) Tight() bool { return p.used > p.max-p.max/8 }

// Share is how many octets a ledger may keep at present, of at most max.
func (p *Pool) Share(max int) int {
	if p.Tight() {
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

// Spacious reports whether there is room for octets that might as well wait: those
// behind a gap, for which one octet may cost a whole window of memory.
func (p *Pool) Spacious() bool { return p.used <= p.max/2 }

// small is a buffer that holds commands, replies and a segment of an Ethernet. The
// last sixteenth of the pool is theirs, so that sessions can begin, and go on
// slowly, when others have taken all the rest.
const small = 4 << 10

// get returns a buffer of size octets, a power of two, or nil.
func (p *Pool) get(size int) []byte {
	limit := p.max
	if size > small {
		limit -= p.max / 16
	}
	if p.used+size > limit {
		return nil
	}
	p.used += size
	class := bits.TrailingZeros(uint(size))
	if n := len(p.free[class]); n > 0 {
		b := p.free[class][n-1]
		p.free[class] = p.free[class][:n-1]
		p.kept -= size
		return b
	}
	if p.used+p.kept > p.max { // buffers of other sizes
		p.free, p.kept = [len(p.free)][][]byte{}, 0
	}
	return make([]byte, size)
}

// maxFree bounds the buffers of one size that are kept for reuse.
const maxFree = 64

func (p *Pool) put(b []byte) {
	p.used -= len(b)
	class := bits.TrailingZeros(uint(len(b)))
	if len(p.free[class]) < maxFree && p.kept+len(b) <= p.max/8 {
		p.free[class] = append(p.free[class], b)
		p.kept += len(b)
	}
}
