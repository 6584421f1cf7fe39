package smtp

// authLine is a client line of an AUTH exchange in progress (RFC 4954 section
// 4): base64, or "*" to cancel. It is no command and is never masked.
type authLine struct {
	length uint64 // bytes without the CR LF
	cr     bool
	long   bool // KindAuthLine has been reported
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
			d.authNewline(i - 1)
			a.length++
		case c == '\n':
			d.authNewline(i)
		}
		if a.cr = c == '\r'; !a.cr {
			a.length++
		}
		if limit := d.authLimit(); a.length > limit && !a.long && !d.ended {
			a.long = true
			d.report(Fact{Kind: KindAuthLine, Side: Client, Limit: limit, Value: limit + 1}, i)
		}
	}
	return len(data)
}

// authNewline reports a bare CR or LF. Masking a line of credentials would only
// hide which of its bytes the server took: Mask ends the session too.
func (d *Dialogue) authNewline(i int) {
	if !d.ended && d.report(Fact{Kind: KindBareNewline, Side: Client}, i) == Mask {
		d.ended = true
	}
}

func (d *Dialogue) authLimit() uint64 {
	if d.rules.AuthLineLength == 0 {
		return DefaultAuthLineLength
	}
	return d.rules.AuthLineLength
}
