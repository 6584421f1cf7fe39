package smtp

import "bytes"

// mimeStack knows the multiparts that are open (RFC 2046 section 5.1).
type mimeStack struct {
	boundaries [][]byte // outermost first
	nested     bool     // the body of this header is a message with a header of its own
	line       [maxBoundary + len("----")]byte
	length     int // bytes of line; of a line that may be a delimiter
}

// maxDepth bounds nested multiparts. Postfix refuses more than 100 levels; what
// is deeper than this is not looked into.
const maxDepth = 64

// delimiter says what a line is for the multiparts.
type delimiter uint8

const (
	delimiterNone  delimiter = iota
	delimiterPart            // a part begins
	delimiterClose           // the last part of a multipart has ended
)

// endField takes what a Content-Type says about the body.
func (m *mimeStack) endField(v *fieldValue) {
	if v.field != contentType {
		return
	}
	mediaType := v.mediaType.bytes()
	switch {
	case bytes.HasPrefix(mediaType, []byte("multipart/")):
		if len(v.boundary) > 0 && len(m.boundaries) < maxDepth {
			m.boundaries = append(m.boundaries, bytes.Clone(v.boundary))
		}
	case string(mediaType) == "message/rfc822", string(mediaType) == "message/global":
		m.nested = true
	}
}

// delimiterText reads text, a piece of a line of which length bytes came before.
func (m *mimeStack) delimiterText(length uint64, text []byte) {
	switch {
	case len(m.boundaries) == 0:
		return
	case length == 0 && text[0] == '-':
		m.length = 0
	case m.length == 0:
		return
	}
	m.length += copy(m.line[m.length:], text)
}

// delimiter ends a line and says what it was. A delimiter is known by its
// beginning, as many readers do it; of several the longest boundary counts.
func (m *mimeStack) delimiter() delimiter {
	line := m.line[:m.length]
	m.length = 0
	if !bytes.HasPrefix(line, []byte("--")) {
		return delimiterNone
	}
	line = line[2:]
	level, longest := -1, 0
	for i, b := range m.boundaries {
		if len(b) >= longest && bytes.HasPrefix(line, b) {
			level, longest = i, len(b)
		}
	}
	if level < 0 {
		return delimiterNone
	}
	if bytes.HasPrefix(line[longest:], []byte("--")) {
		m.boundaries = m.boundaries[:level]
		return delimiterClose
	}
	m.boundaries = m.boundaries[:level+1]
	return delimiterPart
}
