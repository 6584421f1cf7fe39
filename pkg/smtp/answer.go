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
	answers := pendingNone
	switch code {
	case codeStartInput:
		answers = d.answered(func(p pending) bool { return p == pendingData })
	case codeChallenge:
		answers = d.answered(func(p pending) bool { return p == pendingAuth || p == pendingAuthLine })
	case codeReady:
		if answers = d.answered(func(p pending) bool { return p == pendingStartTLS || p == pendingGreeting }); answers == pendingNone {
			answers = d.answered(takesSuccess)
		}
	default:
		match := takesAny
		if code/100 == 2 {
			match = takesSuccess
		}
		answers = d.answered(match)
	}
	switch {
	case answers != pendingNone:
		d.answer(answers, code, i)
	case code == codeStartInput || code == codeChallenge:
		d.report(Fact{Kind: KindUndecided, Side: Server, Value: uint64(code)}, i)
	case code != codeClosing:
		d.report(Fact{Kind: KindUnexpectedReply, Side: Server, Value: uint64(code)}, i)
	}
}

func takesAny(pending) bool { return true }

// takesSuccess is false for what no server answers with 2yz.
func takesSuccess(p pending) bool { return p != pendingEmpty }

// answered removes the oldest command that match takes, with those before it,
// which the server has skipped, and returns it.
func (d *Dialogue) answered(match func(pending) bool) pending {
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
			d.resetTransaction()
		}
	case pendingDot:
		d.resetTransaction()
	case pendingData:
		if code == codeStartInput {
			d.mode, d.message = modeData, newMessage()
		}
	case pendingAuth, pendingAuthLine:
		if code == codeChallenge {
			d.mode = modeAuth
		}
	case pendingStartTLS:
		if code == codeReady {
			d.mode, d.tls = modeTLS, handshake{}
		}
	}
}

// resetTransaction begins a new transaction. RCPT lines that still await their
// reply came behind the command that was answered: they belong to it.
func (d *Dialogue) resetTransaction() {
	d.rcpts = uint32(d.queue.count(pendingRcpt))
	d.rcptAt = 0
	for uint64(d.rcpts) > d.bound(CmdRcptCount, d.rcptAt) {
		d.rcptAt++
	}
}
