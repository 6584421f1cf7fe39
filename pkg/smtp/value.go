package smtp

// fieldValue reads the value of a Content field byte by byte (RFC 2045, RFC
// 2183, RFC 2231) and measures the file names in it. Nothing of the value is
// kept but its type or token, one parameter name and a boundary.
type fieldValue struct {
	field   valueField
	state   valueState
	escape  bool  // behind a backslash
	comment uint8 // depth of comments

	token  shortText // "type/subtype" in lower case, or the encoding's token
	typeAt uint8     // bounds of TypeLength passed

	name     shortText // of the parameter, lower case
	param    parameter
	extended bool // name*= : percent encoded
	piece    bool // name*N= : pieces are summed
	plain    bool // a continuation piece: no charset'language' before it

	boundary      [maxBoundary]byte
	boundaryBytes int

	count  fileName    // of the value being read
	pieces [2]fileName // sums of the pieces of filename and name
	pieced [2]bool     // there are pieces
}

// valueField is a field whose value is read.
type valueField uint8

const (
	noField valueField = iota
	contentType
	contentDisposition
	transferEncoding
)

// valueFields are the names of the fields.
var valueFields = [...]string{
	contentType: "content-type", contentDisposition: "content-disposition", transferEncoding: "content-transfer-encoding",
}

// valueState is where in the value the next byte stands.
type valueState uint8

const (
	valueType  valueState = iota // the type, up to the first ';', or the encoding's token
	valueName                    // a parameter's name
	valueBegin                   // behind its '='
	valueToken
	valueQuoted
	valueAfter // behind a quoted string, up to ';'
	valueDone  // the rest says nothing
)

// parameter is a parameter that is read.
type parameter uint8

const (
	paramOther parameter = iota
	paramFilename
	paramName
	paramBoundary
)

// shortText keeps the first bytes of a text and counts all.
type shortText struct {
	kept  [255]byte // as many as a media type may have (RFC 6838 section 4.2)
	total uint64
}

func (s *shortText) add(c byte) {
	if s.total < uint64(len(s.kept)) {
		s.kept[s.total] = c
	}
	s.total++
}

func (s *shortText) bytes() []byte { return s.kept[:min(s.total, uint64(len(s.kept)))] }

// cut reports whether bytes is not all of it.
func (s *shortText) cut() bool { return s.total > uint64(len(s.kept)) }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// isBlank takes a bare CR, which many readers take for a line's end.
func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// maxComment is the depth of nested comments that is told apart.
const maxComment = 255

// reads reports whether the field is one that is read at all.
func (v *fieldValue) reads() bool { return v.field != noField }

// valueByte reads a byte of the open field's value, at index i.
func (d *Dialogue) valueByte(c byte, i int) {
	v := &d.message.field.value
	if v.field == transferEncoding {
		d.encodingByte(c, i)
		return
	}
	if v.inComment(c) {
		return
	}
	switch v.state {
	case valueType:
		d.typeByte(c, i)
	case valueName:
		switch {
		case c == ';':
			v.beginParameter()
		case c == '=':
			v.state = valueBegin
			v.endName()
		case !isBlank(c):
			v.name.add(lower(c))
		}
	case valueBegin:
		d.beginValue(c, i)
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

// beginValue reads a byte behind the '=' of a parameter.
func (d *Dialogue) beginValue(c byte, i int) {
	v := &d.message.field.value
	switch {
	case isBlank(c):
	case c == '"':
		v.state = valueQuoted
	default:
		v.state = valueToken
		d.tokenByte(c, i)
	}
}

// tokenByte reads a byte of an unquoted value. A file name goes on to the next
// ';': readers differ on whether a blank ends it, and the longer name counts. Of
// a boundary the beginning is enough.
func (d *Dialogue) tokenByte(c byte, i int) {
	v := &d.message.field.value
	switch {
	case c == ';':
		d.endValue(i)
		v.beginParameter()
	case v.param == paramBoundary && (c <= ' ' || c == '('):
		d.endValue(i)
		v.state = valueAfter
		v.inComment(c)
	default:
		d.parameterByte(c, i)
	}
}

// quotedByte reads a byte of a quoted value.
func (d *Dialogue) quotedByte(c byte, i int) {
	v := &d.message.field.value
	switch {
	case v.escape:
		v.escape = false
	case c == '\\':
		v.escape = true
		if v.param == paramBoundary { // some readers keep the backslash
			d.message.parts.unknown = true
		}
		return
	case c == '"':
		d.endValue(i)
		v.state = valueAfter
		return
	}
	d.parameterByte(c, i)
}

// beginParameter makes v ready for a parameter's name.
func (v *fieldValue) beginParameter() {
	v.state, v.param, v.name.total = valueName, paramOther, 0
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
	switch {
	case string(name) == "filename":
		v.param = paramFilename
	case string(name) == "name":
		v.param = paramName
	case string(name) == "boundary" && v.field == contentType:
		v.param, v.boundaryBytes = paramBoundary, 0
		return
	default:
		return
	}
	v.count = fileName{}
	if v.piece {
		v.count = v.pieces[v.param-paramFilename]
		v.pieced[v.param-paramFilename] = true
	}
	v.count.extended, v.count.prefix = v.extended, v.extended && !v.plain
}

// parameterByte reads a byte of a parameter's value, quoting removed.
func (d *Dialogue) parameterByte(c byte, i int) {
	v := &d.message.field.value
	switch v.param {
	case paramBoundary:
		if v.boundaryBytes < maxBoundary {
			v.boundary[v.boundaryBytes] = c
			v.boundaryBytes++
		}
	case paramFilename, paramName:
		v.count.read(c, v.state == valueToken)
		d.countFilename(i)
	}
}

// endValue ends a parameter's value at index i.
func (d *Dialogue) endValue(i int) {
	v := &d.message.field.value
	switch v.param {
	case paramBoundary:
		d.endBoundary()
	case paramFilename, paramName:
		v.count.settle()
		d.countFilename(i)
		if v.piece {
			v.pieces[v.param-paramFilename] = v.count
		} else {
			d.within(FilenameLength, v.count.length, Client, nil, i)
		}
	}
	v.param = paramOther
}

// endBoundary takes a boundary, whatever the type: readers differ on what they
// make of a type that is no syntax. Of one in pieces (RFC 2231) each is taken:
// the first is the beginning of the whole, and that is enough.
func (d *Dialogue) endBoundary() {
	v, parts := &d.message.field.value, &d.message.parts
	if v.extended {
		parts.unknown = true
		return
	}
	text := v.boundary[:v.boundaryBytes]
	for len(text) > 0 && isBlank(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	parts.declare(text, string(v.token.bytes()) == "multipart/digest")
}

// countFilename compares the name's length with the bounds.
func (d *Dialogue) countFilename(i int) {
	n := &d.message.field.value.count
	if n.atLeast() > d.bound(FilenameLength, n.at) {
		d.count(FilenameLength, &n.at, n.atLeast(), Fact{Side: Client}, i)
	}
}

// endFieldValue ends the field's value at index i.
func (d *Dialogue) endFieldValue(i int) {
	v := &d.message.field.value
	switch {
	case v.field == transferEncoding:
		d.endEncoding(i)
		return
	case v.state == valueType:
		d.endType(i)
	case v.state == valueQuoted && v.param == paramBoundary: // no closing quote: readers differ
		d.message.parts.unknown = true
	}
	d.endValue(i)
	for k, pieced := range v.pieced {
		if pieced {
			d.within(FilenameLength, v.pieces[k].length, Client, nil, i)
		}
	}
}
