package smtp

// Reply codes that change how the client's bytes are read.
const (
	codeReady      = 220 // RFC 5321: greeting; RFC 3207: begin TLS
	codeChallenge  = 334 // RFC 4954
	codeStartInput = 354 // RFC 5321
	codeClosing    = 421 // RFC 5321: at any time
)

// endReply matches a whole reply to the command it answers. Codes that change
// the mode belong to the oldest command of their kind, never to a position: a
// server may skip an empty line (design.md 6.7).
func (d *Dialogue) endReply(code, i int) {
	first, mixed := d.reply.first, d.reply.mixed
	if mixed && (d.decidesMode(first) || d.decidesMode(code)) {
		d.report(Fact{Kind: KindUndecided, Side: Server, Value: uint64(code)}, i)
		return
	}
	p := d.answered(code)
	switch {
	case p != pendingNone:
		if mixed || !p.expects(code) {
			d.report(Fact{Kind: KindTransition, Side: Server, Value: uint64(code), Text: []byte(replies[p].command)}, i)
		}
		d.answer(p, code, i)
	case code == codeStartInput || code == codeChallenge || code != codeClosing && d.twoViews():
		d.report(Fact{Kind: KindUndecided, Side: Server, Value: uint64(code)}, i)
	case code != codeClosing:
		d.report(Fact{Kind: KindUnexpectedReply, Side: Server, Value: uint64(code)}, i)
	}
}

// twoViews reports whether a reply that answers no command shows the server to be
// in another mode: it took a bare newline for the end of the message, or of the
// line of an AUTH exchange, that is still being read here.
func (d *Dialogue) twoViews() bool {
	return d.mode == modeData && d.message.ends || d.mode == modeAuth && d.auth.bare
}

// decidesMode reports whether a reply of that code may open another mode now.
func (d *Dialogue) decidesMode(code int) bool {
	return code == codeStartInput || code == codeChallenge ||
		code == codeReady && d.queue.index(isPendingStartTLS) >= 0
}

// answered removes the command that a reply of that code answers, with those
// before it, which the server has skipped, and returns it.
func (d *Dialogue) answered(code int) pending {
	switch code {
	case codeStartInput:
		return d.take(func(p pending) bool { return p == pendingData || p == pendingCounted })
	case codeChallenge:
		return d.take(func(p pending) bool { return p == pendingAuth || p == pendingAuthLine })
	case codeReady:
		if p := d.take(func(p pending) bool { return p == pendingStartTLS || p == pendingGreeting }); p != pendingNone {
			return p
		}
	}
	if code/100 == 2 {
		return d.take(func(p pending) bool { return p != pendingEmpty }) // no server answers one so
	}
	return d.take(func(pending) bool { return true })
}

// take removes the oldest command that match takes, with those before it.
func (d *Dialogue) take(match func(pending) bool) pending {
	i := d.queue.index(match)
	if i < 0 {
		return pendingNone
	}
	p := d.queue.list[d.queue.head+i]
	d.queue.pop(i + 1)
	return p
}

// answer applies a reply to its command.
func (d *Dialogue) answer(p pending, code, i int) {
	if p.decides() {
		d.waiting = false
	}
	success := code/100 == 2
	switch p {
	case pendingGreeting:
		if success && d.rules.MaskBanner {
			d.report(Fact{Kind: KindBanner, Side: Server}, i)
		}
	case pendingEHLO, pendingHELO, pendingMail, pendingRset:
		if success {
			d.begun(p)
		}
	case pendingRcpt:
		if code/100 == 5 {
			d.countInvalid(i)
		}
	case pendingDot, pendingChunkLast:
		d.resetTransaction()
	case pendingQuit:
		if success {
			d.noted |= notedQuit
		}
	case pendingData:
		if code == codeStartInput {
			d.mode, d.message = modeData, newMessage(false)
		}
	case pendingCounted:
		if code == codeStartInput {
			d.mode = modeOctets
			if d.octets == 0 {
				d.readOctets(nil, 0)
			}
		}
	case pendingAuth, pendingAuthLine:
		if code == codeChallenge {
			d.mode = modeAuth
		}
	case pendingStartTLS:
		if code == codeReady {
			d.mode, d.tls = modeTLS, handshake{from: d.offset[Client]}
		}
	}
}

// begun applies the success of a command that begins a transaction, or ends the
// one before.
func (d *Dialogue) begun(p pending) {
	d.resetTransaction()
	switch p {
	case pendingMail:
		d.size.accepted = d.size.offered
	case pendingEHLO, pendingHELO: // HELO takes back what EHLO has offered
		d.noted = d.noted&^(pipeliningOffered|chunkingOffered) | d.reply.offers
		d.message, d.stale = nil, false // no chunk was welcome since
	}
}

// countInvalid counts a recipient that the server has refused for good.
func (d *Dialogue) countInvalid(i int) {
	d.invalid++
	d.count(InvalidRecipients, &d.invalidAt, uint64(d.invalid), Fact{Side: Server}, i)
	d.within(InvalidRecipients, uint64(d.invalid), Server, nil, i)
}

// resetTransaction begins a new transaction. RCPT lines that still await their
// reply came behind the command that was answered: they belong to it.
func (d *Dialogue) resetTransaction() {
	d.rcpts = uint32(d.queue.count(pendingRcpt))
	d.rcptAt = d.passed(CmdRcptCount, uint64(d.rcpts))
	d.invalid, d.invalidAt = 0, 0
}

// passed is how many bounds of m value goes beyond.
func (d *Dialogue) passed(m Measure, value uint64) (at uint8) {
	for value > d.bound(m, at) {
		at++
	}
	return at
}

// declared is the size that the message in progress was announced with.
func (d *Dialogue) declared() uint64 {
	if d.queue.count(pendingMail) > 0 {
		return d.size.offered
	}
	return d.size.accepted
}
