package smtp

// commandLine is the client's command line in progress.
type commandLine struct {
	length  uint64    // bytes so far, CR LF included
	word    narrowing // of commandWords
	phase   phase
	verb    Verb
	cr      bool // the last byte was a CR: the next one says whether it ends the line
	capture bool // partial holds every byte of the line, because some were edited
	bare    bool // masked by KindBareNewline, which has been reported
	told    bool // KindBareNewline has been reported
	lineAt  uint8
	pathAt  uint8 // bounds of SenderLength passed
	changed bool  // bytes of the path became spaces
	path    path
	partial []byte // the line's bytes in earlier packets (or see capture), at most MaxText
}

type phase uint8

const (
	inWord phase = iota
	inArgument
	inMasked
)

// readCommand reads the command line at data[i:] to its end or to the end of
// data, and returns the index behind what it read.
//
// The word of a command is its leading run of letters, digits and '-'; it is
// allowed only if SP, HTAB or CR follows (RFC 5321 section 4.1.1). A line split
// over packets is not held: bytes pass while they can still become an allowed
// word (design.md 6.5).
func (d *Dialogue) readCommand(data []byte, i int) int {
	l, from := &d.line, i
	if l.length == 0 {
		d.beginCommand(i)
	}
	for ; i < len(data) && !d.ended; i++ {
		c := data[i]
		if l.cr && c != '\n' {
			l.cr = false
			d.bareNewline(data, from, i-1)
			d.commandByte(data, from, i-1, '\r')
		}
		d.countCommand(data, from, i)
		captured := l.capture
		switch {
		case c == '\n' && l.cr:
			d.endCommand(data, from, i)
			return i + 1
		case c == '\r':
			l.cr = true
			d.endWord(c)
		case c == '\n':
			d.bareNewline(data, from, i)
			d.commandByte(data, from, i, c)
		default:
			d.commandByte(data, from, i, c)
		}
		if captured {
			l.keep(c)
		}
	}
	d.splitCommand(data[from:])
	return len(data)
}

// beginCommand notes a command that did not wait for the reply before it.
func (d *Dialogue) beginCommand(i int) {
	switch {
	case d.queue.front() == pendingGreeting && d.noted&notedEarlyTalker == 0:
		d.noted |= notedEarlyTalker
		d.report(Fact{Kind: KindEarlyTalker, Side: Client}, i)
	case d.queue.front() == pendingGreeting:
	case d.queue.len() > 0 && d.noted&(notedPipelined|pipeliningOffered) == 0:
		d.noted |= notedPipelined
		d.report(Fact{Kind: KindPipelined, Side: Client}, i)
	}
}

// countCommand counts data[i] for `cmd line length`.
func (d *Dialogue) countCommand(data []byte, from, i int) {
	l := &d.line
	l.length++
	for bound := d.bound(CmdLineLength, l.lineAt); l.length > bound; bound = d.bound(CmdLineLength, l.lineAt) {
		l.lineAt++
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: CmdLineLength, Limit: bound, Value: bound + 1,
			Text: l.text(data[from:i])}, i)
	}
}

// commandByte reads a byte that does not end the line; a CR or LF is a bare one.
// data[i] is c, or i is from-1 for a CR that came in the packet before.
func (d *Dialogue) commandByte(data []byte, from, i int, c byte) {
	l := &d.line
	switch l.phase {
	case inWord:
		if c == '\r' || c == '\n' {
			l.phase = inMasked
			return
		}
		d.endWord(c)
	case inArgument:
		if pendingOf(l.verb) == pendingMail || l.verb == VerbRCPT {
			d.pathByte(data, from, i, c)
		}
	}
}

// endWord reads a byte of the command word or the one behind it.
func (d *Dialogue) endWord(c byte) {
	l := &d.line
	if l.phase != inWord {
		return
	}
	if isWordByte(c) {
		commandWords.next(&l.word, c)
		if !d.rules.commandCanPass(l.word) {
			l.phase = inMasked
		}
		return
	}
	if c == '\r' && l.word.n == 0 {
		return // an empty line so far
	}
	id, ok := commandWords.whole(l.word)
	if ok && d.rules.verbPasses(Verb(id)) && (c == ' ' || c == '\t' || c == '\r') {
		l.phase, l.verb = inArgument, Verb(id)
		return
	}
	l.phase = inMasked
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// pathByte reads a byte of the argument of MAIL, RCPT and their kin.
func (d *Dialogue) pathByte(data []byte, from, i int, c byte) {
	l := &d.line
	if c == '|' && (l.verb == VerbMAIL || l.verb == VerbRCPT) {
		d.report(Fact{Kind: KindPipe, Side: Client, Text: l.text(data[from : i+1])}, i)
		d.ended = true
		return
	}
	if l.path.next(c) {
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
	if l.verb == VerbRCPT {
		return
	}
	for bound := d.bound(SenderLength, l.pathAt); l.path.sender() > bound; bound = d.bound(SenderLength, l.pathAt) {
		l.pathAt++
		text := l.text(data[from:max(from, i)])
		text = text[:min(len(text), int(l.length)-1)] // what stands before it, wherever the packets were cut
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: SenderLength, Limit: bound, Value: bound + 1, Text: text}, i)
	}
}

// bareNewline reports the CR or LF at data[i] that is no part of CR LF.
func (d *Dialogue) bareNewline(data []byte, from, i int) {
	l := &d.line
	text := l.text(data[from:max(from, i)])
	text = text[:min(len(text), int(l.length)-1)] // what stands before it, wherever the packets were cut
	if d.report(Fact{Kind: KindBareNewline, Side: Client, Text: text, Repeat: l.told}, i) == Mask && l.phase != inMasked {
		l.phase, l.bare = inMasked, true
	}
	l.told = true
}

// endCommand ends the line with the LF at data[i]: what it was now awaits a
// reply.
func (d *Dialogue) endCommand(data []byte, from, i int) {
	l := &d.line
	text := l.text(data[from:max(from, i-1)])
	text = text[:min(len(text), int(l.length)-2)]
	p := pendingOf(l.verb)
	switch {
	case l.phase == inMasked:
		p = pendingMasked
		if !l.bare {
			d.report(Fact{Kind: KindUnknownCommand, Side: Client, Text: text}, i)
		}
		d.mask(data[from:max(from, i-1)])
	case l.phase == inWord:
		p = pendingEmpty
	case l.changed:
		d.report(Fact{Kind: KindAddressReplaced, Side: Client, Text: text}, i)
	}
	if p == pendingRcpt && !d.ended {
		d.countRcpt(text, i)
	}
	*l = commandLine{word: commandWords.start()}
	if !d.ended {
		d.await(p, i+1)
	}
}

// countRcpt counts a RCPT line that passes.
func (d *Dialogue) countRcpt(text []byte, i int) {
	d.rcpts++
	for bound := d.bound(CmdRcptCount, d.rcptAt); uint64(d.rcpts) > bound; bound = d.bound(CmdRcptCount, d.rcptAt) {
		d.rcptAt++
		d.report(Fact{Kind: KindLimit, Side: Client, Measure: CmdRcptCount, Limit: bound, Value: bound + 1, Text: text}, i)
	}
}

// splitCommand keeps what is needed of a line that goes on in another packet;
// piece is its part in this one.
func (d *Dialogue) splitCommand(piece []byte) {
	l := &d.line
	if !l.capture {
		l.partial = append(l.partial, piece[:min(len(piece), MaxText-min(len(l.partial), MaxText))]...)
	}
	if l.phase == inMasked {
		if l.cr {
			piece = piece[:len(piece)-1]
		}
		d.mask(piece)
	}
}

// keep adds a byte to the captured line.
func (l *commandLine) keep(c byte) {
	if len(l.partial) < MaxText {
		l.partial = append(l.partial, c)
	}
}

// text is the line as the client sent it; piece is its part in this packet.
func (l *commandLine) text(piece []byte) []byte {
	switch {
	case l.capture:
		return l.partial
	case len(l.partial) == 0:
		return piece
	}
	return append(l.partial[:len(l.partial):len(l.partial)], piece[:min(len(piece), MaxText)]...)
}

// mask overwrites what may not pass.
func (d *Dialogue) mask(b []byte) {
	d.edited = d.edited || len(b) > 0
	for i := range b {
		b[i] = 'X'
	}
}
