package stream

import "github.com/smtpwall/smtpwall/pkg/wire"

// Hold keeps segments of one direction that cannot be judged yet, in the order
// of their sequence numbers. P is what the caller needs of each. A nil Hold is
// empty and takes nothing.
type Hold[P any] struct {
	list []Held[P]
}

// Held is a segment that waits.
type Held[P any] struct {
	Seq    wire.Seq
	Packet P
}

// Len is the number of segments held.
func (h *Hold[P]) Len() int {
	if h == nil {
		return 0
	}
	return len(h.list)
}

// Add keeps a segment, behind others with the same sequence number.
func (h *Hold[P]) Add(seq wire.Seq, packet P) {
	at := len(h.list)
	for at > 0 && seq.Less(h.list[at-1].Seq) {
		at--
	}
	h.list = append(h.list, Held[P]{})
	copy(h.list[at+1:], h.list[at:])
	h.list[at] = Held[P]{seq, packet}
}

// First returns the segment with the lowest sequence number; ok is false when
// there is none.
func (h *Hold[P]) First() (first *Held[P], ok bool) {
	if h.Len() == 0 {
		return nil, false
	}
	return &h.list[0], true
}

// TakeFirst removes the first segment.
func (h *Hold[P]) TakeFirst() P {
	p := h.list[0].Packet
	n := copy(h.list, h.list[1:])
	h.list[n] = Held[P]{}
	h.list = h.list[:n]
	if n == 0 {
		h.list = nil
	}
	return p
}

// Has reports whether f is true for a segment.
func (h *Hold[P]) Has(f func(P) bool) bool {
	if h == nil {
		return false
	}
	for i := range h.list {
		if f(h.list[i].Packet) {
			return true
		}
	}
	return false
}

// TakeIf removes the segments for which f is true and calls it once on each.
func (h *Hold[P]) TakeIf(f func(P) bool) {
	if h == nil {
		return
	}
	kept := h.list[:0]
	for _, s := range h.list {
		if !f(s.Packet) {
			kept = append(kept, s)
		}
	}
	clear(h.list[len(kept):])
	h.list = kept
	if len(kept) == 0 {
		h.list = nil
	}
}
