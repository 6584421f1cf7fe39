package stream

import "github.com/smtpwall/smtpwall/pkg/wire"

// Ledger keeps the octets of one direction that were forwarded and not yet
// acknowledged. They are the truth: whatever the sender says later at the same
// sequence numbers is overwritten with them. Behind a gap it keeps the octets
// that were forwarded early. The zero value is an empty ledger that Start has to
// place.
type Ledger struct {
	base  wire.Seq // sequence number of the first octet kept
	head  int32    // index in buf of the first octet kept
	len   int32    // octets from base on without a gap
	buf   []byte   // a ring; its size is 0 or a power of two
	early *[]span  // what is kept behind a gap: ascending, neither overlapping nor touching; nil: nothing
}

// span is the octets from from up to to, which is not among them.
type span struct{ from, to wire.Seq }

// maxEarly bounds the gaps of a ledger: more segments of a window are not lost
// at once in a network in which mail gets through.
const maxEarly = 128

// Start places an empty ledger at the sequence number of the next octet.
func (l *Ledger) Start(next wire.Seq) { l.base = next }

// Base is the sequence number of the first octet kept.
func (l *Ledger) Base() wire.Seq { return l.base }

// Len is the number of octets kept without a gap.
func (l *Ledger) Len() int { return int(l.len) }

// end is the sequence number behind the octets kept without a gap.
func (l *Ledger) end() wire.Seq { return l.base.Add(int(l.len)) }

// spans are the pieces kept behind a gap.
func (l *Ledger) spans() []span {
	if l.early == nil {
		return nil
	}
	return *l.early
}

// Last is the sequence number behind the last octet kept.
func (l *Ledger) Last() wire.Seq {
	if s := l.spans(); len(s) > 0 {
		return s[len(s)-1].to
	}
	return l.end()
}

// Reach is the sequence number behind the octets that are kept from seq on
// without a gap; seq itself if the octet there is not kept.
func (l *Ledger) Reach(seq wire.Seq) wire.Seq {
	if l.base.LessEq(seq) && seq.Less(l.end()) {
		return l.end()
	}
	for _, s := range l.spans() {
		if s.from.LessEq(seq) && seq.Less(s.to) {
			return s.to
		}
	}
	return seq
}

// Reserve makes room for n octets from seq on, which is not before the base. It
// reports false when that passes max for this ledger, the pool's bound or that
// of gaps; the ledger is then unchanged.
func (l *Ledger) Reserve(p *Pool, seq wire.Seq, n, max int) bool {
	need := seq.Add(n).Sub(l.base)
	if last := l.Last().Sub(l.base); need <= last {
		need = last
	} else if need > max {
		return false
	}
	if l.end().Less(seq) && len(l.spans()) >= maxEarly {
		return false
	}
	size := sizeFor(need)
	if size <= len(l.buf) {
		return true
	}
	buf := p.get(size)
	if buf == nil {
		return false
	}
	if l.buf != nil {
		l.copyTo(buf[:l.Last().Sub(l.base)], 0)
		p.put(l.buf)
	}
	l.buf, l.head = buf, 0
	return true
}

// sizeFor is the buffer size that holds n octets.
func sizeFor(n int) int {
	size := minBuffer
	for size < n {
		size *= 2
	}
	return size
}

// Put keeps the octets of b, which are being forwarded and stand at seq, the
// base or behind it. Room for them was reserved, and what is kept of them
// already was put over them.
func (l *Ledger) Put(seq wire.Seq, b []byte) {
	if len(b) == 0 {
		return
	}
	at := (int(l.head) + seq.Sub(l.base)) & (len(l.buf) - 1)
	n := copy(l.buf[at:], b)
	copy(l.buf, b[n:])
	l.keep(span{seq, seq.Add(len(b))})
}

// keep notes that the octets of s are kept.
func (l *Ledger) keep(s span) {
	if l.end().Less(s.from) {
		l.keepEarly(s)
		return
	}
	if l.end().Less(s.to) {
		l.len = int32(s.to.Sub(l.base))
	}
	for rest := l.spans(); len(rest) > 0 && rest[0].from.LessEq(l.end()); rest = *l.early {
		if l.end().Less(rest[0].to) {
			l.len = int32(rest[0].to.Sub(l.base))
		}
		if *l.early = append(rest[:0], rest[1:]...); len(*l.early) == 0 {
			l.early = nil
			return
		}
	}
}

// keepEarly notes a span behind a gap, in its place among the others.
func (l *Ledger) keepEarly(s span) {
	if l.early == nil {
		l.early = new([]span)
	}
	list := *l.early
	if n := len(list); n > 0 && list[n-1].from.LessEq(s.from) && s.from.LessEq(list[n-1].to) {
		if list[n-1].to.Less(s.to) {
			list[n-1].to = s.to // the usual case: the stream goes on behind the gap
		}
		return
	}
	merged := make([]span, 0, len(list)+1)
	for len(list) > 0 && list[0].to.Less(s.from) {
		merged, list = append(merged, list[0]), list[1:]
	}
	for len(list) > 0 && list[0].from.LessEq(s.to) {
		if list[0].from.Less(s.from) {
			s.from = list[0].from
		}
		if s.to.Less(list[0].to) {
			s.to = list[0].to
		}
		list = list[1:]
	}
	*l.early = append(append(merged, s), list...)
}

// Release forgets the octets before acked, which their receiver has
// acknowledged, as far as there is no gap. An empty ledger gives its buffer back.
func (l *Ledger) Release(p *Pool, acked wire.Seq) {
	n := min(acked.Sub(l.base), int(l.len))
	if n <= 0 {
		return
	}
	l.base = l.base.Add(n)
	l.len -= int32(n)
	if l.len == 0 && l.early == nil {
		p.put(l.buf)
		l.buf, l.head = nil, 0
		return
	}
	l.head = int32((int(l.head) + n) & (len(l.buf) - 1))
}

// Drop forgets everything.
func (l *Ledger) Drop(p *Pool) {
	l.early = nil
	l.Release(p, l.end())
	if l.buf != nil {
		p.put(l.buf)
		l.buf, l.head = nil, 0
	}
}

// Copy copies kept octets from seq on to b.
func (l *Ledger) Copy(seq wire.Seq, b []byte) { l.copyTo(b, seq.Sub(l.base)) }

// Overwrite puts the kept octets over those of b, which stands at seq. It
// reports whether b changed, and whether that was a conflict: a change of an
// octet that no mask had written (masks may count; else two senders, or one
// that lies, said different things). Octets of b that are not kept stay: their
// receiver has acknowledged them and ignores them, or they are new.
func (l *Ledger) Overwrite(seq wire.Seq, b []byte) (changed, conflict bool) {
	if l.buf == nil {
		return false, false
	}
	changed, conflict = l.overwrite(span{l.base, l.end()}, seq, b)
	for _, s := range l.spans() {
		one, other := l.overwrite(s, seq, b)
		changed, conflict = changed || one, conflict || other
	}
	return changed, conflict
}

// overwrite puts the octets of s over those of b, which stands at seq.
func (l *Ledger) overwrite(s span, seq wire.Seq, b []byte) (changed, conflict bool) {
	from, to := max(s.from.Sub(seq), 0), min(s.to.Sub(seq), len(b))
	if from >= to {
		return false, false
	}
	b, offset := b[from:to], seq.Add(from).Sub(l.base)
	for len(b) > 0 {
		at := (int(l.head) + offset) & (len(l.buf) - 1)
		kept := l.buf[at:min(len(l.buf), at+len(b))]
		if string(b[:len(kept)]) != string(kept) {
			changed, conflict = true, conflict || contradict(b, kept)
			copy(b, kept)
		}
		b, offset = b[len(kept):], offset+len(kept)
	}
	return changed, conflict
}

// contradict reports whether b differs from kept in an octet that no mask can
// have written there. Masks are X, spaces and asterisks, and a capital letter
// behind the X of a keyword.
func contradict(b, kept []byte) bool {
	for i, c := range kept {
		if b[i] == c || c == 'X' || c == ' ' || c == '*' {
			continue
		}
		if letter := 'A' <= c && c <= 'Z'; letter && (i == 0 || kept[i-1] == 'X') {
			continue
		}
		return true
	}
	return false
}

// copyTo copies the octets at offset to b.
func (l *Ledger) copyTo(b []byte, offset int) {
	for len(b) > 0 {
		at := (int(l.head) + offset) & (len(l.buf) - 1)
		n := copy(b, l.buf[at:])
		b, offset = b[n:], offset+n
	}
}
