package smtp

// commandLine is the client's command line in progress.
type commandLine struct {
	length  uint64    // bytes so far, CR LF included
	word    narrowing // of Rules.commandWords
	phase   phase
	masked  bool // from here on its bytes may not pass
	begun   bool // the word of an allowed command has passed, and what stands behind it
	edited  bool // some of it was overwritten
	special bool // KindSpecialCharacter has been reported
	told    bool // why it is masked has been reported
	verb    Verb
	cr      bool // the last byte was a CR: the next one says whether it ends the line
	capture bool // partial holds every byte of the line, because some were edited
	bare    bool // KindBareNewline has been reported
	long    bool // KindAuthLine has been reported
	lineAt  uint8
	pathAt  uint8 // bounds of SenderLength passed
	changed bool  // bytes of the path became spaces
	argued  bool  // more than spaces stands behind the word
	path    path
	count   countLine
	partial []byte // the line's bytes in earlier packets (or see capture), at most MaxText
}

type phase uint8

const (
	inWord phase = iota
	inArgument
	inRest // nothing more is read of the line
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
			d.wordByte(c, i)
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
	l := &d.line
	switch {
	case d.queue.len() == 0:
	case d.queue.front() == pendingGreeting:
		if d.noted&notedEarlyTalker == 0 {
			d.noted |= notedEarlyTalker
			d.report(Fact{Kind: KindEarlyTalker, Side: Client}, i)
		}
	default:
		f := Fact{Kind: KindPipelined, Side: Client, Repeat: d.noted&notedPipelined != 0}
		offered := d.noted&pipeliningOffered != 0
		switch {
		case offered && d.queue.back().lastInGroup():
			f.Kind = KindGroupEnd
		case offered:
			f.Repeat = true
		}
		if !f.Repeat {
			d.noted |= notedPipelined
		}
		if d.report(f, i) == Mask {
			l.masked, l.told = true, true
		}
	}
}

// countCommand counts data[i] for `cmd line length`, or for auth-line-length.
func (d *Dialogue) countCommand(data []byte, from, i int) {
	l := &d.line
	if l.length++; l.length > MaxLine {
		d.tooLong(i)
		return
	}
	if d.rules.AuthCommand && l.phase == inArgument && d.rules.pendingOf(l.verb) == pendingAuth {
		if c := data[i]; c != '\r' && c != '\n' && l.length > d.authLimit() && !l.long {
			l.long = true
			d.report(Fact{Kind: KindAuthLine, Side: Client, Limit: d.authLimit(), Value: d.authLimit() + 1}, i)
		}
		return
	}
	if l.length > d.bound(CmdLineLength, l.lineAt) {
		d.count(CmdLineLength, &l.lineAt, l.length, Fact{Side: Client, Text: l.text(data[from:i])}, i)
	}
}

// MaxLine is the longest line that is read as one, CR LF included, whatever the
// map says: Exim takes what stands behind 16384 octets for a new command.
const MaxLine = 16384

// tooLong ends the session at data[i]: servers cut the line in different places.
func (d *Dialogue) tooLong(i int) {
	d.report(Fact{Kind: KindLineUnclear, Side: Client, Limit: MaxLine, Value: MaxLine + 1}, i)
	d.ended = true
}

// commandByte reads a byte that does not end the line; a CR or LF is a bare one.
// data[i] is c, or i is from-1 for a CR that came in the packet before.
func (d *Dialogue) commandByte(data []byte, from, i int, c byte) {
	l := &d.line
	switch l.phase {
	case inWord:
		if c == '\r' || c == '\n' {
			l.masked, l.phase = true, inRest
			return
		}
		d.wordByte(c, i)
	case inArgument:
		l.argued = l.argued || c != ' '
		switch d.rules.pendingOf(l.verb) {
		case pendingMail, pendingRcpt:
			d.pathByte(data, from, i, c)
		case pendingChunk, pendingCounted:
			d.countByte(c, i)
		}
	}
}

// wordByte reads a byte of the command word or the one behind it.
func (d *Dialogue) wordByte(c byte, i int) {
	l := &d.line
	if l.phase != inWord {
		return
	}
	if isWordByte(c) {
		d.rules.commandWords.next(&l.word, c)
		l.masked = l.masked || !d.canPass(l.word)
		return
	}
	if c == '\r' && l.word.n == 0 {
		return // an empty line so far
	}
	l.phase = inRest
	if id, ok := d.rules.commandWords.whole(l.word); ok && (c == ' ' || c == '\t' || c == '\r') && d.allowed(Verb(id)) {
		l.phase, l.verb = inArgument, Verb(id)
		d.endWord(c, i)
		return
	}
	l.masked = true
}

// endWord begins the argument of a command that is allowed; c stands before it.
func (d *Dialogue) endWord(c byte, i int) {
	l := &d.line
	l.masked = l.masked || !d.rules.verbPasses(l.verb)
	l.argued = c == '\t' // no blank to every server
	if d.rules.Watch[KindVerb] && d.report(Fact{Kind: KindVerb, Side: Client, Verb: l.verb}, i) == Mask {
		l.told = true
	}
	if p := d.rules.pendingOf(l.verb); c == '\t' && (p == pendingChunk || p == pendingCounted) {
		l.count.state = countBad // not a blank to every server
		d.countUnclear(i)
	}
	if l.masked {
		l.phase = inRest
	}
}

// allowed reports whether v is a command at all, now; it may be masked all the
// same.
func (d *Dialogue) allowed(v Verb) bool {
	switch {
	case d.noted&notedQuit != 0:
		return false
	case v == VerbBDAT:
		return d.rules.AllowBDAT && d.chunkWelcome()
	case v == VerbSTARTTLS:
		return d.rules.AllowTLS
	}
	return true
}

// canPass reports whether the bytes seen can still become a command that passes.
func (d *Dialogue) canPass(s narrowing) bool {
	for _, w := range d.rules.commandWords[s.lo:s.hi] {
		if d.rules.verbPasses(Verb(w.id)) && d.allowed(Verb(w.id)) {
			return true
		}
	}
	return false
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
}

// bareNewline reports the CR or LF at data[i] that is no part of CR LF.
func (d *Dialogue) bareNewline(data []byte, from, i int) {
	l := &d.line
	if d.report(Fact{Kind: KindBareNewline, Side: Client, Text: l.before(data, from, i, 1), Repeat: l.bare}, i) == Mask && !l.masked {
		l.phase, l.masked, l.told = inRest, true, true
	}
	l.bare = true
}

// endCommand ends the line with the LF at data[i]: what it was now awaits a
// reply.
func (d *Dialogue) endCommand(data []byte, from, i int) {
	l := &d.line
	text := l.before(data, from, max(from, i-1), 2)
	if l.phase == inArgument {
		d.endArgument(data, from, text, i)
	}
	p := d.rules.pendingOf(l.verb)
	switch {
	case l.phase == inWord:
		p = pendingEmpty
	case l.masked:
		d.endMasked(text, !l.edited && from >= i-1, i)
		p = d.maskedPending(i)
		d.mask(data[from:max(from, i-1)])
	case l.changed:
		d.report(Fact{Kind: KindAddressReplaced, Side: Client, Text: text}, i)
	}
	if p == pendingRcpt && !d.ended {
		d.countRcpt(text, i)
	}
	d.within(CmdLineLength, l.length, Client, text, i)
	ended := *l
	*l = commandLine{word: d.rules.commandWords.start()}
	if !d.ended {
		d.beginAwait(p, &ended, i+1)
	}
}

// maskedPending is what a masked line awaits: a 500, unless its word had passed in
// an earlier packet. Then the server has got that command with an argument of
// X, and may well accept it.
func (d *Dialogue) maskedPending(i int) pending {
	l := &d.line
	p := d.rules.pendingOf(l.verb)
	switch {
	case !l.begun || l.verb == VerbUnknown:
		return pendingMasked
	case p == pendingChunk || p == pendingCounted:
		d.countUnclear(i)
		return pendingMasked
	}
	l.argued = true
	return p
}

// endArgument ends the argument of an allowed command.
func (d *Dialogue) endArgument(data []byte, from int, text []byte, i int) {
	l := &d.line
	switch d.rules.pendingOf(l.verb) {
	case pendingMail:
		d.endPath(i)
		d.within(SenderLength, l.path.sender(), Client, text, i)
	case pendingRcpt:
		d.endPath(i)
	case pendingChunk, pendingCounted:
		if l.count.state != countBad && !l.count.end() {
			d.countUnclear(i)
		}
	}
}

// endMasked says why a line was masked, if that was not said when it was. passed
// says that nothing of it was.
func (d *Dialogue) endMasked(text []byte, passed bool, i int) {
	l := &d.line
	if l.verb == VerbUnknown && d.rules.Watch[KindVerb] {
		d.report(Fact{Kind: KindVerb, Side: Client, Text: text}, i)
	}
	switch {
	case l.told || d.ended:
	case d.noted&notedQuit != 0:
		d.report(Fact{Kind: KindAfterQuit, Side: Client, Text: text, Repeat: d.noted&notedAfterQuit != 0}, i)
		d.noted |= notedAfterQuit
	case l.path.param.refused():
		d.report(Fact{Kind: KindParameterRefused, Side: Client, Text: text}, i)
	case d.rules.tlsOnly(l.verb):
		d.report(Fact{Kind: KindTLSRequired, Side: Client, Text: text}, i)
	case l.verb == VerbUnknown:
		d.report(Fact{Kind: KindUnknownCommand, Side: Client, Passed: passed, Text: text}, i)
	}
}

// beginAwait notes what a whole line changes before its reply, and that it
// awaits one. i is the index behind it.
func (d *Dialogue) beginAwait(p pending, l *commandLine, i int) {
	switch p {
	case pendingChunk:
		d.beginChunk(l.count, i)
		return
	case pendingCounted:
		d.octets = l.count.octets
	case pendingMail:
		d.size.offered = l.path.param.size
	case pendingRset: // alone on its line no server refuses it, and a chunk may follow at once
		if !l.argued {
			d.message, d.stale = nil, false
		}
	}
	// Between chunks Exim refuses RSET with an argument, and NOOP with a TAB or NUL;
	// from then on it reads chunks as commands.
	d.stale = d.stale || d.message != nil && (l.verb != VerbNOOP || l.masked || l.argued)
	d.await(p, i)
}

// countRcpt counts a RCPT line that passes.
func (d *Dialogue) countRcpt(text []byte, i int) {
	d.rcpts++
	d.count(CmdRcptCount, &d.rcptAt, uint64(d.rcpts), Fact{Side: Client, Text: text}, i)
	d.within(CmdRcptCount, uint64(d.rcpts), Client, text, i)
}

// splitCommand keeps what is needed of a line that goes on in another packet;
// piece is its part in this one.
func (d *Dialogue) splitCommand(piece []byte) {
	l := &d.line
	l.count.passed = l.count.digits > 0
	l.begun = l.begun || !l.masked && l.phase == inArgument
	if !l.capture {
		l.partial = append(l.partial, piece[:min(len(piece), MaxText-min(len(l.partial), MaxText))]...)
	}
	if l.masked {
		if l.cr {
			piece = piece[:len(piece)-1]
		}
		d.mask(piece)
		l.edited = l.edited || len(piece) > 0
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

// before is the line up to data[i], without the last n bytes that were counted,
// wherever the packets were cut.
func (l *commandLine) before(data []byte, from, i, n int) []byte {
	text := l.text(data[from:max(from, i)])
	return text[:min(len(text), int(l.length)-n)]
}

// mask overwrites what may not pass.
func (d *Dialogue) mask(b []byte) {
	d.edited = d.edited || len(b) > 0
	for i := range b {
		b[i] = 'X'
	}
}
