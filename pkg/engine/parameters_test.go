package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// found is an event in one line: rule, action, place, numbers, detail, text.
func found(ev Event) string {
	s := ev.Rule
	if s == "" {
		s = "notice"
	}
	s += fmt.Sprintf(" [%s] %c@%d", ev.Do, "CS"[ev.Side], ev.Offset)
	if ev.Limit > 0 {
		s += fmt.Sprintf(" %d>%d", ev.Value, ev.Limit)
	}
	if ev.Detail != "" {
		s += " " + ev.Detail
	}
	if ev.Text != "" {
		s += fmt.Sprintf(" %q", ev.Text)
	}
	if ev.NotForwarded {
		s += " (not forwarded)"
	}
	return s
}

// findings lists all events but those of the connection's beginning and end.
func (w *wireTest) findings() (all []string) {
	for _, ev := range w.events {
		if ev.Kind != EventBuilt && ev.Kind != EventTeardown {
			all = append(all, found(ev))
		}
	}
	return all
}

const (
	replaced = "address-character [mask log] "
	waited   = "a command did not wait for the reply before it"
	unasked  = "a command did not wait, and the server had not announced PIPELINING"
)

// TestParameters: what each parameter, and what holds without one, does and
// says. Server and client are what each of them gets.
func TestParameters(t *testing.T) {
	tests := []struct {
		name, parameters, talk, server, client string
		events                                 []string
		counted                                func(*Counters) uint64 // nil: of which nothing is said
		count                                  uint64
	}{
		{"mail-relay: own domain, below it, another", "mail-relay example.org action drop-connection log",
			"S: 220 x\nC: RCPT TO:<b@example.org>\nS: 250 ok\nC: RCPT TO:<c@mx.EXAMPLE.org>\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 250 ok",
			"RCPT TO:<b@example.org>\nRCPT TO:<c@mx.EXAMPLE.org>\n", "220 x\n250 ok\n250 ok\n",
			[]string{`mail-relay [drop-connection log] C@75 No Mail Relay allowed "b@example.com"`}, parameterCount(policy.MailRelay), 1},
		{"mail-relay, log: each recipient", "mail-relay example.org action log",
			"S: 220 x\nC: RCPT TO:<b@c>\nS: 250 ok\nC: RCPT TO:<postmaster>\nS: 250 ok\nC: RCPT TO:<a%b@example.org>\nS: 250 ok",
			"RCPT TO:<b@c>\nRCPT TO:<postmaster>\nRCPT TO:<a%b@example.org>\n", "220 x\n250 ok\n250 ok\n250 ok\n",
			[]string{`mail-relay [log] C@12 No Mail Relay allowed "b@c"`, `mail-relay [log] C@61 No Mail Relay allowed "a%b@example.org"`},
			parameterCount(policy.MailRelay), 2},
		{"no mail-relay", "no mail-relay", "S: 220 x\nC: RCPT TO:<b@c>", "RCPT TO:<b@c>\n", "220 x\n", nil, parameterCount(policy.MailRelay), 0},
		{"special-character", "special-character action drop-connection log", "S: 220 x\nC: MAIL FROM:<a`b@c>",
			"", "220 x\n", []string{"special-character [drop-connection log] C@12 a back quote or NUL in a mail address \"MAIL FROM:<a`\""},
			parameterCount(policy.SpecialCharacter), 1},
		{"special-character, log: a NUL becomes a space all the same", "special-character action log", "S: 220 x\nC: MAIL FROM:<a\x00b@c>",
			"MAIL FROM:<a b@c>\n", "220 x\n", []string{`special-character [log] C@12 a back quote or NUL in a mail address "MAIL FROM:<a\x00"`,
				replaced + `C@18 "MAIL FROM:<a\x00b@c>"`}, parameterCount(policy.SpecialCharacter), 1},
		{"no special-character", "no special-character", "S: 220 x\nC: MAIL FROM:<a`b@c>", "MAIL FROM:<a`b@c>\n", "220 x\n", nil,
			parameterCount(policy.SpecialCharacter), 0},
		{"require-tls: each command, and no password in the record", "allow-tls\n  require-tls",
			"S: 220 x\nC: MAIL FROM:<a@b>\nS: 500 no\nC: auth PLAIN AGEAYg==\nS: 500 no\nC: NOOP\nS: 250 ok",
			strings.Repeat("X", 15) + "\n" + strings.Repeat("X", 19) + "\nNOOP\n", "220 x\n500 no\n500 no\n250 ok\n",
			[]string{`require-tls [mask log] C@16 a command that passes inside TLS only "MAIL FROM:<a@b>"`,
				`require-tls [mask log] C@37 a command that passes inside TLS only "auth PLAIN"`}, parameterCount(policy.RequireTLS), 2},
		{"behind QUIT: one record, each counted", "", "S: 220 x\nC: QUIT\nS: 221 bye\nC: NOOP\nC: RSET",
			"QUIT\nXXXX\nXXXX\n", "220 x\n221 bye\n", []string{`after-quit [mask log] C@11 a command behind the reply to QUIT "NOOP"`,
				"pipelining [log] C@12 " + unasked},
			func(c *Counters) uint64 { return c.AfterQuit }, 2},
		{"pipelining allow log: the first, unless it was announced", "pipelining allow log", "S: 220 x\nC: NOOP\nC: RSET\nC: NOOP",
			"NOOP\nRSET\nNOOP\n", "220 x\n", []string{"pipelining [log] C@6 " + unasked}, parameterCount(policy.Pipelining), 1},
		{"pipelining allow log: announced", "pipelining allow log", "S: 220 x\nC: EHLO a\nS: 250-x\nS: 250 PIPELINING\nC: RSET\nC: RSET",
			"EHLO a\nRSET\nRSET\n", "220 x\n250-x\n250 PIPELINING\n", nil, parameterCount(policy.Pipelining), 0},
		{"pipelining allow: counted, no record", "pipelining allow", "S: 220 x\nC: NOOP\nC: RSET",
			"NOOP\nRSET\n", "220 x\n", []string{"pipelining [] C@6 " + unasked}, parameterCount(policy.Pipelining), 1},
		{"pipelining mask log: each, announced or not", "pipelining mask log",
			"S: 220 x\nC: EHLO a\nS: 250-x\nS: 250 PIPELINING\nC: RSET\nC: RSET\nC: VRFY\nS: 250 ok\nS: 500 no\nS: 500 no\nC: RSET",
			"EHLO a\nRSET\nXXXX\nXXXX\nRSET\n", "220 x\n250-x\n250 PIPELINING\n250 ok\n500 no\n500 no\n",
			[]string{"pipelining [mask log] C@14 " + waited, "pipelining [mask log] C@20 " + waited}, parameterCount(policy.Pipelining), 2},
		{"pipelining drop-connection: announced or not", "pipelining drop-connection log",
			"S: 220 x\nC: EHLO a\nS: 250-x\nS: 250 PIPELINING\nC: RSET\nC: RSET\nS: 250 ok",
			"EHLO a\nRSET\n", "220 x\n250-x\n250 PIPELINING\n250 ok\n", []string{"pipelining [drop-connection log] C@14 " + waited}, parameterCount(policy.Pipelining), 1},
		{"before the greeting nothing is masked", "pipelining mask log", "C: EHLO a\nS: 220 x",
			"EHLO a\n", "220 x\n", []string{"pipelining [log] C@0 a command came before the greeting"}, parameterCount(policy.Pipelining), 1},
		{"before the greeting it may end; the greeting is owed", "pipelining drop-connection log", "C: EHLO a\nS: 220 x\nS: 250 x",
			"", "220 x\n", []string{"pipelining [drop-connection log] C@0 a command came before the greeting"}, parameterCount(policy.Pipelining), 1},
		{"bare-newline mask: one record a line", "bare-newline mask log", "S: 220 x\nC: NOOP a\nb\nc\nC: NOOP",
			"XXXXXXXXXX\nNOOP\n", "220 x\n", []string{`bare-newline [mask log] C@6 a CR or LF that is no part of CR LF in a command "NOOP a"`,
				"pipelining [log] C@12 " + unasked}, parameterCount(policy.BareNewline), 2},
		{"a reply that its command does not take", "", "S: 220 x\nC: DATA\nS: 250 ok", "DATA\n", "220 x\n250 ok\n",
			[]string{"notice [log] S@14 reply 250 to DATA"}, func(c *Counters) uint64 { return c.Transitions }, 1},
		{"a reply that answers nothing", "", "S: 220 x\nS: 250 ok", "", "220 x\n250 ok\n",
			[]string{"notice [log] S@14 reply 250 answers no command"}, func(c *Counters) uint64 { return c.UnexpectedReplies }, 1},
		{"a reply line of 512 octets", "", "S: 220 " + strings.Repeat("x", 506), "", "220 " + strings.Repeat("x", 506) + "\n", nil,
			func(c *Counters) uint64 { return c.LongReplies }, 0},
		{"and of 513", "", "S: 220 " + strings.Repeat("x", 507), "", "220 " + strings.Repeat("x", 507) + "\n",
			[]string{"notice [log] S@512 513>512 a reply line is longer than clients must take"}, func(c *Counters) uint64 { return c.LongReplies }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := connect(t, Options{Map: parseMap(t, "  "+tt.parameters+"\n", "")})
			for _, l := range talkLines(tt.talk) {
				if d := w.send(l.dir, l.data); d.Verdict == Drop {
					w.sent[l.dir] -= len(l.data) // nobody acknowledges it
				}
			}
			w.want(client, tt.server)
			w.want(server, tt.client)
			if diff := cmp.Diff(tt.events, w.findings()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if c := w.e.Counters(); tt.counted(&c) != tt.count {
				t.Errorf("counted %d, want %d", tt.counted(&c), tt.count)
			}
			w.done()
		})
	}
}

// parameterCount is the counter of a parameter.
func parameterCount(p policy.Parameter) func(*Counters) uint64 {
	return func(c *Counters) uint64 { return c.Parameters[p] }
}

// talkLines reads lines as parseTalk does, but a line that begins with neither
// "C: " nor "S: " belongs, behind a bare LF, to the one before it.
func talkLines(talk string) (lines []flight) {
	for _, line := range strings.Split(talk, "\n") {
		if n := len(lines); n > 0 && !strings.HasPrefix(line, "C: ") && !strings.HasPrefix(line, "S: ") {
			lines[n-1].data = strings.TrimSuffix(lines[n-1].data, "\r\n") + "\n" + line + "\r\n"
			continue
		}
		lines = append(lines, parseTalk(line)...)
	}
	return lines
}

// TestCountUnclear: a count that the server has got and that goes on against its
// syntax is undecided; open, the rest passes unread.
func TestCountUnclear(t *testing.T) {
	const why = " C@14 what follows the count of a BDAT or XEXCH50 line is no syntax for it"
	for _, tt := range []struct {
		undecided Undecided
		server    string
		event     string
	}{
		{UndecidedClosed, "EHLO a\nBDAT 1", "undecided [drop-connection log]" + why},
		{UndecidedOpen, "EHLO a\nBDAT 1x\nXFOO\n", "undecided [log]" + why},
	} {
		w := connect(t, Options{Map: parseMap(t, "  allow-bdat\n", ""), Undecided: tt.undecided})
		w.talk("S: 220 x\nC: EHLO a\nS: 250-x\nS: 250 CHUNKING")
		w.send(client, "BDAT 1")
		w.send(client, "x\r\nXFOO\r\n") // open: nothing behind the octet is read any more
		w.want(client, tt.server)
		if diff := cmp.Diff([]string{tt.event}, w.findings()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if n := w.e.Counters().Undecided; n != 1 {
			t.Errorf("counted %d", n)
		}
		w.done()
	}
}

// TestNotForwarded: what is masked in a packet that a later octet of it keeps
// from being sent on was not masked for anybody.
func TestNotForwarded(t *testing.T) {
	const parameters, matches = "  mask-banner\n", " match ehlo-reply-parameter others\n  mask log\n match ehlo-reply-parameter size\n  drop-connection log\n" +
		" match cmd line length gt 40\n  reset log\n match cmd verb NOOP\n  log\n"
	pipe := `address-pipe [drop-connection log] C@%d "MAIL FROM:<|"`
	tests := []struct {
		name   string
		talk   []flight
		events []string
	}{
		{"in packets of their own", []flight{{server, "220 x\r\n"}, {client, "XFOO\r\n"}, {server, "500 no\r\n"}, {client, "MAIL FROM:<|>\r\n"}},
			[]string{`unknown-command [mask log] C@5 "XFOO"`, fmt.Sprintf(pipe, 17)}},
		{"in one", []flight{{server, "220 x\r\n"}, {client, "XFOO\r\nRCPT TO:<a<b>\r\nNOOP\r\nMAIL FROM:<|>\r\n"}},
			[]string{`unknown-command [mask log] C@5 "XFOO" (not forwarded)`, "pipelining [log] C@6 " + unasked,
				replaced + `C@20 "RCPT TO:<a<b>" (not forwarded)`, `cmd verb NOOP [log] C@25`, fmt.Sprintf(pipe, 38)}},
		{"ended by reset", []flight{{server, "220 x\r\n"}, {client, "XFOO\r\n" + strings.Repeat("a", 40) + "\r\n"}},
			[]string{`unknown-command [mask log] C@5 "XFOO" (not forwarded)`, "pipelining [log] C@6 " + unasked,
				`cmd line length gt 40 [reset log] C@46 41>40 "` + strings.Repeat("a", 40) + `"`}},
		{"a reply", []flight{{server, "220 x\r\n"}, {client, "EHLO a\r\n"}, {server, "250-x\r\n250-FOO\r\n"}, {server, "250-BAR\r\n250 SIZE\r\n"}},
			[]string{`ehlo-reply-parameter others [mask log] S@22 "FOO"`, `ehlo-reply-parameter others [mask log] S@31 "BAR" (not forwarded)`,
				`ehlo-reply-parameter size [drop-connection log] S@41 "SIZE"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := connect(t, Options{Map: parseMap(t, parameters, matches)})
			for _, f := range tt.talk {
				w.send(f.dir, f.data)
			}
			if diff := cmp.Diff(tt.events, w.findings()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			w.done()
		})
	}
}

// TestForwardedBeforeTheEnd: of two held packets that one reply sets free, the
// second ends the session; the mask of the first was sent on.
func TestForwardedBeforeTheEnd(t *testing.T) {
	w := connect(t, Options{})
	w.talk("S: 220 x\nC: DATA")
	w.raw(client, w.at(client, 6, "XFOO\r\n"))
	w.raw(client, w.at(client, 12, "MAIL FROM:<|>\r\n"))
	w.talk("S: 503 no")
	w.want(client, "DATA\nXXXX\n")
	want := []string{`unknown-command [mask log] C@11 "XFOO"`, "pipelining [log] C@12 " + unasked,
		`address-pipe [drop-connection log] C@23 "MAIL FROM:<|"`}
	if diff := cmp.Diff(want, w.findings()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	w.done()
}

// TestEndedStaysEnded: a session that the policy has ended waits for the replies
// it is owed; one that nobody can read does not open it again, and is no second
// end.
func TestEndedStaysEnded(t *testing.T) {
	w := connect(t, Options{Undecided: UndecidedOpen})
	w.talk("S: 220 x\nC: NOOP\nC: MAIL FROM:<|>")
	w.sent[client] = len("NOOP\r\n") // the server acknowledges what it got
	w.talk("S: 354 go")
	if d := w.send(client, "XFOO\r\n"); d.Verdict != Drop || d.Mark != MarkNone {
		t.Errorf("new bytes of an ended session: %+v", d)
	}
	w.want(client, "NOOP\n")
	w.want(server, "220 *\n")
	if c := w.e.Counters(); c.EndedByDrop != 1 || c.Offloaded != 0 || c.Undecided != 1 {
		t.Errorf("%d ended, %d offloaded, %d undecided", c.EndedByDrop, c.Offloaded, c.Undecided)
	}
	w.done()
}

// TestNothingBehindTheEnd: of the packet that ended a session, or its inspection,
// nothing more is said.
func TestNothingBehindTheEnd(t *testing.T) {
	tests := []struct {
		name, matches string
		opt           Options
		talk          []flight
		events        []string
	}{
		{"the line that ended it is an unknown command too", " match cmd line length gt 12\n  drop-connection log\n match not cmd verb NOOP\n  log\n", Options{},
			[]flight{{server, "220 x\r\n"}, {client, "XFOO abcdef\r\n"}},
			[]string{`cmd line length gt 12 [drop-connection log] C@12 13>12 "XFOO abcdef\r"`}},
		{"an unread session", "", Options{Undecided: UndecidedOpen},
			[]flight{{server, "220 x\r\n"}, {client, "NOOP\r\n"}, {server, "354 go\r\n250 ok\r\n250 more\r\n"}, {client, "XFOO\r\n"}},
			[]string{"undecided [log] S@14 reply 354 without the command it belongs to"}},
	}
	for _, tt := range tests {
		tt.opt.Map = parseMap(t, "", tt.matches)
		w := connect(t, tt.opt)
		for _, f := range tt.talk {
			w.send(f.dir, f.data)
		}
		if diff := cmp.Diff(tt.events, w.findings()); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", tt.name, diff)
		}
		w.done()
	}
}

// TestWithoutSecret: a record of an AUTH command names its mechanism and no more.
func TestWithoutSecret(t *testing.T) {
	tests := []struct{ line, want string }{
		{"AUTH PLAIN AGEAYg==", "AUTH PLAIN"},
		{"auth\tlogin\tYQ==", "auth\tlogin"},
		{"AUTH  PLAIN  AGEAYg==\nQUIT", "AUTH  PLAIN"},
		{"X-EXPS LOGIN YQ==", "X-EXPS LOGIN"},
		{"AUTH PLAIN", "AUTH PLAIN"},
		{"AUTH ", "AUTH "},
		{"AUTH", "AUTH"},
		{"AUTHOR a b", "AUTHOR a b"},
		{"MAIL FROM:<a@b> AUTH=<> SIZE=1", "MAIL FROM:<a@b> AUTH=<> SIZE=1"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := string(withoutSecret([]byte(tt.line))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.line, got, tt.want)
		}
	}
}

// TestJudgeDoesNotAllocate: facts that no line applies to cost nothing, nor does
// a rate-limit that is not reached.
func TestJudgeDoesNotAllocate(t *testing.T) {
	e := New(Options{Map: parseMap(t, "  mail-relay b.example action log\n", ` match cmd verb NOOP
  rate-limit 2
 match not cmd line length gt 10
  drop-connection
 match not sender-address length gt 3
  drop-connection
 match MIME encoding base64
  drop-connection
`)})
	w := connectOn(t, e)
	w.talk("S: 220 x")
	exchange := func(command, reply string) func() {
		bufs := [2][]byte{w.packet(client, w.at(client, 0, command)), w.packet(server, w.at(server, 0, reply))}
		p := &Packet{ID: 1}
		return func() {
			w.now += 600_000_000 // beyond half a second: two a second are never reached
			for dir, buf := range bufs {
				putSeq(buf, w.isn[dir]+1+uint32(w.sent[dir]), w.isn[1-dir]+1+uint32(w.sent[1-dir]))
				w.sent[dir] += len([2]string{command, reply}[dir])
				p.Time, p.Data = w.now, buf
				if ds := e.Process(p); len(ds) != 1 || ds[0].Verdict != Accept {
					t.Fatalf("decisions %+v", ds)
				}
			}
		}
	}
	for _, command := range []string{"NOOP abcdefgh\r\n", "MAIL FROM:<ab@cd>\r\n", "RCPT TO:<a@b.example>\r\n"} {
		f := exchange(command, "250 ok\r\n")
		for range 5 {
			f()
		}
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%q: %v allocations", command, n)
		}
	}
	if got := w.findings(); got != nil {
		t.Errorf("events %v", got)
	}
}
