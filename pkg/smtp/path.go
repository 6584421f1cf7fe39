package smtp

// path reads the argument of MAIL, RCPT, SEND, SOML and SAML for its
// reverse-path or forward-path (RFC 5321 section 4.1.2): from the first '<'
// behind the colon to the next '>' outside quotes; without a '<' it is the first
// word. It says of each byte whether it must become a space:
//
//   - a control byte (00-1F, 7F) in the path,
//   - a further '<' in it,
//   - a '>' with no '<' before it.
//
// Nothing behind the path is touched: AUTH=<>, ENVID and ORCPT are legal there.
type path struct {
	state  pathState
	quoted bool   // inside a quoted string of an angle path
	escape bool   // behind a backslash of a quoted string
	length uint32 // bytes of the path so far, brackets and source route as in design.md section 5
	word   uint32 // length of a first word that a '<' followed
}

type pathState uint8

const (
	pathBeforeColon pathState = iota
	pathAfterColon            // blanks behind the colon
	pathWord                  // a path without brackets
	pathAfterWord             // behind it: a '<' may still open the real one
	pathAngle                 // between '<' and '>'
	pathDone
)

// sender returns the length that `sender-address length` measures.
func (p *path) sender() uint64 { return uint64(max(p.length, p.word)) }

// next reads one byte and reports whether it must become a space.
func (p *path) next(c byte) (replace bool) {
	switch p.state {
	case pathBeforeColon:
		if c == ':' {
			p.state = pathAfterColon
		}
		return c == '>'
	case pathAfterColon:
		switch c {
		case ' ', '\t':
			return false
		case '<':
			p.state = pathAngle
			return false
		}
		p.state = pathWord
		return p.inWord(c)
	case pathWord:
		return p.inWord(c)
	case pathAfterWord:
		if c == '<' {
			p.open()
		}
		return c == '>'
	case pathAngle:
		return p.inAngle(c)
	}
	return false
}

// open begins an angle path behind a word, which is then only a phrase; the
// longer of the two counts as the address.
func (p *path) open() {
	p.state, p.word, p.length = pathAngle, max(p.word, p.length), 0
}

func (p *path) inWord(c byte) (replace bool) {
	switch {
	case c == ' ' || c == '\t':
		p.state = pathAfterWord
		return false
	case c == '<':
		p.open()
		return false
	}
	p.length++
	return c == '>' || isControl(c)
}

func (p *path) inAngle(c byte) (replace bool) {
	switch {
	case p.escape:
		p.escape = false
	case p.quoted && c == '\\':
		p.escape = true
	case c == '"':
		p.quoted = !p.quoted
	case c == '>' && !p.quoted:
		p.state = pathDone
		return false
	}
	p.length++
	return c == '<' || isControl(c)
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7f }
