package smtp

// path reads the argument of MAIL, RCPT, SEND, SOML and SAML for its
// reverse-path or forward-path (RFC 5321 section 4.1.2): from the first '<'
// behind the colon to the next '>' outside quotes; without a '<' it is the first
// word, with the blanks and '<' of its quoted strings and comments. Behind it a
// '<' or '@' that no parameter can hold begins another path: Exim takes the
// second of two. It says of each byte whether it must become a space:
//
//   - a control byte (00-1F, 7F) in the path,
//   - a further '<' in it,
//   - a '>' with no '<' before it.
//
// Nothing behind the path is touched: AUTH=<>, ENVID and ORCPT are legal there.
type path struct {
	state  pathState
	quoted bool   // inside a quoted string
	escape bool   // behind a backslash
	depth  uint8  // of comments of a word
	member bool   // the byte just read counts for the path
	length uint32 // bytes of the path so far, brackets and source route as in design.md section 5
	word   uint32 // length of a first word that a '<' followed
	param  mailParams
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

// inside reports whether the byte just read belongs to the path.
func (p *path) inside() bool { return p.state == pathWord || p.state == pathAngle }

// sender returns the length that `sender-address length` measures.
func (p *path) sender() uint64 { return uint64(max(p.length, p.word)) }

// next reads one byte and reports whether it must become a space. The path goes
// on with what the server gets: with the space.
func (p *path) next(c byte) (replace bool) {
	if replace = p.replaces(c); replace {
		c = ' '
	}
	p.member = false
	switch p.state {
	case pathBeforeColon:
		if c == ':' {
			p.state = pathAfterColon
		}
	case pathAfterColon:
		switch c {
		case ' ', '\t':
		case '<':
			p.another(pathAngle)
		default:
			p.another(pathWord)
			p.inWord(c)
		}
	case pathWord:
		p.inWord(c)
	case pathAngle:
		p.inAngle(c)
	default:
		p.behind(c)
	}
	return replace
}

// replaces reports whether a byte must become a space where it stands.
func (p *path) replaces(c byte) bool {
	switch p.state {
	case pathBeforeColon, pathAfterWord:
		return c == '>'
	case pathAfterColon:
		return c == '>' || isControl(c) && c != '\t'
	case pathWord:
		blank := c == '\t' && !p.quoted && !p.escape && p.depth == 0
		return c == '>' || isControl(c) && !blank
	case pathAngle:
		return c == '<' || isControl(c)
	}
	return false
}

// behind reads a byte behind a word or an angle path.
func (p *path) behind(c byte) {
	value := p.param.value
	p.param.next(c)
	switch {
	case c == '<' && (!value || p.state == pathAfterWord):
		p.another(pathAngle)
	case c == '@' && !value:
		p.another(pathWord)
		p.length, p.member = 1, true
	}
}

// mailParams reads the parameters of MAIL (RFC 5321 section 4.1.2) for SIZE=N
// (RFC 1870) and PRDR, behind which the end of the message would get a reply for
// each recipient, so that replies and commands could not be paired.
type mailParams struct {
	at    uint8  // bytes of word read of the parameter in progress, or noParam
	word  uint8  // index in paramWords
	size  uint64 // of the last SIZE= seen
	prdr  bool
	value bool // behind the '=' of the parameter in progress
}

var paramWords = [...]string{"SIZE=", "PRDR"}

const (
	paramSize = iota
	paramPRDR
	noParam = 0xff
)

// maxSize is more than any message: what is declared beyond it says nothing.
const maxSize = 1 << 62

func (p *mailParams) next(c byte) {
	if c <= ' ' { // every white space of Exim's
		p.at, p.value = 0, false
		return
	}
	p.value = p.value || c == '='
	if p.at == noParam {
		return
	}
	if p.at == 0 {
		p.word = paramSize
		if upper(c) == paramWords[paramPRDR][0] {
			p.word = paramPRDR
		}
	}
	word := paramWords[p.word]
	switch {
	case int(p.at) < len(word) && upper(c) == word[p.at]:
		p.at++
		p.prdr = p.prdr || p.word == paramPRDR && int(p.at) == len(word)
		if p.word == paramSize && int(p.at) == len(word) {
			p.size = 0
		}
	case p.word == paramSize && int(p.at) == len(word) && '0' <= c && c <= '9':
		p.size = min(p.size*10+uint64(c-'0'), maxSize)
	default:
		p.at = noParam
	}
}

// refused reports whether a parameter was read with which MAIL may not pass.
func (p *mailParams) refused() bool { return p.prdr }

// another begins a path behind a word, which is then only a phrase, or behind an
// angle path; the longer of the two counts as the address.
func (p *path) another(state pathState) {
	p.state, p.word, p.length = state, max(p.word, p.length), 0
	p.quoted, p.escape, p.depth = false, false, 0
	p.param.at = noParam
}

// inWord reads a byte of a path without brackets.
func (p *path) inWord(c byte) {
	p.param.next(c) // Exim looks for parameters from the line's end, whatever is quoted
	switch {
	case p.escape:
		p.escape = false
	case c == '\\':
		p.escape = true
	case c == '"' && p.depth == 0:
		p.quoted = !p.quoted
	case p.quoted:
	case c == '(' && p.depth < maxComment:
		p.depth++
	case c == ')' && p.depth > 0:
		p.depth--
	case p.depth > 0:
	case c == ' ' || c == '\t':
		p.state = pathAfterWord
		return
	case c == '<':
		p.another(pathAngle)
		return
	}
	p.length++
	p.member = true
}

// inAngle reads a byte between '<' and '>'.
func (p *path) inAngle(c byte) {
	p.param.next(c) // as in a word: a quote in a comment is none to Exim
	switch {
	case p.escape:
		p.escape = false
	case c == '\\': // RFC 821 has it outside quotes too
		p.escape = true
	case c == '"':
		p.quoted = !p.quoted
	case c == '>' && !p.quoted:
		p.state, p.param.at, p.param.value = pathDone, 0, false
		return
	}
	p.length++
	p.member = true
}

func isControl(c byte) bool { return c < 0x20 || c == 0x7f }

// pathByte reads a byte of the argument of MAIL, RCPT and their kin.
func (d *Dialogue) pathByte(data []byte, from, i int, c byte) {
	l := &d.line
	if c == '|' && (l.verb == VerbMAIL || l.verb == VerbRCPT) {
		d.report(Fact{Kind: KindPipe, Side: Client, Text: l.text(data[from : i+1])}, i)
		d.ended = true
		return
	}
	before := l.path.state
	replace := l.path.next(c)
	if l.path.param.refused() && l.verb != VerbRCPT {
		l.masked, l.phase = true, inRest
	}
	if l.path.state != before && (before == pathWord || before == pathAngle) {
		d.reportPath(i)
	}
	if (c == '`' && l.path.inside() || c == 0 && replace) && !d.ended {
		d.report(Fact{Kind: KindSpecialCharacter, Side: Client, Repeat: l.special, Text: l.text(data[from : max(from, i)+1])}, i)
		l.special = true
	}
	if replace {
		d.replaceByte(data, from, i)
		c = ' ' // for the address
	}
	if l.path.member && d.rules.Watch[d.pathKind()] && len(d.address) <= MaxText {
		d.address = append(d.address, c)
	}
	if l.verb != VerbRCPT && l.path.sender() > d.bound(SenderLength, l.pathAt) {
		d.count(SenderLength, &l.pathAt, l.path.sender(), Fact{Side: Client, Text: l.before(data, from, i, 1)}, i)
	}
}

// replaceByte makes data[i] a space. Of the line as the client sent it a copy is
// kept from here on.
func (d *Dialogue) replaceByte(data []byte, from, i int) {
	l := &d.line
	if !l.capture {
		l.partial = append(l.partial, data[from:min(i+1, from+MaxText)]...)
		l.capture = true
	}
	l.changed = true
	if i >= from {
		data[i] = ' '
		d.edited = true
	}
}

// pathKind is the Kind of Fact that tells the path in progress.
func (d *Dialogue) pathKind() Kind {
	if d.line.verb == VerbRCPT {
		return KindRecipient
	}
	return KindSender
}

// reportPath tells the path that ended in front of index i. A word before an
// angle path is told too: which of the two is the address is the server's
// choice.
func (d *Dialogue) reportPath(i int) {
	if kind := d.pathKind(); d.rules.Watch[kind] {
		d.report(Fact{Kind: kind, Side: Client, Text: d.address, Cut: len(d.address) > MaxText}, i)
	}
	d.address = d.address[:0]
}

// endPath ends the argument at index i.
func (d *Dialogue) endPath(i int) {
	if d.line.path.inside() {
		d.reportPath(i)
	}
	d.address = d.address[:0]
}
