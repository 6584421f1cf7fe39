package smtp

import (
	"bytes"
	"slices"
)

// mimeParts knows the boundaries of a message (RFC 2046 section 5.1) and whether
// the body of a header is a message with a header of its own.
//
// Programs differ on what ends a part: whether a boundary is found at the
// beginning of a line or is all of it, whether an inner multipart hides the
// delimiters of an outer one, which of two Content-Type fields counts. So no
// boundary is ever forgotten: a line that begins like a delimiter of any of them
// begins a part, which only means that the lines behind it are read as a header.
type mimeParts struct {
	boundaries []boundary // in the order of their declaration, at most maxBoundaries
	unknown    bool       // a boundary was declared that is not kept: any line that begins with "--" may be a delimiter

	nested bool // the open header says that its body is a message
	typed  bool // the open header holds a Content-Type
	digest bool // without one its body is a message (RFC 2046 section 5.1.5)

	line   [len("--") + maxBoundary + len("--") + 1]byte
	length int // bytes of line, of a line that begins with a hyphen; 0 is none
}

// boundary is a declared boundary, without the hyphens.
type boundary struct {
	text   []byte // its first bytes, at most maxBoundary
	digest bool   // of a multipart/digest
}

const (
	// maxBoundary is RFC 2046's 70 bytes with room for senders that ignore it; of
	// a longer one the first bytes are compared.
	maxBoundary = 128

	// maxBoundaries bounds the multiparts of a message that are told apart.
	// Postfix refuses more than 100 levels; with maxBoundary this is 8 KiB.
	maxBoundaries = 64
)

// delimiter says what a line is for the multiparts.
type delimiter uint8

// What a line may be.
const (
	delimiterNone  delimiter = iota
	delimiterPart            // a part begins
	delimiterClose           // the last part of a multipart has ended
)

// open reports whether a line may be a delimiter.
func (p *mimeParts) open() bool { return len(p.boundaries) > 0 || p.unknown }

// declare takes a boundary, which is copied.
func (p *mimeParts) declare(text []byte, digest bool) {
	known := slices.ContainsFunc(p.boundaries, func(b boundary) bool { return b.digest == digest && bytes.Equal(b.text, text) })
	switch {
	case known:
	case len(p.boundaries) == maxBoundaries:
		p.unknown = true
	default:
		p.boundaries = append(p.boundaries, boundary{bytes.Clone(text), digest})
	}
}

// contentType takes the media type of a Content-Type in the open header.
func (p *mimeParts) contentType(mediaType []byte) {
	p.typed = true
	p.nested = p.nested || bytes.HasPrefix(mediaType, []byte("message/"))
}

// endHeader ends the open header and reports whether its body is a message.
func (p *mimeParts) endHeader() (nested bool) {
	nested = p.nested || p.digest && !p.typed
	p.nested, p.typed, p.digest = false, false, false
	return nested
}

// lineText reads text, a piece of a line of which length bytes came before.
func (p *mimeParts) lineText(length uint64, text []byte) {
	if length == 0 && text[0] == '-' || p.length > 0 {
		p.length += copy(p.line[p.length:], text)
	}
}

// endLine ends a line and returns how it began if that was with a hyphen. The
// bytes are valid until the next line.
func (p *mimeParts) endLine() []byte {
	line := p.line[:p.length]
	p.length = 0
	return line
}

// delimiter says what a line was and begins a part with it. A boundary is known
// by the beginning of the line (RFC 2046 section 5.1.1); it is a close delimiter
// only if no reading of the line begins a part.
func (p *mimeParts) delimiter(line []byte) delimiter {
	line, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return delimiterNone
	}
	whole := len(line) < len(p.line)-len("--") // of a longer line the end is not known
	found, digest := delimiterNone, false
	if p.unknown {
		found = delimiterPart
	}
	for _, b := range p.boundaries {
		rest, ok := bytes.CutPrefix(line, b.text)
		switch {
		case !ok:
		case !whole || !isClose(rest):
			found, digest = delimiterPart, digest || b.digest
		case found == delimiterNone:
			found = delimiterClose
		}
	}
	if found == delimiterPart {
		p.nested, p.typed, p.digest = false, false, digest
	}
	return found
}

// isClose reports whether rest, behind a boundary, makes a close delimiter: two
// hyphens and transport padding.
func isClose(rest []byte) bool {
	rest, ok := bytes.CutPrefix(rest, []byte("--"))
	return ok && len(bytes.Trim(rest, " \t\r")) == 0
}
