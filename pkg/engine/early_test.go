package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// inData is a session behind the 354 to DATA.
func inData(t testing.TB, opt Options) *wireTest {
	w := connect(t, opt)
	w.talk("S: 220 x\nC: DATA\nS: 354 go")
	return w
}

// accepted gives the engine a client's segment at pos and wants it forwarded.
func (w *wireTest) accepted(pos int, s string) *Decision {
	w.t.Helper()
	d := w.raw(client, w.at(client, pos, s))
	if d == nil || d.Verdict != Accept {
		w.t.Fatalf("%q at %d: decision %+v, want accepted", s, pos, d)
	}
	return d
}

// heldBack gives the engine a client's segment at pos and wants it to wait.
func (w *wireTest) heldBack(pos int, s string) {
	w.t.Helper()
	if d := w.raw(client, w.at(client, pos, s)); d != nil {
		w.t.Fatalf("%q at %d: decision %+v, want held", s, pos, d)
	}
}

// last is the reason of the last drop.
func (w *wireTest) last() Reason {
	if len(w.drops) == 0 {
		return ReasonNone
	}
	return w.drops[len(w.drops)-1]
}

// Message octets behind a gap go on at once, and are judged when it closes.
func TestEarlyMessage(t *testing.T) {
	w := inData(t, Options{})
	at := w.sent[client]
	w.sent[client] += 3000
	long := strings.Repeat("y", 999) // one too many for `body line length`
	w.accepted(at+8, "b"+long)
	w.accepted(at+1008, "c\r\n")
	if len(w.got[client].bytes) != 6 || len(w.events) != 1 {
		t.Fatalf("delivered %q, events %v", w.got[client].bytes, w.log())
	}
	w.accepted(at, "A: b\r\n\r\n")
	w.accepted(at+1011, ".\r\n")
	w.want(client, "DATA\nA: b\n\nb"+long+"c\n.\n")
	if log := w.log(); log[len(log)-1] != "match 3 body line length gt 998@1012" {
		t.Errorf("events %v", log)
	}
	w.sent[client] = at + 1014
	w.talk("S: 250 ok\nC: XFOO")
	w.want(client, "DATA\nA: b\n\nb"+long+"c\n.\nXXXX\n")
	if c := w.e.Counters(); c.Early != 2 || c.LedgerBytes > 8192 {
		t.Errorf("counters %+v", c)
	}
	w.done()
}

// The header line behind the gap is too long: that is known when the gap has
// closed, and the packet that closes it is the last that the server does not get.
func TestEarlyIsJudged(t *testing.T) {
	w := inData(t, Options{})
	at := w.sent[client]
	w.sent[client] += 2000
	w.accepted(at+3, strings.Repeat("y", 999)+"\r\n")
	d := w.raw(client, w.at(client, at, "A: "))
	if d.Verdict != Drop || d.Reason != ReasonPolicy {
		t.Fatalf("decision %+v", d)
	}
	w.raw(client, w.at(client, at, "A: ")) // again
	w.want(client, "DATA\n")
	w.done()
}

// Whatever could end the message waits; so does what TCP must not reorder.
func TestEarlyWaits(t *testing.T) {
	for _, text := range []string{".\r\nXFOO\r\n", "a\r\n.\r\nXFOO\r\n", "a\r.\r", "a\n."} {
		w := inData(t, Options{})
		w.heldBack(w.sent[client]+10, text)
		w.done()
	}
	for name, flags := range map[string]layers.TCP{"FIN": {ACK: true, FIN: true}, "URG": {ACK: true, URG: true}} {
		w := inData(t, Options{})
		s := w.at(client, w.sent[client]+10, "abc")
		s.flags = flags
		if d := w.raw(client, s); d != nil {
			t.Errorf("%s: decision %+v", name, d)
		}
		w.done()
	}
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: DATA") // no 354 yet
	w.heldBack(w.sent[client]+10, "abc")
	w.talk("S: 250 ok")
	w.done()
}

// The end of the message lies in the gap, so that the octets behind it are
// commands: what would be masked has passed already, and nobody may read it.
func TestEarlyBecomesCommands(t *testing.T) {
	const end = "\r\n.\r\n"
	for _, c := range []struct {
		early string
		alive bool
	}{
		{"XFOO\r\n", false}, {"NOOP\r\nXFOO\r\n", false}, {"MAIL FROM:<a<b>\r\n", false}, {"MAIL FROM:<a|b>\r\n", false},
		{"DATA\r\nevil\r\n", false}, {"STARTTLS\r\n", false}, {"NOOP\r\n", true}, {"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n", true},
	} {
		w := inData(t, Options{})
		at := w.sent[client]
		w.sent[client] += len(end + c.early)
		w.accepted(at+len(end), c.early)
		w.raw(client, w.at(client, at, end))
		if c.alive {
			w.want(client, strings.ReplaceAll("DATA\r\n"+end+c.early, "\r\n", "\n"))
		} else {
			w.want(client, "DATA\n")
		}
		w.raw(client, w.at(client, at, end+c.early)) // again, in one packet
		if !c.alive {
			w.want(client, "DATA\n")
		}
		w.done()
	}
}

// The same, and the packet that closes the gap says the early octets again with
// other values, before, at and behind its own.
func TestEarlyChangedLater(t *testing.T) {
	const end = "\r\n.\r\n"
	for _, again := range []string{end + "XFOO\r\nNOOP\r\n", end + "XF", end} {
		w := inData(t, Options{})
		at := w.sent[client]
		w.sent[client] += 40
		w.accepted(at+len(end), "noop\r\n")
		d := w.raw(client, w.at(client, at, again))
		if d.Verdict != Accept {
			t.Fatalf("%q: decision %+v", again, d)
		}
		w.raw(client, w.at(client, at+len(end), "XFOO\r\nNOOP\r\n"))
		w.want(client, "DATA\n\n.\nnoop\nNOOP\n")
		if c := w.e.Counters(); c.Conflicts == 0 {
			t.Errorf("%q: no conflict counted", again)
		}
		w.done()
	}
}

// Octets behind the gap that contradict the early ones and may not go on
// themselves are dropped, not kept.
func TestEarlyConflictDropped(t *testing.T) {
	w := inData(t, Options{})
	at := w.sent[client]
	w.sent[client] += 40
	w.accepted(at+10, "abcdef")
	w.raw(client, w.at(client, at+8, "..ABCDEF\r\n.\r\n"))
	if w.last() != ReasonConflict {
		t.Errorf("drops %v", w.drops)
	}
	w.accepted(at+10, "xyz") // nothing in it is new
	w.accepted(at, "0123456789")
	w.want(client, "DATA\n0123456789abcdef")
	w.done()
}

// A FIN in front of octets that have passed already.
func TestEarlyBehindFIN(t *testing.T) {
	w := inData(t, Options{})
	at := w.sent[client]
	w.sent[client] += 40
	w.accepted(at+10, "abcdef")
	s := w.at(client, at, "0123")
	s.flags.FIN = true
	w.raw(client, s)
	if w.last() != ReasonBeyondFIN {
		t.Errorf("drops %v", w.drops)
	}
	w.accepted(at, "0123456789")
	w.want(client, "DATA\n0123456789abcdef")
	w.done()
}

// Octets within the count of a chunk may hold anything; behind it they wait.
func TestEarlyChunk(t *testing.T) {
	m := policy.Default().Map("modern_esmtp_map")
	w := connect(t, Options{Map: m})
	w.talk("S: 220 x\nC: EHLO a\nS: 250-a\nS: 250 CHUNKING\nC: MAIL FROM:<>\nS: 250 ok\nC: RCPT TO:<a@b>\nS: 250 ok\nC: BDAT 20 LAST")
	at := w.sent[client]
	w.sent[client] += 40
	w.heldBack(at+10, "\r\n.\r\nXFOO\r\n") // 10 to 21
	w.accepted(at+10, "\r\n.\r\nXFO\r\n")  // 10 to 20
	w.raw(client, w.at(client, at, "A: bcd\r\n\r\n"))
	w.tick(queueTimeout)
	text := string(w.got[client].bytes)
	if !strings.HasSuffix(text, "A: bcd\r\n\r\n\r\n.\r\nXFO\r\n") {
		t.Errorf("server got %q", text)
	}
	w.done()
}

// Early octets count as the others: over the ledger's bound, or behind more gaps
// than are kept, they wait.
func TestEarlyIsBounded(t *testing.T) {
	w := inData(t, Options{Limits: Limits{LedgerPerFlow: 1000}})
	at := w.sent[client]
	w.sent[client] += 5000
	w.accepted(at+10, strings.Repeat("a", 900))
	w.heldBack(at+910, strings.Repeat("a", 200))
	w.done()

	w = inData(t, Options{})
	at = w.sent[client]
	w.sent[client] += 5000
	for i := range 128 {
		w.accepted(at+10*i+1, "a")
	}
	w.heldBack(at+10*128+1, "a")
	w.done()
}

// Octets that were forwarded early neither time out nor make room for others.
func TestEarlyStays(t *testing.T) {
	w := inData(t, Options{Limits: Limits{Ledger: 2048}})
	at := w.sent[client]
	w.sent[client] += 5000
	w.accepted(at+10, strings.Repeat("a", 500))
	w.tick(time.Hour)
	w.accepted(at+10, strings.Repeat("b", 500))
	w.accepted(at, "0123456789")
	w.want(client, "DATA\n0123456789"+strings.Repeat("a", 500))
	w.done()
}

// A reset whose cause lies in early octets reaches the server at the octet that
// it expects, which is the one in the gap.
func TestEarlyReset(t *testing.T) {
	m := criteriaMap(t, "body line length gt 10", "reset log")
	w := inData(t, Options{Map: m})
	at := w.sent[client]
	w.sent[client] += 100
	w.accepted(at+2, strings.Repeat("a", 30)+"\r\n")
	d := w.raw(client, w.at(client, at, "\r\n"))
	seq := w.isn[client] + 1 + uint32(at)
	if d.Verdict != Accept || w.rsts != 1 || d.Data[20+tcpFlags]&flagRST == 0 || be32(d.Data[20+tcpSeq:]) != seq {
		t.Errorf("decision %+v, want a RST at %d", d, seq)
	}
	w.want(client, "DATA\n")
	w.done()
}

// The server's window is lowered to what the ledger keeps, and what was offered
// once stays offered.
func TestWindowIsLowered(t *testing.T) {
	w := connect(t, Options{Limits: Limits{LedgerPerFlow: 8192}})
	w.talk("S: 220 x\nC: DATA\nS: 354 go")
	edge := func(d *Decision) uint32 {
		return be32(d.Data[20+8:]) + uint32(d.Data[20+tcpWindow])<<8 + uint32(d.Data[20+tcpWindow+1])
	}
	first := w.isn[client] + 1 + 65535 // the SYN-ACK's
	for i := range 20 {
		at := w.sent[client]
		w.sent[client] += 5000
		w.accepted(at, strings.Repeat("a\r\n\r\n", 1000))
		d := w.raw(server, w.at(server, w.sent[server], ""))
		want := w.isn[client] + 1 + uint32(w.sent[client]) + 8192 - 2048
		if int32(want-first) < 0 {
			want = first
		}
		if got := edge(d); got != want {
			t.Fatalf("acknowledgement %d offers octets up to %d, want %d", i, got, want)
		}
	}
	if len(w.drops) > 0 {
		t.Errorf("drops %v", w.drops)
	}
	beyond := w.at(client, w.sent[client]+8192, "a")
	if d := w.raw(client, beyond); d.Reason != ReasonBeyondWindow {
		t.Errorf("decision %+v", d)
	}
	w.done()
}

// be32 reads a number in network order.
func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
