package smtp

import "bytes"

// mode says how the client's next byte is read.
type mode uint8

const (
	modeCommand mode = iota
	modeAuth         // a line of an AUTH exchange (RFC 4954)
	modeData         // a message, behind the 354 to DATA
	modeChunk        // octets of a BDAT chunk (RFC 3030)
	modeOctets       // octets of a private command, behind its 354
	modeTLS          // behind the 220 to STARTTLS: a handshake must come
	modeOpaque       // TLS: nothing is read any more
)

// Dialogue follows one session. Its zero value needs Init. It holds no bytes of
// finished lines, and of an unfinished one at most MaxText.
type Dialogue struct {
	rules *Rules
	judge Judge // of the Feed under way

	mode    mode
	ended   bool // of the Feed under way: a Judge said End
	edited  bool // of the Feed under way: bytes were changed
	waiting bool // the reply to the last command decides how the next client byte is read
	noted   noted

	offset    [2]uint64 // payload bytes fed of each side
	queue     commandQueue
	rcpts     uint32 // RCPT lines forwarded in the transaction
	rcptAt    uint8  // bounds of CmdRcptCount that the transaction has passed
	invalid   uint32 // RCPT lines of the transaction answered 5yz
	invalidAt uint8  // bounds of InvalidRecipients passed
	size      sizes  // declared by MAIL
	octets    uint64 // modeChunk, modeOctets: still to come; before: announced
	lastChunk bool   // modeChunk: BDAT LAST
	stale     bool   // a command other than NOOP and RSET came in the midst of a message in chunks

	line    commandLine
	auth    authLine
	reply   replyLine
	tls     handshake
	message *message // between the 354 and the dot, or from the first BDAT to the last
	address []byte   // the path in progress, where it is watched
}

// sizes is what MAIL lines have declared with SIZE= (RFC 1870 section 6). 0 is
// nothing.
type sizes struct {
	offered  uint64 // by the newest MAIL line
	accepted uint64 // by the newest one that was answered 2yz
}

// noted are the findings and announcements that hold for the whole session.
type noted uint8

const (
	notedPipelined    noted = 1 << iota // KindPipelined was reported
	notedEarlyTalker                    // KindEarlyTalker was reported
	notedQuit                           // QUIT was answered: nothing more is a command
	notedAfterQuit                      // KindAfterQuit was reported
	notedReplyLine                      // KindReplyLine was reported
	pipeliningOffered                   // the server announced PIPELINING, unmasked
	chunkingOffered                     // the server announced CHUNKING, unmasked
)

// Init makes d ready for a new session.
func (d *Dialogue) Init(r *Rules) {
	*d = Dialogue{rules: r}
	d.queue.list = append(make([]pending, 0, 8), pendingGreeting)
	d.line.word = r.commandWords.start()
}

// Ready reports whether bytes of side can be read now. Client bytes cannot
// while a reply is awaited that decides how to read them: the caller holds them
// until server bytes have been fed.
func (d *Dialogue) Ready(side Side) bool { return side == Server || !d.waiting }

// Transparent reports whether client bytes that stand gap bytes behind the next
// one may be forwarded before those in between: they are bytes of a message, or
// of a count, as far as can be said. In a message no line of them may begin with
// a dot, so that they cannot end it. They are fed all the same when the gap has
// closed: what is missing may end the message and make commands of them.
func (d *Dialogue) Transparent(gap int, data []byte) bool {
	switch d.mode {
	case modeData:
		return data[0] != '.' && !bytes.Contains(data, lfDot) && !bytes.Contains(data, crDot)
	case modeChunk, modeOctets:
		return uint64(gap)+uint64(len(data)) <= d.octets
	}
	return false
}

// The beginnings of lines that Transparent looks for.
var lfDot, crDot = []byte("\n."), []byte("\r.")

// Room reports whether the replies to all command lines that end in data, the
// next bytes of the client, can be awaited. The caller drops a packet for which
// they cannot before it feeds it.
func (d *Dialogue) Room(data []byte) bool {
	if d.mode != modeCommand {
		return true
	}
	for room := maxPending - d.queue.len(); ; room-- {
		end := bytes.IndexByte(data, '\n')
		switch {
		case end < 0:
			return true
		case room == 0:
			return false
		}
		data = data[end+1+min(d.announced(data[:end]), len(data)-end-1):]
	}
}

// announced is how many octets a line announces behind it, if it is a BDAT line
// that may pass. One that turns out to be masked announces too many here: then
// the queue overflows, which ends the session.
func (d *Dialogue) announced(line []byte) int {
	const word = "BDAT "
	if !d.rules.AllowBDAT || len(line) < len(word) || !bytes.EqualFold(line[:len(word)], []byte(word)) {
		return 0
	}
	var count countLine
	for _, c := range bytes.TrimSuffix(line[len(word):], []byte("\r")) {
		count.next(c, false)
	}
	if count.state == countBad {
		return 0
	}
	return int(count.octets)
}

// Offset is the number of bytes of side that were fed.
func (d *Dialogue) Offset(side Side) uint64 { return d.offset[side] }

// Owed is the number of replies that the server owes to commands it has got.
func (d *Dialogue) Owed() int { return d.queue.len() }

// Owe notes that the server has got no more than the n oldest of the commands in
// the queue: those behind them stood in a packet that was not forwarded.
func (d *Dialogue) Owe(n int) { d.queue.keep(n) }

// Feed reads the next bytes of side, which must be in order and Ready. It edits
// data in place and reports whether it did. ok is false when a Judge ended the
// session: data must then not be forwarded, and Feed not be called again for
// that side.
func (d *Dialogue) Feed(side Side, data []byte, j Judge) (edited, ok bool) {
	d.judge, d.ended, d.edited = j, false, false
	for i := 0; i < len(data) && !d.ended; {
		if side == Server {
			i = d.readServer(data, i)
		} else {
			i = d.readClient(data, i)
		}
	}
	d.offset[side] += uint64(len(data))
	d.judge = nil
	return d.edited, !d.ended
}

func (d *Dialogue) readClient(data []byte, i int) int {
	if d.waiting {
		d.glued(i)
		return len(data)
	}
	switch d.mode {
	case modeCommand:
		return d.readCommand(data, i)
	case modeAuth:
		return d.readAuthLine(data, i)
	case modeData:
		return d.readMessage(data, i)
	case modeChunk:
		return d.readChunk(data, i)
	case modeOctets:
		return d.readOctets(data, i)
	case modeTLS:
		return d.readClientHello(data, i)
	}
	return len(data)
}

func (d *Dialogue) readServer(data []byte, i int) int {
	switch d.mode {
	case modeTLS:
		return d.readServerHello(data, i)
	case modeOpaque:
		return len(data)
	}
	return d.readReply(data, i)
}

// glued ends the session: data[i] shares a packet with a command whose reply
// decides how it is read, so that it can neither be read nor held.
func (d *Dialogue) glued(i int) {
	kind := KindGluedBytes
	if d.queue.index(isPendingStartTLS) >= 0 {
		kind = KindTLSInjection
	}
	d.report(Fact{Kind: kind, Side: Client}, i)
	d.ended = true
}

func isPendingStartTLS(p pending) bool { return p == pendingStartTLS }

// report asks the Judge about f, whose byte is data[i] of the Feed under way,
// and notes when the answer is End.
func (d *Dialogue) report(f Fact, i int) Action {
	f.Offset = d.offset[f.Side] + uint64(i)
	if len(f.Text) > MaxText {
		f.Text = f.Text[:MaxText]
	}
	a := d.judge.Judge(f)
	if a == End {
		d.ended = true
	}
	return a
}

// bound returns the bound of m behind the first at of them.
func (d *Dialogue) bound(m Measure, at uint8) uint64 {
	if limits := d.rules.Limits[m]; int(at) < len(limits) {
		return limits[at]
	}
	return Unlimited
}

// within reports that what m measures is over, at value.
func (d *Dialogue) within(m Measure, value uint64, side Side, text []byte, i int) {
	if d.rules.Within[m] && !d.ended {
		d.report(Fact{Kind: KindWithin, Side: side, Measure: m, Value: value, Text: text}, i)
	}
}

// count compares value, of measure m and reached at data[i], with the bounds
// behind the first *at of them.
func (d *Dialogue) count(m Measure, at *uint8, value uint64, f Fact, i int) {
	for bound := d.bound(m, *at); value > bound && !d.ended; bound = d.bound(m, *at) {
		*at++
		f.Kind, f.Measure, f.Limit, f.Value = KindLimit, m, bound, bound+1
		d.report(f, i)
	}
}

// await notes that p awaits a reply. i is the byte behind the command.
func (d *Dialogue) await(p pending, i int) {
	if !d.queue.push(p) {
		d.report(Fact{Kind: KindOverflow, Side: Client}, i)
		d.ended = true
	}
	d.waiting = p.decides()
}
