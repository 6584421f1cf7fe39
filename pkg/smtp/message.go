package smtp

import "bytes"

// message reads the octets behind a 354 (RFC 5321 section 4.1.1.4, RFC 5322) or
// those of BDAT chunks (RFC 3030). The first end at CR LF . CR LF only, the
// others with their count; for lengths, the end of the header and MIME a line
// ends at LF, with or without a CR before it (design.md 6.8). It edits nothing.
type message struct {
	// The line between any CR or LF, for the dot.
	dot  dotLine
	crlf bool   // the line break before it was CR LF, or the 354
	nul  bool   // it holds a NUL
	cr   bool   // the last byte was a CR, not counted yet: the next one says what it is
	crAt uint64 // offset of that CR
	ends bool   // KindDotLine was reported: for some servers it has ended

	// The physical line, up to LF.
	start   uint64 // octets before it; of header lines only
	length  uint64 // without its end and its stuffing dot
	section section
	first   bool // it is the message's first line
	field   fieldLine

	// What is counted.
	octets uint64              // of the message so far: stuffing dots and the terminator are none of it
	header uint64              // octets before the body
	to     uint64              // fields named To
	at     [NumMeasures]uint8  // bounds that the line, or the message, has passed
	noted  [NumMeasures]uint8  // bounds of lines that an earlier line has passed
	least  [NumMeasures]uint64 // of the lengths of lines that KindWithin has told, plus one

	parts mimeParts
}

// dotLine classes what a line holds so far.
type dotLine uint8

const (
	lineEmpty dotLine = iota // nothing, or NULs
	lineDot                  // one dot, and NULs
	lineText
	lineChunk // a line of BDAT octets: no dot means anything
)

// section is where in the message a line stands.
type section uint8

const (
	sectionHeader     section = iota // the message's own header
	sectionPartHeader                // the header of a MIME part or of a message inside: body for the counts
	sectionBody
)

// newMessage begins a message of BDAT chunks, or one behind a 354.
func newMessage(chunked bool) *message {
	m := &message{crlf: true, first: true}
	if chunked {
		m.dot = lineChunk
	}
	return m
}

// readMessage reads message octets from data[i:] on and returns the index behind
// the last one.
func (d *Dialogue) readMessage(data []byte, i int) int {
	m := d.message
	for i < len(data) && !d.ended {
		if n := d.bodyLines(data[i:]); n > 0 {
			i += n
			continue
		}
		if m.dot < lineText || m.cr {
			if d.messageByte(data[i:i+1], i) {
				return i + 1
			}
			i++
			continue
		}
		end := i + textLength(data[i:])
		d.messageText(data[i:end], i)
		if i = end; i < len(data) && !d.ended && (data[i] == '\r' || data[i] == '\n') {
			d.messageBreak(data[i], i)
			i++
		}
	}
	return i
}

// maxSearch is how far the end of a line's text is looked for at once: a long
// line of many bare CRs must not be searched for its LF behind each of them.
const maxSearch = 256

// textLength is how many bytes of data stand before its first CR or LF, up to
// maxSearch.
func textLength(data []byte) int {
	data = data[:min(len(data), maxSearch)]
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		end = len(data)
	}
	if cr := bytes.IndexByte(data[:end], '\r'); cr >= 0 {
		end = cr
	}
	return end
}

// bodyLines reads the whole lines at the beginning of data of which nothing can
// be said but that they are counted: lines of the body that end at CR LF, hold
// no other CR, begin with no dot, NUL or delimiter and pass no bound. It returns
// their bytes, 0 where the next byte begins no such line. Nearly all mail is
// made of them; what they are not is read byte by byte.
func (d *Dialogue) bodyLines(data []byte) int {
	m := d.message
	if m.section != sectionBody || m.length > 0 || m.cr || m.dot == lineDot || d.rules.Within[BodyLineLength] {
		return 0
	}
	longest := d.bound(BodyLineLength, m.at[BodyLineLength])
	if room := d.bound(BodyLength, m.at[BodyLength]) - (m.octets - m.header); room < uint64(len(data)) {
		data = data[:room]
	}
	n := 0
	for n < len(data) {
		line := data[n:]
		if line[0] < '/' && m.opens(line) {
			break
		}
		end := bytes.IndexByte(line, '\n')
		if end < 1 || line[end-1] != '\r' || uint64(end-1) > longest || bytes.IndexByte(line[:end-1], '\r') >= 0 {
			break
		}
		n += end + 1
	}
	if n > 0 {
		m.crlf, m.octets = true, m.octets+uint64(n)
	}
	return n
}

// opens reports whether the line may be a dot line, have a stuffing dot or be a
// delimiter. Those begin with a dot, a NUL or a hyphen, which are all below '/'.
func (m *message) opens(line []byte) bool {
	switch line[0] {
	case '.', 0:
		return m.dot != lineChunk
	case '-':
		return m.parts.open() && len(line) > 1 && line[1] == '-'
	}
	return false
}

// messageByte reads a byte at index i where a dot line may begin, go on or end,
// or behind a CR. It reports whether it ended the message.
func (d *Dialogue) messageByte(b []byte, i int) (end bool) {
	m, c := d.message, b[0]
	if m.cr && c != '\n' {
		d.bareCR()
	}
	if c == '\r' || c == '\n' {
		if c == '\n' && m.cr && m.dot == lineDot && m.crlf && !m.nul {
			d.endData(i)
			return true
		}
		d.messageBreak(c, i)
		return false
	}
	stuffing := false
	switch {
	case m.dot == lineChunk:
	case c == 0 && m.dot != lineText:
		m.nul = true
	case c == '.' && m.dot == lineEmpty:
		stuffing = m.length == 0 && !m.nul
		m.dot = lineDot
	default:
		m.dot = lineText
	}
	if !stuffing {
		d.messageText(b, i)
	}
	return false
}

// bareCR reads the CR at m.crAt, which was no part of CR LF: a line break for
// some servers, a byte of the line for others.
func (d *Dialogue) bareCR() {
	m := d.message
	i := d.index(m.crAt)
	if m.dot == lineDot {
		d.report(Fact{Kind: KindDotLine, Side: Client}, i)
		m.ends = true
	}
	m.newLine(false)
	d.messageText(bareCRText, i)
}

// bareCRText is what a bare CR is in its line.
var bareCRText = []byte("\r")

// index is the index in the client's bytes of the Feed under way of the one at
// offset: below 0 if it came in an earlier Feed.
func (d *Dialogue) index(offset uint64) int { return int(offset - d.offset[Client]) }

// newLine begins a line for the dot.
func (m *message) newLine(crlf bool) {
	if m.dot != lineChunk {
		m.dot = lineEmpty
	}
	m.crlf, m.nul, m.cr = crlf, false, false
}

// messageBreak reads a CR or LF at index i.
func (d *Dialogue) messageBreak(c byte, i int) {
	m := d.message
	if c == '\r' {
		m.cr, m.crAt = true, d.offset[Client]+uint64(i)
		return
	}
	if m.dot == lineDot {
		d.report(Fact{Kind: KindDotLine, Side: Client}, i)
		m.ends = true
	}
	if m.cr {
		d.countBreak(d.index(m.crAt))
	}
	d.countBreak(i)
	d.endMessageLine(i)
	m.newLine(m.cr)
}

// messageText reads text, a piece of a physical line that stands at index i.
func (d *Dialogue) messageText(text []byte, i int) {
	m := d.message
	if len(text) == 0 {
		return
	}
	m.parts.lineText(m.length, text)
	if m.section != sectionBody {
		n := d.fieldText(text, i)
		text, i = text[n:], i+n
	}
	d.countText(len(text), i)
}

// endMessageLine ends the physical line whose LF is at index i.
func (d *Dialogue) endMessageLine(i int) {
	m := d.message
	inHeader := m.section == sectionHeader
	if m.section != sectionBody {
		d.endFieldLine(i)
	}
	if separator := inHeader && m.section != sectionHeader && m.length == 0; !separator {
		d.withinLine(i)
	}
	line := m.parts.endLine()
	if m.section != sectionHeader {
		m.endDelimiter(line)
	}
	m.first, m.length, m.start = false, 0, m.octets
	for _, measure := range [...]Measure{BodyLineLength, HeaderLineLength} {
		m.noted[measure] = max(m.noted[measure], m.at[measure])
		m.at[measure] = 0
	}
}

// endDelimiter applies a line of the body that may be a delimiter.
func (m *message) endDelimiter(line []byte) {
	switch m.parts.delimiter(line) {
	case delimiterPart:
		m.section, m.field = sectionPartHeader, fieldLine{}
	case delimiterClose:
		m.section = sectionBody
	}
}

// endData ends a message at the LF of its terminator, at index i.
func (d *Dialogue) endData(i int) {
	d.message.cr = false
	if d.endMessage(i); d.ended {
		return
	}
	d.mode = modeCommand
	d.await(pendingDot, i+1)
}

// endMessage ends the message in front of index i: the line, field and header
// that are still open, and its counts.
func (d *Dialogue) endMessage(i int) {
	m := d.message
	if m.cr {
		d.bareCR()
	}
	if m.length > 0 {
		d.endMessageLine(i)
	}
	if m.section != sectionBody {
		d.endHeader(i)
	}
	d.within(BodyLength, m.octets-m.header, Client, nil, i)
	if declared := d.declared(); declared > 0 && m.octets > declared {
		d.tell(Fact{Kind: KindSizeExceeded, Limit: declared, Value: m.octets}, i)
	}
	d.message = nil
}
