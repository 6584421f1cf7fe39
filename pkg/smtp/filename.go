package smtp

// fileName measures a file name after percent, base64 and Q decoding and before
// charset conversion (design.md section 5, "mime filename length"): RFC 2231
// values when extended, else RFC 2047 encoded words, which mail programs decode
// there although the RFC forbids them.
type fileName struct {
	length   uint64 // settled octets
	at       uint8  // bounds passed
	extended bool
	prefix   bool   // in charset'language' of an extended value
	quotes   uint8  // of the two that end the prefix
	raw      uint64 // octets not settled: they are an escape or a word, or themselves
	blanks   uint64 // of a token, not read: they are part of it if more than blanks follows

	// an RFC 2047 encoded word: =?charset?B?text?=
	word    wordState
	base64  bool
	decoded uint64 // octets of the word's text; of base64 its letters
	escape  uint8  // of =HH in Q text
}

// wordState is where in an encoded word the next octet stands.
type wordState uint8

const (
	noWord      wordState = iota
	wordEqual             // behind '='
	wordCharset           // behind "=?"
	wordCoding            // behind the second '?'
	wordMark              // behind the letter
	wordText
	wordEnd // behind the last '?'
	wordGap // behind a word: blanks before another one vanish (RFC 2047 section 6.2)
)

// atLeast is the length whatever the bytes not settled turn out to be.
func (f *fileName) atLeast() uint64 {
	if f.word == wordText || f.word == wordEnd {
		return f.length + f.octets()
	}
	return f.length
}

// octets is the decoded length of the word's text so far.
func (f *fileName) octets() uint64 {
	if f.base64 {
		return f.decoded * 3 / 4
	}
	return f.decoded
}

// settle counts what is not settled as itself.
func (f *fileName) settle() {
	f.length += f.raw
	f.raw, f.word, f.quotes, f.blanks = 0, noWord, 0, 0
	f.prefix = false
}

// read reads one octet of the value, which is a token or a quoted string.
func (f *fileName) read(c byte, token bool) {
	if token && isBlank(c) {
		f.blanks++
		return
	}
	blanks := f.blanks
	f.blanks = 0
	for range blanks {
		f.add(' ')
	}
	f.add(c)
}

// add reads one octet of the value.
func (f *fileName) add(c byte) {
	switch {
	case f.prefix:
		f.prefixByte(c)
	case f.extended:
		f.percentByte(c)
	default:
		f.wordByte(c)
	}
}

// prefixByte reads charset'language'. A value without both quotes is a name all
// the same.
func (f *fileName) prefixByte(c byte) {
	f.raw++
	if c != '\'' {
		return
	}
	if f.quotes++; f.quotes == 2 {
		f.raw, f.quotes, f.prefix = 0, 0, false
	}
}

// percentByte reads an octet of an extended value: %HH is one.
func (f *fileName) percentByte(c byte) {
	switch {
	case f.raw == 0 && c == '%':
		f.raw = 1
	case f.raw == 1 && isHex(c):
		f.raw = 2
	case f.raw == 2 && isHex(c):
		f.raw = 0
		f.length++
	case f.raw > 0:
		f.length += f.raw
		f.raw = 0
		f.percentByte(c)
	default:
		f.length++
	}
}

// wordByte reads an octet that may belong to an encoded word.
func (f *fileName) wordByte(c byte) {
	blank := c == ' ' || c == '\t'
	f.raw++
	switch f.word {
	case noWord:
		if c == '=' {
			f.word = wordEqual
			return
		}
		f.settle()
		return
	case wordGap:
		if c == '=' {
			f.word = wordEqual
			return
		}
		if blank {
			return
		}
	case wordEqual:
		if c == '?' {
			f.word = wordCharset
			return
		}
	case wordCharset:
		if c == '?' {
			f.word = wordCoding
			return
		}
		if !blank && c != '=' {
			return
		}
	case wordCoding:
		if c|0x20 == 'b' || c|0x20 == 'q' {
			f.word, f.base64, f.decoded, f.escape = wordMark, c|0x20 == 'b', 0, 0
			return
		}
	case wordMark:
		if c == '?' {
			f.word = wordText
			return
		}
	case wordText:
		if c == '?' && f.escape == 0 {
			f.word = wordEnd
			return
		}
		if f.textByte(c) {
			return
		}
	case wordEnd:
		if c == '=' {
			f.length += f.octets()
			f.raw, f.word = 0, wordGap
			return
		}
	}
	f.raw-- // no encoded word: what stood here was itself
	f.settle()
	f.wordByte(c)
}

// textByte counts an octet of an encoded word's text. It reports false where the
// octet is none: some readers take such a word as it stands, which is longer.
func (f *fileName) textByte(c byte) bool {
	switch {
	case f.base64 && c == '=': // padding
		return true
	case f.base64:
		f.decoded++
		return isBase64(c)
	case f.escape > 0:
		f.escape--
		return isHex(c)
	case c == '=':
		f.escape = 2
	}
	f.decoded++
	return c > ' '
}

func isBase64(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' || c == '+' || c == '/'
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}
