package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

const (
	client = flow.Original
	server = flow.Reply
)

func TestDialogueThroughPackets(t *testing.T) {
	for _, addr := range []string{"4", "6"} {
		t.Run(addr, func(t *testing.T) {
			w := newWire(t, Options{})
			if addr == "6" {
				w = newWire6(t)
			}
			w.handshake()
			w.talk(`
				S: 220 mail2.example.net
				C: EHLO a.example
				S: 250-mx
				S: 250-PIPELINING
				S: 250 STARTTLS
				C: STARTTLS
				S: 500 what?
				C: MAIL FROM:<a@b>
				S: 250 ok
				C: RCPT TO:<c<d@e>
				S: 250 ok
				C: DATA
				S: 354 go`)
			w.send(client, "Subject: hi\r\n\r\nhello\r\n.\r\n")
			w.talk("S: 250 queued\nC: QUIT\nS: 221 bye")
			w.want(client, "EHLO a.example\nXXXXXXXX\nMAIL FROM:<a@b>\nRCPT TO:<c d@e>\nDATA\nSubject: hi\n\nhello\n.\nQUIT\n")
			w.want(server, "220 ****2************\n250-mx\n250-PIPELINING\n250 XXXXXXXA\n500 what?\n250 ok\n250 ok\n354 go\n250 queued\n221 bye\n")
			w.fin(server)
			w.fin(client)
			w.done()
			want := []string{"built", "match 7 ehlo-reply-parameter others@60", `unknown "STARTTLS"`, `replaced "RCPT TO:<c<d@e>"`, "teardown 1"}
			if diff := cmp.Diff(want, w.log()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if len(w.drops) > 0 {
				t.Errorf("drops: %v", w.drops)
			}
			if c := w.e.Counters(); c.LedgerBytes != 0 || c.Flows != 0 {
				t.Errorf("left behind: %d ledger bytes, %d flows", c.LedgerBytes, c.Flows)
			}
		})
	}
}

// Client bytes behind DATA wait for the reply, which says how to read them.
func TestBytesBehindDATAWait(t *testing.T) {
	for _, c := range []struct{ reply, server string }{
		{"354 go", "DATA\nXFOO\n"},
		{"503 no", "DATA\nXXXX\n"},
	} {
		w := connect(t, Options{})
		w.talk("S: 220 x\nC: DATA")
		if d := w.raw(client, w.at(client, 6, "XFOO\r\n")); d != nil {
			t.Fatalf("decided before the reply: %+v", d)
		}
		w.talk("S: " + c.reply)
		w.sent[client] += 6
		w.want(client, c.server)
		w.done()
	}
}

func TestDropConnection(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: MAIL FROM:<a@b>")
	d := w.send(client, "RCPT TO:<|x>\r\n")
	if d == nil || d.Verdict != Drop || d.Reason != ReasonPolicy {
		t.Fatalf("decision %+v", d)
	}
	if k := w.e.TakeKills(); len(k) > 0 {
		t.Error("conntrack entry deleted while a reply is owed")
	}
	if d := w.raw(client, w.at(client, 0, "MAIL FROM:<a@b>\r\n")); d.Verdict != Accept {
		t.Error("what the server was to get before is refused when it is repeated")
	}
	if d := w.send(client, "QUIT\r\n"); d.Verdict != Drop {
		t.Error("new bytes passed")
	}
	w.sent[client] = len("MAIL FROM:<a@b>\r\n")
	if d := w.send(server, "250 ok\r\n"); d.Verdict != Accept {
		t.Errorf("an owed reply did not pass: %+v", d)
	}
	if d := w.raw(server, w.at(server, w.sent[server]-8, "250 ok\r\n")); d.Verdict != Accept {
		t.Errorf("its retransmission did not pass: %+v", d)
	}
	w.tick(4 * time.Second)
	if k := w.e.TakeKills(); len(k) != 1 || k[0] != (flow.Tuple{Client: w.addr[0], Server: w.addr[1]}) {
		t.Errorf("kills %v", k)
	}
	if d := w.send(server, "250 ok\r\n"); d.Verdict != Drop {
		t.Error("a reply passed that nothing is owed for")
	}
	w.want(client, "MAIL FROM:<a@b>\n")
	w.want(server, "220 *\n250 ok\n")
	want := []string{"built", "parameter pipelining@17", `malicious "RCPT TO:<|"`, "teardown 3"}
	if diff := cmp.Diff(want, w.log()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	// The tombstone gives way to a new connection.
	w.isn[0] += 1000
	if d := w.raw(client, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]}); d.Verdict != Accept {
		t.Error("a new SYN was refused")
	}
	w.done()
}

// Commands of the packet that ends a session never reach the server: no reply is
// owed to them.
func TestDropConnectionCountsWhatTheServerGot(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: NOOP")
	w.raw(client, w.at(client, 6, "NOOP\r\nNOOP\r\nRCPT TO:<|>\r\n"))
	w.send(server, "250 ok\r\n")
	w.tick(4 * time.Second)
	if k := w.e.TakeKills(); len(k) != 1 {
		t.Errorf("kills %v after the last owed reply", k)
	}
	w.want(server, "220 *\n250 ok\n")
	w.done()
}

// More commands than may await a reply: the packet is dropped before a byte of
// it is read, and passes when TCP repeats it after the replies.
func TestTooManyPending(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x")
	for range 10 {
		w.send(client, strings.Repeat("NOOP\r\n", 100))
	}
	more := w.at(client, w.sent[client], strings.Repeat("NOOP\r\n", 25))
	if d := w.raw(client, more); d.Verdict != Drop || d.Reason != ReasonPending {
		t.Fatalf("decision %+v", d)
	}
	w.send(server, strings.Repeat("250 ok\r\n", 1000))
	w.sent[client] += len(more.payload)
	if d := w.raw(client, more); d.Verdict != Accept {
		t.Fatalf("decision %+v", d)
	}
	w.want(client, strings.Repeat("NOOP\n", 1025))
	w.done()
}

func TestReset(t *testing.T) {
	cfg := mustParse(t, "match cmd line length gt 512\n  reset log")
	w := connect(t, Options{Map: cfg})
	w.talk("S: 220 x")
	d := w.send(client, "NOOP "+strings.Repeat("a", 600)+"\r\n")
	if d == nil || d.Verdict != Accept || !d.Edited || w.rsts != 1 {
		t.Fatalf("no RST for the server: %+v, %d", d, w.rsts)
	}
	if d := w.raw(client, w.at(client, 0, "NOOP")); d.Mark != MarkReset {
		t.Errorf("no RST for the client: %+v", d)
	}
	if k := w.e.TakeKills(); len(k) != 1 {
		t.Errorf("kills %v", k)
	}
	if d := w.send(server, "500 x\r\n"); d.Mark != MarkReset {
		t.Errorf("a reply passed: %+v", d)
	}
	w.want(client, "")
	if diff := cmp.Diff([]string{"built", "match 1 cmd line length gt 512@512", "teardown 4"}, w.log()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	w.done()
}

func mustParse(t *testing.T, match string) *policy.Map {
	t.Helper()
	cfg, err := policy.Parse("test", []byte("policy-map type inspect esmtp m\n parameters\n  mask-banner\n  allow-tls action log\n "+match+
		"\nclass-map c\n match queue 0\npolicy-map p\n class c\n  inspect esmtp m\nservice-policy p global\n"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Classes[0].Map
}

func TestSTARTTLSOffloads(t *testing.T) {
	w := connect(t, Options{Map: mustParse(t, "match ehlo-reply-parameter others\n  mask")})
	w.talk("S: 220 x\nC: STARTTLS\nS: 220 go")
	w.send(client, "\x16\x03\x01\x02\x00\x01hello")
	if w.marks != 0 {
		t.Error("offloaded before the ServerHello")
	}
	if d := w.send(server, "\x16\x03\x03\x00\x7a\x02hello"); d.Mark != MarkOffload {
		t.Errorf("not offloaded: %+v", d)
	}
	if d := w.send(client, "RCPT TO:<|>\r\n"); d.Mark != MarkOffload || d.Edited {
		t.Errorf("decision %+v", d)
	}
	if c := w.e.Counters(); c.TLSStarted != 1 || c.Offloaded != 1 {
		t.Errorf("%d sessions encrypted, %d offloaded", c.TLSStarted, c.Offloaded)
	}
	if diff := cmp.Diff([]string{"built", "tls"}, w.log()); diff != "" {
		t.Error(diff)
	}
	// The kernel has taken the connection over, so that its end is not seen: the
	// next one from the same port is inspected all the same.
	for i := range w.isn {
		w.isn[i] += 100_000
		w.sent[i] = 0
		w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
	}
	w.handshake()
	w.talk("S: 220 x\nC: XFOO")
	w.want(client, "XXXX\n")
	w.done()
}

func TestUndecided(t *testing.T) {
	for _, open := range []Undecided{UndecidedClosed, UndecidedOpen} {
		w := connect(t, Options{Undecided: open})
		w.talk("S: 220 x\nC: NOOP\nS: 354 go")
		w.send(client, "XFOO\r\n")
		if open == UndecidedOpen {
			w.want(server, "220 *\n354 go\n")
			w.want(client, "NOOP\nXFOO\n")
			if c := w.e.Counters(); c.TLSStarted != 0 || c.Offloaded != 1 {
				t.Errorf("%d sessions encrypted, %d offloaded", c.TLSStarted, c.Offloaded)
			}
		} else {
			w.want(server, "220 *\n")
			w.want(client, "NOOP\n")
		}
		w.done()
	}
}

func TestProcessDoesNotAllocate(t *testing.T) {
	for _, name := range []string{policy.DefaultMapName, "modern_esmtp_map"} {
		t.Run(name, func(t *testing.T) { processDoesNotAllocate(t, policy.Default().Map(name)) })
	}
}

func processDoesNotAllocate(t *testing.T, m *policy.Map) {
	w := connect(t, Options{Map: m})
	w.talk("S: 220 x\nC: EHLO a\nS: 250 mx")
	var p Packet
	run := func(name string, f func()) {
		t.Helper()
		for range 5 {
			f()
		}
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	exchange := func(command, reply string) func() {
		bufs := [2][]byte{w.packet(client, w.at(client, 0, command)), w.packet(server, w.at(server, 0, reply))}
		return func() {
			for dir, buf := range bufs {
				putSeq(buf, w.isn[dir]+1+uint32(w.sent[dir]), w.isn[1-dir]+1+uint32(w.sent[1-dir]))
				w.sent[dir] += len([2]string{command, reply}[dir])
				p = Packet{ID: 1, Time: w.now, Data: buf}
				if ds := w.e.Process(&p); len(ds) != 1 || ds[0].Verdict != Accept {
					t.Fatalf("decisions %+v", ds)
				}
			}
		}
	}
	run("a command and its reply", exchange("VRFY someone@example.net\r\n", "250 2.1.5 Ok\r\n"))
	w.talk("C: DATA\nS: 354 go")
	w.send(client, "A: b\r\n\r\n")
	run("a body segment and its ACK", exchange(strings.Repeat(strings.Repeat("A", 76)+"\r\n", 18), ""))
}
