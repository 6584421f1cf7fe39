package smtp

// fieldValue reads the value of Content-Type or Content-Disposition byte by byte
// (RFC 2045 section 5.1, RFC 2183, RFC 2231) and measures the file names in it.
// Nothing of the value is kept but its type, one parameter name and a boundary.
type fieldValue struct {
	field   valueField
	state   valueState
	escape  bool  // behind a backslash
	comment uint8 // depth of comments

	mediaType shortText // "type/subtype", lower case
	name      shortText // of the parameter
	param     parameter
	extended  bool // name*= : percent encoded
	piece     bool // name*N= : pieces are summed
	plain     bool // a continuation piece: no charset'language' before it
	boundary  []byte

	count  fileName    // of the value being read
	pieces [2]fileName // sums of the pieces of filename and name
}

type valueField uint8

const (
	noField valueField = iota
	contentType
	contentDisposition
)

type valueState uint8

const (
	valueType  valueState = iota // up to the first ';'
	valueName                    // a parameter's name
	valueBegin                   // behind its '='
	valueToken
	valueQuoted
	valueAfter // behind a quoted string, up to ';'
)

type parameter uint8

const (
	paramOther parameter = iota
	paramFilename
	paramName
	paramBoundary
)

// shortText keeps the first bytes of a text, lower case, without blanks.
type shortText struct {
	text [32]byte
	n    uint8
}

func (s *shortText) add(c byte) {
	if c == ' ' || c == '\t' || int(s.n) == len(s.text) {
		return
	}
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	s.text[s.n] = c
	s.n++
}

func (s *shortText) bytes() []byte { return s.text[:s.n] }

// maxBoundary is RFC 2046's 70 bytes with room for senders that ignore it; of a
// longer one the first bytes are compared.
const maxBoundary = 128

// maxComment is the depth of nested comments that is told apart.
const maxComment = 255

// reads reports whether the field is one that is read at all.
func (v *fieldValue) reads() bool { return v.field != noField }

// valueByte reads a byte of the open field's value, at index i.
func (d *Dialogue) valueByte(c byte, i int) {
	v := &d.message.field.value
	if v.inComment(c) {
		return
	}
	switch v.state {
	case valueType:
		if c == ';' {
			v.beginParameter()
			return
		}
		v.mediaType.add(c)
	case valueName:
		switch c {
		case ';':
			v.beginParameter()
		case '=':
			v.state = valueBegin
			v.endName()
		default:
			v.name.add(c)
		}
	case valueBegin:
		switch c {
		case ' ', '\t':
			return
		case '"':
			v.state = valueQuoted
			return
		}
		v.state = valueToken
		d.tokenByte(c, i)
	case valueToken:
		d.tokenByte(c, i)
	case valueQuoted:
		d.quotedByte(c, i)
	case valueAfter:
		if c == ';' {
			v.beginParameter()
		}
	}
}

// inComment reports whether c belongs to a comment, where one may stand.
func (v *fieldValue) inComment(c byte) bool {
	if v.state == valueToken || v.state == valueQuoted {
		return false
	}
	switch {
	case v.comment == 0 && c != '(':
		return false
	case v.escape:
		v.escape = false
	case c == '\\':
		v.escape = true
	case c == '(' && v.comment < maxComment:
		v.comment++
	case c == ')':
		v.comment--
	}
	return true
}

// tokenByte reads a byte of an unquoted value. It goes on to the next ';':
// readers differ on whether a blank ends it, and the longer name counts.
func (d *Dialogue) tokenByte(c byte, i int) {
	v := &d.message.field.value
	if c == ';' {
		d.endValue(i)
		v.beginParameter()
		return
	}
	d.nameByte(c, i)
}

func (d *Dialogue) quotedByte(c byte, i int) {
	v := &d.message.field.value
	switch {
	case v.escape:
		v.escape = false
	case c == '\\':
		v.escape = true
		return
	case c == '"':
		d.endValue(i)
		v.state = valueAfter
		return
	}
	d.nameByte(c, i)
}

// beginParameter makes v ready for a parameter's name.
func (v *fieldValue) beginParameter() {
	v.state, v.name, v.param = valueName, shortText{}, paramOther
	v.extended, v.piece, v.plain, v.escape = false, false, false, false
}

// endName splits a parameter's name into its parts: name, name*, name*N, name*N*
// (RFC 2231 sections 3 and 4).
func (v *fieldValue) endName() {
	name := v.name.bytes()
	if n := len(name); n > 0 && name[n-1] == '*' {
		v.extended, name = true, name[:n-1]
	}
	digits := len(name)
	for digits > 0 && '0' <= name[digits-1] && name[digits-1] <= '9' {
		digits--
	}
	if digits > 0 && digits < len(name) && name[digits-1] == '*' {
		v.piece, v.plain = true, string(name[digits:]) != "0"
		name = name[:digits-1]
	}
	switch string(name) {
	case "filename":
		v.param = paramFilename
	case "name":
		v.param = paramName
	case "boundary":
		v.param = paramBoundary
		if !v.plain {
			v.boundary = v.boundary[:0]
		}
	}
	v.count = fileName{}
	if v.piece && v.param != paramBoundary && v.param != paramOther {
		v.count = v.pieces[v.param-paramFilename]
	}
	v.count.extended, v.count.prefix = v.extended, v.extended && !v.plain
}

// nameByte reads a byte of a parameter's value, quoting removed.
func (d *Dialogue) nameByte(c byte, i int) {
	v := &d.message.field.value
	switch v.param {
	case paramBoundary:
		if len(v.boundary) < maxBoundary {
			v.boundary = append(v.boundary, c)
		}
	case paramFilename, paramName:
		v.count.add(c)
		d.countFilename(i)
	}
}

// endValue ends a parameter's value at index i.
func (d *Dialogue) endValue(i int) {
	v := &d.message.field.value
	if v.param != paramFilename && v.param != paramName {
		return
	}
	v.count.settle()
	d.countFilename(i)
	if v.piece {
		v.pieces[v.param-paramFilename] = v.count
	}
	v.param = paramOther
}

// countFilename compares the name's length with the bounds.
func (d *Dialogue) countFilename(i int) {
	n := &d.message.field.value.count
	for bound := d.bound(FilenameLength, n.at); n.atLeast() > bound && !d.ended; bound = d.bound(FilenameLength, n.at) {
		n.at++
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: FilenameLength, Limit: bound, Value: bound + 1}, i)
	}
}
