package smtp

// authLine is a client line of an AUTH exchange in progress (RFC 4954 section
// 4): base64, or "*" to cancel. It is no command and is never masked.
type authLine struct {
	length uint64 // bytes without the CR LF
	cr     bool
	long   bool // KindAuthLine has been reported
	bare   bool // a CR or LF in it is no part of CR LF: some servers have ended it there
}

// readAuthLine reads the line at data[i:] and returns the index behind it.
func (d *Dialogue) readAuthLine(data []byte, i int) int {
	a := &d.auth
	for ; i < len(data) && !d.ended; i++ {
		c := data[i]
		switch {
		case c == '\n' && a.cr:
			*a = authLine{}
			d.mode = modeCommand
			d.await(pendingAuthLine, i+1)
			return i + 1
		case a.cr:
			d.report(Fact{Kind: KindAuthNewline, Side: Client}, i-1)
			a.bare = true
			a.length++
		case c == '\n':
			d.report(Fact{Kind: KindAuthNewline, Side: Client}, i)
			a.bare = true
		}
		if a.cr = c == '\r'; !a.cr {
			a.length++
		}
		if a.length > MaxLine-2 && !d.ended {
			d.tooLong(i)
		}
		if limit := d.authLimit(); a.length > limit && !a.long && !d.ended {
			a.long = true
			d.report(Fact{Kind: KindAuthLine, Side: Client, Limit: limit, Value: limit + 1}, i)
		}
	}
	return len(data)
}

func (d *Dialogue) authLimit() uint64 {
	if d.rules.AuthLineLength == 0 {
		return DefaultAuthLineLength
	}
	return d.rules.AuthLineLength
}
