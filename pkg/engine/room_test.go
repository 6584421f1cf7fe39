package engine

import (
	"strings"
	"testing"
	"time"
)

// The ledgers of a session that passes unjudged are of no use any more; they keep
// their share of the pool until conntrack forgets the connection.
func TestTLSKeepsNoLedger(t *testing.T) {
	w := connect(t, Options{Map: mustParse(t, "match ehlo-reply-parameter others\n  mask")})
	w.talk("S: 220 x\nC: STARTTLS\nS: 220 go")
	w.send(client, "\x16\x03\x01\x02\x00\x01hello")
	w.send(server, "\x16\x03\x03\x00\x7a\x02"+strings.Repeat("certificate", 300))
	w.ack(server)
	w.ack(client)
	w.send(client, "\x14\x03\x03...")
	w.send(server, "\x14\x03\x03...")
	w.tick(time.Hour)
	if c := w.e.Counters(); c.LedgerBytes != 0 {
		t.Errorf("%d octets of the pool, an hour after TLS began", c.LedgerBytes)
	}
}

// hog opens sessions that fill the ledgers of one direction, until there is no room
// for another octet. They are silent afterwards.
func hog(t *testing.T, e *Engine, fill func(*wireTest) bool) (all []*wireTest) {
	t.Helper()
	start := e.now
	for len(all) < 2000 {
		w := wireOn(t, e)
		w.now = start // they are all at it at the same time
		w.handshake()
		all = append(all, w)
		if d := w.send(server, "220 x\r\n"); d == nil || d.Verdict != Accept {
			return all
		}
		for len(w.drops) == 0 && fill(w) {
		}
	}
	t.Fatal("the pool is not full")
	return nil
}

// Replies whose client says nothing more: it has them, and only its bare ACKs, which
// are not seen, would say so. They make room for a session that begins.
func TestSilentClientsMakeRoom(t *testing.T) {
	e := New(Options{Limits: Limits{Ledger: 4 << 20}})
	reply := strings.Repeat("214-"+strings.Repeat("h", 60)+"\r\n", 21) + "214 end\r\n"
	all := hog(t, e, func(w *wireTest) bool {
		seg := w.at(client, w.sent[client], "HELP\r\n")
		seg.ack = w.isn[server] + 1 // acknowledges nothing
		w.sent[client] += 6
		if d := w.raw(client, seg); d == nil || d.Verdict != Accept {
			return false
		}
		w.send(server, reply)
		return w.sent[server] < 250<<10
	})
	w := connectOn(t, e)
	if d := w.send(server, "220 x\r\n"); d == nil || d.Verdict == Accept {
		t.Error("replies of a moment ago were forgotten")
	}
	all[0].tick(repliesKept)
	w = connectOn(t, e)
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
	w.want(client, "NOOP\n")
	w.want(server, "220 *\n250 ok\n")
	w.done()
	if n := e.Counters().Forgotten; n == 0 || n > uint64(len(all))/2 {
		t.Errorf("%d of %d sessions forgot something", n, len(all))
	}
	for _, old := range all[:len(all)-1] { // what is forgotten does not come again as it was
		if d := old.raw(server, old.at(server, 0, "220 x\r\n")); d != nil && d.Verdict == Accept && string(d.Data[40:]) == "220 x\r\n" {
			t.Fatalf("the greeting passes without its mask")
		}
	}
}

// Text that never comes to its server, because it expires on the way, say.
func TestUnacknowledgedTextMakesRoom(t *testing.T) {
	e := New(Options{Limits: Limits{Ledger: 1 << 20}})
	all := hog(t, e, func(w *wireTest) bool {
		if w.sent[client] == 0 {
			w.talk("C: DATA\nS: 354 go")
		}
		d := w.send(client, strings.Repeat("text of a message\r\n", 50))
		return d != nil && d.Verdict == Accept
	})
	all[0].tick(textKept)
	w := connectOn(t, e)
	w.talk("S: 220 x\nC: NOOP\nS: 250 ok")
	w.want(client, "NOOP\n")
	w.done()
	if e.Counters().Forgotten == 0 {
		t.Error("nothing was forgotten")
	}
	for _, old := range all {
		if len(old.got[client].bytes) < 100 {
			continue // no text of it passed
		}
		d := old.raw(client, old.at(client, 6, "QUIT\r\n"+strings.Repeat("x", 30)))
		if d != nil && d.Verdict == Accept && string(d.Data[40:46]) == "QUIT\r\n" {
			t.Fatal("other text passes in the place of what was forgotten")
		}
	}
}
