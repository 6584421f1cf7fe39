package sim

// stream is the octets of one direction by position: the first payload octet
// stands at 0. Of each octet the first copy wins.
type stream struct {
	data []byte
	by   []uint32 // who brought the octet: a packet's id, 0 for nobody
	next int      // octets from the start on without a gap
}

// maxStream bounds a stream; no schedule comes near it.
const maxStream = 1 << 21

// reset empties the stream and keeps its memory.
func (s *stream) reset() {
	s.data, s.by, s.next = s.data[:0], s.by[:0], 0
}

// grow makes room for octets up to end.
func (s *stream) grow(end int) {
	for len(s.data) < end {
		s.data = append(s.data, 0)
		s.by = append(s.by, 0)
	}
}

// put takes the octets of b, which stand at pos, as far as there are none yet,
// and reports whether the stream without a gap has grown. What stands before 0
// is no octet of the stream.
func (s *stream) put(pos int, b []byte, id uint32) (grew bool) {
	if pos < 0 {
		b = b[min(len(b), -pos):]
		pos = 0
	}
	end := pos + len(b)
	if len(b) == 0 || end > maxStream {
		return false
	}
	s.grow(end)
	for i, c := range b {
		if s.by[pos+i] == 0 {
			s.data[pos+i], s.by[pos+i] = c, id
		}
	}
	from := s.next
	for s.next < len(s.by) && s.by[s.next] != 0 {
		s.next++
	}
	return s.next > from
}

// has reports whether an octet stands at pos.
func (s *stream) has(pos int) bool { return pos >= 0 && pos < len(s.by) && s.by[pos] != 0 }

// end is behind the last octet that stands anywhere.
func (s *stream) end() int { return len(s.data) }
