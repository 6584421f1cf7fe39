package smtp

// handshake watches the first bytes of both sides behind the 220 to STARTTLS.
// The session is opaque once a ClientHello and then a ServerHello have begun
// (RFC 3207, RFC 8446 section 5.1).
type handshake struct {
	from  uint64   // offset of the client's first byte behind the 220
	seen  [2]uint8 // record bytes read of each side, up to recordHead
	alert bool     // the server sent an alert record
	warns bool     // of the level warning: the handshake goes on (RFC 5246 section 7.2)
}

// Handshake reports whether the hellos of TLS are awaited, and how many of the
// client's bytes for them were fed.
func (d *Dialogue) Handshake() (fed int, ok bool) {
	return int(d.offset[Client] - d.tls.from), d.mode == modeTLS
}

// BeginsHandshake reports whether b begins like a TLS handshake record.
func BeginsHandshake(b []byte) bool { return len(b) > 0 && b[0] == recordHandshake }

// recordHead is the length of a TLS record's head with the handshake type.
const recordHead = 6

// alertRecord is the length of a whole alert record.
const alertRecord = 7

const (
	recordAlert     = 0x15
	alertLevel      = 5 // where in an alert record its level stands
	levelWarning    = 1
	recordHandshake = 0x16
	typeClientHello = 1
	typeServerHello = 2
)

// readClientHello reads the client's bytes behind the 220.
func (d *Dialogue) readClientHello(data []byte, i int) int {
	t := &d.tls
	for ; i < len(data) && t.seen[Client] < recordHead; i++ {
		if t.alert || !helloByte(t.seen[Client], data[i], typeClientHello) {
			return d.noTLS(Client, data, i)
		}
		t.seen[Client]++
	}
	if t.alert && i < len(data) {
		return d.noTLS(Client, data, i)
	}
	return len(data)
}

// readServerHello reads the server's bytes behind its 220. What it says before
// the ClientHello was injected into the clear part of the session.
func (d *Dialogue) readServerHello(data []byte, i int) int {
	t := &d.tls
	if t.seen[Client] < recordHead {
		d.report(Fact{Kind: KindTLSInjection, Side: Server}, i)
		d.ended = true
		return len(data)
	}
	for ; i < len(data); i++ {
		n := t.seen[Server]
		switch {
		case n == 0 && data[i] == recordAlert:
			t.alert = true
		case t.alert && n < alertRecord:
			t.warns = t.warns || n == alertLevel && data[i] == levelWarning
		case t.alert || !helloByte(n, data[i], typeServerHello):
			return d.noTLS(Server, data, i)
		}
		t.seen[Server]++
		if t.seen[Server] == alertRecord && t.warns {
			t.seen[Server], t.alert, t.warns = 0, false, false
		}
		if t.seen[Server] == recordHead && !t.alert {
			d.mode = modeOpaque
			d.report(Fact{Kind: KindTLSStarted, Side: Server}, i)
			return len(data)
		}
	}
	return len(data)
}

// helloByte reports whether byte n of a record can begin a hello of that type.
func helloByte(n uint8, c, hello byte) bool {
	switch n {
	case 0:
		return c == recordHandshake
	case 1:
		return c == 3
	case 2:
		return c <= 4
	case 5:
		return c == hello
	}
	return true
}

// noTLS ends the session: the bytes are neither a handshake nor commands.
func (d *Dialogue) noTLS(side Side, data []byte, i int) int {
	d.report(Fact{Kind: KindTLSMissing, Side: side}, i)
	d.ended = true
	return len(data)
}
