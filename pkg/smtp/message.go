package smtp

import "bytes"

// message reads the octets behind a 354 (RFC 5321 section 4.1.1.4, RFC 5322).
// It ends at CR LF . CR LF only; for lengths, the end of the header and MIME a
// line ends at LF, with or without a CR before it (design.md 6.8). It edits
// nothing.
type message struct {
	// The line between any CR or LF, for the dot.
	dot  dotLine
	crlf bool // the line break before it was CR LF, or the 354
	nul  bool // it holds a NUL
	cr   bool // the last byte was a CR: the next one says what it is

	// The physical line, up to LF.
	length  uint64 // without its end and its stuffing dot
	section section
	first   bool // it is the message's first line
	field   fieldLine
	at      [NumMeasures]uint8 // bounds the line has passed
	noted   [NumMeasures]uint8 // bounds that an earlier line has passed

	mime mimeStack
}

// dotLine classes what a line holds so far.
type dotLine uint8

const (
	lineEmpty dotLine = iota // nothing, or NULs
	lineDot                  // one dot, and NULs
	lineText
)

// section is where in the message a line stands.
type section uint8

const (
	sectionHeader     section = iota // the message's own header
	sectionPartHeader                // the header of a MIME part
	sectionBody
)

func newMessage() *message {
	return &message{crlf: true, first: true}
}

// readMessage reads message octets from data[i:] on and returns the index behind
// the last one.
func (d *Dialogue) readMessage(data []byte, i int) int {
	m := d.message
	for i < len(data) && !d.ended {
		if m.dot != lineText || m.cr {
			if d.messageByte(data, i) {
				d.mode, d.message = modeCommand, nil
				d.await(pendingDot, i+1)
				return i + 1
			}
			i++
			continue
		}
		rest := data[i:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			end = len(rest)
		}
		if cr := bytes.IndexByte(rest[:end], '\r'); cr >= 0 {
			end = cr
		}
		d.messageText(rest[:end], i)
		if i += end; i < len(data) && !d.ended {
			d.messageBreak(data[i], i)
			i++
		}
	}
	return i
}

// messageByte reads data[i] where a dot line may begin, go on or end. It reports
// whether it ended the message.
func (d *Dialogue) messageByte(data []byte, i int) (end bool) {
	m, c := d.message, data[i]
	if m.cr && c != '\n' {
		m.cr = false
		d.bareCR(i - 1)
	}
	if c == '\r' || c == '\n' {
		if c == '\n' && m.cr && m.dot == lineDot && m.crlf && !m.nul {
			d.endField(i)
			return !d.ended
		}
		d.messageBreak(c, i)
		return false
	}
	stuffing := false
	switch {
	case c == 0 && m.dot != lineText:
		m.nul = true
	case c == '.' && m.dot == lineEmpty:
		stuffing = m.length == 0 && !m.nul
		m.dot = lineDot
	default:
		m.dot = lineText
	}
	if !stuffing {
		d.messageText(data[i:i+1], i)
	}
	return false
}

// bareCR reads the CR at index i, which was no part of CR LF: a line break for
// some servers, a byte of the line for others.
func (d *Dialogue) bareCR(i int) {
	m := d.message
	if m.dot == lineDot {
		d.report(Fact{Kind: KindDotLine, Side: Client}, i)
	}
	m.dot, m.crlf, m.nul = lineEmpty, false, false
	d.messageText(bareCRText, i)
}

var bareCRText = []byte("\r")

// messageBreak reads a CR or LF at index i.
func (d *Dialogue) messageBreak(c byte, i int) {
	m := d.message
	if c == '\r' {
		m.cr = true
		return
	}
	if m.dot == lineDot {
		d.report(Fact{Kind: KindDotLine, Side: Client}, i)
	}
	d.endMessageLine(i)
	m.dot, m.crlf, m.nul, m.cr = lineEmpty, m.cr, false, false
}

// messageText reads text, a piece of a physical line that stands at index i.
func (d *Dialogue) messageText(text []byte, i int) {
	m := d.message
	if len(text) == 0 {
		return
	}
	m.mime.delimiterText(m.length, text)
	if m.section != sectionBody {
		n := d.fieldText(text, i)
		text, i = text[n:], i+n
	}
	d.countMessage(i, len(text))
}

// countMessage counts n bytes from index i on for the length of their line.
func (d *Dialogue) countMessage(i, n int) {
	m := d.message
	measure := BodyLineLength
	if m.section == sectionHeader {
		measure = HeaderLineLength
	}
	before := m.length
	m.length += uint64(n)
	for bound := d.bound(measure, m.at[measure]); m.length > bound && !d.ended; bound = d.bound(measure, m.at[measure]) {
		m.at[measure]++
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: measure, Limit: bound, Value: bound + 1,
			Repeat: m.at[measure] <= m.noted[measure]}, i+int(max(bound, before)-before))
	}
}

// endMessageLine ends the physical line whose LF is at index i.
func (d *Dialogue) endMessageLine(i int) {
	m := d.message
	if m.section != sectionBody {
		d.endFieldLine(i)
	}
	switch m.mime.delimiter() {
	case delimiterPart:
		m.beginHeader(sectionPartHeader)
	case delimiterClose:
		m.section = sectionBody
	}
	m.first, m.length = false, 0
	for _, measure := range [...]Measure{BodyLineLength, HeaderLineLength} {
		m.noted[measure] = max(m.noted[measure], m.at[measure])
		m.at[measure] = 0
	}
}

// beginHeader starts a header section with the next line.
func (m *message) beginHeader(s section) {
	m.section, m.field = s, fieldLine{}
}
