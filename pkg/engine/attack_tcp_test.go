package engine

import (
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// A client that acknowledges none of the replies and starts TLS all the same gets
// the banner again, when the server's retransmission timer fires: what was
// forwarded with a mask must not be forwarded without one.
func TestTLSBehindRepliesNotAcknowledged(t *testing.T) {
	w := connect(t, Options{Map: mustParse(t, "match ehlo-reply-parameter others\n  mask")})
	const banner, ehlo, ready = "220 mx1.example Postfix 3.9.1 Debian\r\n", "250-mx1.example\r\n250-XSECRET\r\n250 STARTTLS\r\n", "220 go\r\n"
	blind := func(s string) *Decision { // a client's segment that acknowledges no reply
		seg := w.at(client, w.sent[client], s)
		seg.ack = w.isn[server] + 1
		w.sent[client] += len(s)
		return w.raw(client, seg)
	}
	w.send(server, banner)
	blind("EHLO a\r\n")
	w.send(server, ehlo)
	blind("STARTTLS\r\n")
	w.send(server, ready)
	blind("\x16\x03\x01\x02\x00\x01hello")
	w.send(server, "\x16\x03\x03\x00\x7a\x02hello")
	// The server's timer: everything from the first octet that is not acknowledged.
	d := w.raw(server, w.at(server, 0, banner+ehlo+ready))
	if d != nil && d.Verdict == Accept {
		if got := string(d.Data[40:]); strings.Contains(got, "Postfix") || strings.Contains(got, "XSECRET") {
			t.Errorf("accepted, mark %d, edited %v: %q", d.Mark, d.Edited, got)
		}
	}
}

// Linux's SYN cookie is a sum that the client's number is a part of: whoever has
// one for the number A has one for A-k, too, namely k less. With it the server's
// connection begins k octets earlier than the engine believes.
func TestSYNCookieOfAnotherNumber(t *testing.T) {
	const k = 5
	w := newWire(t, Options{})
	w.raw(client, synOf(w.isn[client]))
	w.raw(server, synAckOf(w.isn[server], w.isn[client]+1))
	s := segment{flags: layers.TCP{ACK: true, PSH: true}, seq: w.isn[client] + 1 - k, ack: w.isn[server] + 1 - k, payload: "abcdeNOOP\r\n"}
	if d := w.raw(client, s); d != nil && d.Verdict == Accept {
		t.Errorf("judged %q; the server, whose first octet is %d before, reads %q", w.got[client].bytes, k, d.Data[40:])
	}
}

// A packet whose checksum is left to be completed says where that is to happen, and
// it may lie: the kernel would write into octets that were judged. It goes back with
// its checksum complete, edited or not.
func TestChecksumLeftToBeCompleted(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x")
	data := w.packet(client, w.at(client, 0, "NOOP\r\n"))
	data[20+16], data[20+17] = 0, 0
	ds := w.e.Process(&Packet{ID: 99, Time: w.now, Checksum: ChecksumPartial, Data: data})
	if d := ds[0]; d.Verdict != Accept || !d.Edited || !wire.TCPChecksumOK(d.Data, 20) {
		t.Errorf("decision %+v", d)
	}
}

// Exactly half the space before the stream.
func TestTextHalfTheSpaceBefore(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
	d := w.raw(client, w.at(client, w.sent[client]-1<<31, "EXPN\r\n"))
	if d != nil && d.Verdict == Accept && string(d.Data[40:]) == "EXPN\r\n" {
		t.Errorf("passed as it is: %q", d.Data[40:])
	}
}
