package smtp

// fieldLine reads the lines of a header section: field, fold, or the line that
// ends it (RFC 5322 section 2.2).
type fieldLine struct {
	state  fieldState
	opened bool // a field is open: a fold would continue it
	name   [maxFieldName]byte
	length int // of the name
	value  fieldValue
}

// maxFieldName is more than the longest name that is read ("content-disposition").
const maxFieldName = 20

type fieldState uint8

const (
	fieldStart     fieldState = iota // at the first byte of a line
	fieldMbox                        // a first line that begins like "From " of an mbox
	fieldName                        // in a field's name
	fieldNameBlank                   // blanks between name and colon (RFC 5322 section 4.5)
	fieldInValue                     // in a value, or in a fold of it
	fieldIgnored                     // the rest of the line says nothing
)

// mboxFrom begins the separator line that some programs leave before a header.
const mboxFrom = "From "

// fieldText reads text, a piece of a header line at index i, and counts what it
// reads. It returns how much that was: less than all if the line turned out to
// be no header line.
func (d *Dialogue) fieldText(text []byte, i int) int {
	m := d.message
	f := &m.field
	for n, c := range text {
		if d.ended {
			return len(text)
		}
		blank := c == ' ' || c == '\t'
		switch {
		case f.state == fieldIgnored, f.state == fieldInValue && !f.value.reads():
			return n
		case f.state == fieldInValue:
			d.valueByte(c, i+n)
		case f.state == fieldStart && f.opened && blank: // a fold: its blank belongs to the value
			f.state = fieldInValue
			if f.value.reads() {
				d.valueByte(c, i+n)
			}
		default:
			if f.state == fieldStart {
				d.endField(i + n)
			}
			if !m.nameByte(c) {
				d.endHeader(i + n)
				return n
			}
		}
		d.countMessage(i+n, 1)
	}
	return len(text)
}

// nameByte reads a byte up to the colon of a field. It reports false when the
// line is neither field nor fold.
func (m *message) nameByte(c byte) bool {
	f := &m.field
	blank := c == ' ' || c == '\t'
	if f.state == fieldStart {
		f.state, f.length = fieldName, 0
	}
	if f.state == fieldName && m.first && m.length == uint64(len(mboxFrom))-1 && c == ' ' &&
		string(f.name[:f.length]) == mboxFrom[:len(mboxFrom)-1] {
		f.state = fieldIgnored
		return true
	}
	switch {
	case c == ':' && f.length > 0:
		f.open()
		f.state = fieldInValue
	case blank && f.length > 0:
		f.state = fieldNameBlank
	case f.state == fieldName && c > ' ' && c < 0x7f && c != ':':
		if f.length < maxFieldName {
			f.name[f.length] = c
		}
		f.length++
	default:
		return false
	}
	return true
}

// open begins the value of the field whose name has been read.
func (f *fieldLine) open() {
	f.opened = true
	f.value = fieldValue{}
	if f.length > maxFieldName {
		return
	}
	switch lower(string(f.name[:f.length])) {
	case "content-type":
		f.value.field = contentType
	case "content-disposition":
		f.value.field = contentDisposition
	}
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// endFieldLine ends a line of a header section. Without a colon it was its end.
func (d *Dialogue) endFieldLine(i int) {
	f := &d.message.field
	if f.state == fieldStart || f.state == fieldName || f.state == fieldNameBlank {
		d.endHeader(i)
	}
	f.state = fieldStart
}

// endField ends the open field: it has no more folds.
func (d *Dialogue) endField(i int) {
	f := &d.message.field
	if !f.opened {
		return
	}
	f.opened = false
	if !f.value.reads() {
		return
	}
	d.endValue(i)
	d.message.mime.endField(&f.value)
}

// endHeader ends the header section at index i: with an empty line, or with the
// first line that is neither field nor fold, which is body already.
func (d *Dialogue) endHeader(i int) {
	m := d.message
	d.endField(i)
	m.section = sectionBody
	if m.mime.nested {
		m.mime.nested = false
		m.beginHeader(sectionPartHeader)
		m.field.state = fieldIgnored
	}
	if m.length > 0 && !d.ended {
		d.countMessage(i, 0)
	}
}
