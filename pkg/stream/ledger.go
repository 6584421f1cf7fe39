package stream

import (
	"math/bits"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// minBuffer is the smallest ledger buffer: an SMTP command or reply fits.
const minBuffer = 256

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

// Ledger keeps the octets of one direction that were forwarded and not yet
// acknowledged. They are the truth: whatever the sender says later at the same
// sequence numbers is overwritten with them. The zero value is an empty ledger
// that Start has to place.
type Ledger struct {
	base wire.Seq // sequence number of the first octet kept
	buf  []byte   // a ring; its size is 0 or a power of two
	head int      // index of the first octet kept
	len  int
}

// Start places an empty ledger at the sequence number of the next octet.
func (l *Ledger) Start(next wire.Seq) { l.base = next }

// Len is the number of octets kept.
func (l *Ledger) Len() int { return l.len }

// sizeFor is the buffer size that holds n octets.
func sizeFor(n int) int {
	if n <= minBuffer {
		return minBuffer
	}
	return 1 << bits.Len(uint(n-1))
}

// Reserve makes room for n more octets. It reports false when that passes max
// for this ledger or the pool's bound; the ledger is then unchanged.
func (l *Ledger) Reserve(p *Pool, n, max int) bool {
	if l.len+n > max {
		return false
	}
	size := sizeFor(l.len + n)
	if size <= len(l.buf) {
		return true
	}
	buf := p.get(size)
	if buf == nil {
		return false
	}
	l.copyTo(buf[:l.len], 0)
	if l.buf != nil {
		p.put(l.buf)
	}
	l.buf, l.head = buf, 0
	return true
}

// Append keeps the octets of b, which are being forwarded. Room for them was
// reserved.
func (l *Ledger) Append(b []byte) {
	at := (l.head + l.len) & (len(l.buf) - 1)
	n := copy(l.buf[at:], b)
	copy(l.buf, b[n:])
	l.len += len(b)
}

// Release forgets the octets before acked, which their receiver has
// acknowledged. An empty ledger gives its buffer back.
func (l *Ledger) Release(p *Pool, acked wire.Seq) {
	n := min(acked.Sub(l.base), l.len)
	if n <= 0 {
		return
	}
	l.base = l.base.Add(n)
	l.len -= n
	if l.len == 0 {
		p.put(l.buf)
		l.buf, l.head = nil, 0
		return
	}
	l.head = (l.head + n) & (len(l.buf) - 1)
}

// Base is the sequence number of the first octet kept.
func (l *Ledger) Base() wire.Seq { return l.base }

// Drop forgets everything.
func (l *Ledger) Drop(p *Pool) { l.Release(p, l.base.Add(l.len)) }

// Overwrite puts the kept octets over those of b, which stands at seq, and
// reports whether b changed. Octets of b that are not kept stay: their receiver
// has acknowledged them and ignores them, or they are new.
func (l *Ledger) Overwrite(seq wire.Seq, b []byte) (changed bool) {
	from := l.base.Sub(seq)
	offset := 0
	if from < 0 {
		from, offset = 0, -from
	}
	if from >= len(b) || offset >= l.len {
		return false
	}
	b = b[from:min(len(b), from+l.len-offset)]
	return l.copyTo(b, offset)
}

// copyTo copies the octets at offset to b and reports whether b changed.
func (l *Ledger) copyTo(b []byte, offset int) (changed bool) {
	for len(b) > 0 {
		at := (l.head + offset) & (len(l.buf) - 1)
		kept := l.buf[at:min(len(l.buf), at+len(b))]
		changed = changed || string(b[:len(kept)]) != string(kept)
		copy(b, kept)
		b, offset = b[len(kept):], offset+len(kept)
	}
	return changed
}
