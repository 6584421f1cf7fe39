package smtp

// countLine reads the argument of BDAT (RFC 3030 section 2: SP chunk-size
// [ SP end-marker ]) or the first one of a private command that is counted.
type countLine struct {
	state  countState
	digits uint8
	at     uint8 // bytes of LAST read
	passed bool  // digits were forwarded in an earlier packet
	last   bool
	octets uint64
}

type countState uint8

const (
	countBefore countState = iota // blanks before the number
	countDigits
	countAfter // blanks behind it
	countLast  // in the word LAST
	countDone  // blanks behind LAST; further arguments of a private command
	countBad
)

// maxCount is the largest chunk. Servers keep the number in 32 bits, some with a
// sign: of a larger one they would read other octets than we do (design.md 6.9
// has up to 19 digits; leading zeros count as digits).
const (
	maxCount       = 1<<31 - 1
	maxCountDigits = 19
)

// next reads one byte; the CR of the line's end is none.
func (l *countLine) next(c byte, private bool) {
	switch {
	case l.state == countBad || l.state == countDone && private:
	case c == ' ':
		l.blank()
	case '0' <= c && c <= '9' && l.state <= countDigits && l.digits < maxCountDigits:
		l.state = countDigits
		l.digits++
		if l.octets = l.octets*10 + uint64(c-'0'); l.octets > maxCount {
			l.state = countBad
		}
	case private && l.state == countAfter:
		l.state = countDone
	case (l.state == countAfter || l.state == countLast) && l.at < 4 && upper(c) == "LAST"[l.at]:
		l.state = countLast
		l.at++
	default:
		l.state = countBad
	}
}

func (l *countLine) blank() {
	switch {
	case l.state == countDigits:
		l.state = countAfter
	case l.state == countLast && l.at == 4:
		l.state, l.last = countDone, true
	case l.state == countLast:
		l.state = countBad
	}
}

// end ends the line and reports whether it was valid.
func (l *countLine) end() bool {
	switch l.state {
	case countLast:
		l.last = l.at == 4
		return l.last
	case countDigits, countAfter, countDone:
		return true
	}
	return false
}

// countByte reads a byte of the argument at index i. A line that is no syntax is
// masked like an unknown command, unless the server has already got digits of
// it: servers differ on what such a line means to the octets behind it.
func (d *Dialogue) countByte(c byte, i int) {
	l := &d.line
	if l.count.next(c, l.verb != VerbBDAT); l.count.state == countBad {
		d.countUnclear(i)
	}
}

func (d *Dialogue) countUnclear(i int) {
	l := &d.line
	if l.count.passed {
		d.report(Fact{Kind: KindCountUnclear, Side: Client}, i)
		d.ended = true
		return
	}
	l.masked, l.phase, l.verb = true, inRest, VerbUnknown
}

// beginChunk begins the octets of a BDAT line that has ended.
func (d *Dialogue) beginChunk(c countLine, i int) {
	switch {
	case d.message == nil:
		d.message = newMessage(true)
	case c.octets == 0 && !c.last: // Exim refuses it, and reads the chunks behind it as commands
		d.stale = true
	}
	d.octets, d.lastChunk = c.octets, c.last
	p := pendingChunk
	if c.last {
		p = pendingChunkLast
	}
	if d.await(p, i); d.ended {
		return
	}
	d.mode = modeChunk
	if d.octets == 0 {
		d.endChunk(i)
	}
}

// readChunk reads octets of a BDAT chunk from data[i:] on and returns the index
// behind what it read. A refused chunk is counted off all the same: the server
// reads it (RFC 3030 section 2).
func (d *Dialogue) readChunk(data []byte, i int) int {
	n := min(uint64(len(data)-i), d.octets)
	end := d.readMessage(data[:i+int(n)], i)
	if d.octets -= uint64(end - i); d.octets == 0 && !d.ended {
		d.endChunk(end)
	}
	return end
}

// endChunk ends a chunk in front of index i.
func (d *Dialogue) endChunk(i int) {
	d.mode = modeCommand
	if d.lastChunk {
		d.endMessage(i)
	}
}

// readOctets passes the octets of a private command from data[i:] on and returns
// the index behind them.
func (d *Dialogue) readOctets(data []byte, i int) int {
	n := min(uint64(len(data)-i), d.octets)
	i += int(n)
	if d.octets -= n; d.octets == 0 {
		d.mode = modeCommand
		d.await(pendingOther, i)
	}
	return i
}

// chunkWelcome reports whether the server reads a BDAT sent now as we do: it has
// offered CHUNKING in the reply to the last EHLO, no reply is awaited that could
// change this, and no other command came between the chunks of a message: some
// servers then take no more chunks, others do. A server that takes none reads
// the octets as commands.
func (d *Dialogue) chunkWelcome() bool {
	return d.noted&chunkingOffered != 0 && !d.stale && d.queue.count(pendingEHLO)+d.queue.count(pendingHELO) == 0
}
