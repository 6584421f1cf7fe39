package smtp

import "strings"

// fieldLine reads the lines of a header section: field, fold, or the line that
// ends it (RFC 5322 section 2.2).
type fieldLine struct {
	state  fieldState
	opened bool // a field is open: a fold would continue it
	name   [maxFieldName]byte
	length int // of the name
	value  fieldValue
}

// maxFieldName is the longest name that is read.
const maxFieldName = len("content-transfer-encoding")

// fieldState is where in a line of a header the next byte stands. Up to
// fieldNameBlank nobody knows yet whether it is such a line.
type fieldState uint8

const (
	fieldStart     fieldState = iota // at the first byte of a line
	fieldName                        // in a field's name
	fieldNameBlank                   // blanks between name and colon (RFC 5322 section 4.5)
	fieldInValue                     // in a value, or in a fold of it
	fieldIgnored                     // the rest of the line says nothing
)

// mboxFrom begins the separator line that some programs leave before a header.
const mboxFrom = "From "

// fieldText reads text, a piece of a header line at index i, and counts what it
// reads. It returns how much that was: less than all where the rest needs only
// counting.
func (d *Dialogue) fieldText(text []byte, i int) int {
	m := d.message
	f := &m.field
	for n, c := range text {
		switch {
		case d.ended, f.state == fieldIgnored, f.state == fieldInValue && !f.value.reads():
			return n
		case f.state == fieldInValue:
			d.valueByte(c, i+n)
		case f.state == fieldStart && f.opened && (c == ' ' || c == '\t'): // a fold: its blank belongs to the value
			f.state = fieldInValue
			if f.value.reads() {
				d.valueByte(c, i+n)
			}
		default:
			if f.state == fieldStart {
				d.endField(i + n)
			}
			if !d.nameByte(c, i+n) {
				d.endHeader(i + n)
				return n
			}
		}
		d.countText(1, i+n)
	}
	return len(text)
}

// nameByte reads a byte up to the colon of a field. It reports false when the
// line is neither field nor fold.
func (d *Dialogue) nameByte(c byte, i int) bool {
	m := d.message
	f := &m.field
	if f.state == fieldStart {
		f.state, f.length = fieldName, 0
	}
	blank := c == ' ' || c == '\t'
	switch {
	case c == ' ' && m.mboxLine():
		f.state = fieldIgnored
	case c == ':': // some readers take an empty name for one
		f.state = fieldInValue
		d.openField(i)
	case blank && f.length > 0:
		f.state = fieldNameBlank
	case f.state == fieldName && c > ' ' && c < 0x7f:
		if f.length < maxFieldName {
			f.name[f.length] = c
		}
		f.length++
	default:
		return false
	}
	return true
}

// mboxLine reports whether the line is the message's first and began like that
// of an mbox, up to the blank.
func (m *message) mboxLine() bool {
	f := &m.field
	return f.state == fieldName && m.first && m.length == uint64(len(mboxFrom))-1 &&
		string(f.name[:f.length]) == mboxFrom[:len(mboxFrom)-1]
}

// openField begins the value of the field whose name ended with the colon at
// index i.
func (d *Dialogue) openField(i int) {
	m := d.message
	f := &m.field
	f.opened, f.value.field = true, noField
	if f.length > maxFieldName {
		return
	}
	name := f.name[:f.length]
	for field, known := range valueFields {
		if strings.EqualFold(string(name), known) {
			f.value = fieldValue{field: valueField(field)}
		}
	}
	if m.section == sectionHeader && strings.EqualFold(string(name), "to") {
		m.to++
		d.count(ToFieldsCount, &m.at[ToFieldsCount], m.to, Fact{Side: Client}, i)
	}
}

// endFieldLine ends a line of a header section. Without a colon it was its end.
func (d *Dialogue) endFieldLine(i int) {
	f := &d.message.field
	if f.state <= fieldNameBlank {
		d.endHeader(i)
	}
	f.state = fieldStart
}

// endField ends the open field: it has no more folds.
func (d *Dialogue) endField(i int) {
	f := &d.message.field
	if f.opened && f.value.reads() {
		d.endFieldValue(i)
	}
	f.opened = false
}

// endHeader ends the header section at index i: with an empty line, or with the
// first line that is neither field nor fold, which is body already.
func (d *Dialogue) endHeader(i int) {
	m := d.message
	d.endField(i)
	if m.section == sectionHeader {
		d.endHeaderCount(i)
	}
	m.section = sectionBody
	if m.parts.endHeader() {
		m.section, m.field = sectionPartHeader, fieldLine{state: fieldIgnored}
	}
}
