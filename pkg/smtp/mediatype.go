package smtp

import "strings"

// typeByte reads a byte of the type at index i. Blanks are none of it: RFC 822
// allows them around the slash.
func (d *Dialogue) typeByte(c byte, i int) {
	v := &d.message.field.value
	switch {
	case c == ';':
		d.endType(i)
		v.beginParameter()
	case v.field == contentType && !isBlank(c):
		v.token.add(lower(c))
		if v.token.total > d.bound(TypeLength, v.typeAt) {
			d.count(TypeLength, &v.typeAt, v.token.total, Fact{Side: Client}, i)
		}
	}
}

// endType ends a type/subtype in front of index i. An empty one says nothing.
func (d *Dialogue) endType(i int) {
	v := &d.message.field.value
	if v.field != contentType || v.token.total == 0 {
		return
	}
	d.message.parts.contentType(v.token.bytes())
	if d.rules.Watch[KindMediaType] {
		d.tell(Fact{Kind: KindMediaType, Text: v.token.bytes(), Cut: v.token.cut()}, i)
	}
	d.within(TypeLength, v.token.total, Client, nil, i)
}

// encodings are the tokens of RFC 2045 section 6.1.
var encodings = [NumEncodings]string{
	Encoding7bit: "7bit", Encoding8bit: "8bit", EncodingBase64: "base64", EncodingBinary: "binary",
	EncodingQuotedPrintable: "quoted-printable",
}

// encodingByte reads a byte of a Content-Transfer-Encoding: its first token goes
// to a blank, a comment or, with senders who think of parameters, a ';'.
func (d *Dialogue) encodingByte(c byte, i int) {
	v := &d.message.field.value
	switch {
	case v.state == valueDone:
	case v.token.total > 0 && (isBlank(c) || c == '(' || c == ';'):
		d.endEncoding(i)
	case v.inComment(c) || isBlank(c):
	default:
		v.token.add(c)
	}
}

// endEncoding ends the token in front of index i. An empty one says nothing.
func (d *Dialogue) endEncoding(i int) {
	v := &d.message.field.value
	if v.state == valueDone || v.token.total == 0 {
		return
	}
	v.state = valueDone
	if d.rules.Watch[KindEncoding] {
		d.tell(Fact{Kind: KindEncoding, Encoding: encodingOf(v.token.bytes()), Text: v.token.bytes()}, i)
	}
}

// encodingOf classes a token.
func encodingOf(token []byte) Encoding {
	for e, text := range encodings {
		if text != "" && strings.EqualFold(string(token), text) {
			return Encoding(e)
		}
	}
	return EncodingOthers
}
