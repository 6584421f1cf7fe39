package netns

import (
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// hello is the beginning of a session: greeting and EHLO.
var hello = []line{
	{"S", "220 mx20 ESMTP\r\n", "220 **20******\r\n"},
	{"C", "EHLO client.example.org\r\n", "EHLO client.example.org\r\n"},
	{"S", "250-mx20\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-X-EXPS GSSAPI\r\n250 HELP\r\n",
		"250-mx20\r\n250-PIPELINING\r\n250-XXXXXXXA\r\n250-XXXXXXXXXXXXB\r\n250 XXXC\r\n"},
}

// mail is a transaction that passes as it is.
var mail = []line{
	{"C", "MAIL FROM:<alice@example.org>\r\n", "MAIL FROM:<alice@example.org>\r\n"},
	{"S", "250 2.1.0 ok\r\n", "250 2.1.0 ok\r\n"},
	{"C", "RCPT TO:<bob@example.net>\r\n", "RCPT TO:<bob@example.net>\r\n"},
	{"S", "250 2.1.5 ok\r\n", "250 2.1.5 ok\r\n"},
	{"C", "DATA\r\n", "DATA\r\n"},
	{"S", "354 go\r\n", "354 go\r\n"},
	{"C", "Subject: hi\r\n\r\nSTARTTLS | ..\r\n.\r\n", "Subject: hi\r\n\r\nSTARTTLS | ..\r\n.\r\n"},
	{"S", "250 2.0.0 queued\r\n", "250 2.0.0 queued\r\n"},
}

// quit ends a session.
var quit = []line{
	{"C", "QUIT\r\n", "QUIT\r\n"},
	{"S", "221 2.0.0 bye\r\n", "221 2.0.0 bye\r\n"},
}

// What a session looks like to either end, in the records and in the counters.
func TestLiveSession(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e := connect(t, w.Lab, f.server)
			e.talk(t, hello...)
			e.talk(t, []line{
				{"C", "XCLIENT ADDR=1\r\n", "XXXXXXXXXXXXXX\r\n"},
				{"S", "500 5.5.2 what\r\n", "500 5.5.2 what\r\n"},
				{"C", "starttls\r\n", "XXXXXXXX\r\n"},
				{"S", "500 5.5.2 what\r\n", "500 5.5.2 what\r\n"},
				{"C", "MAIL FROM:<a<b@example.org>\r\n", "MAIL FROM:<a b@example.org>\r\n"},
				{"S", "501 5.1.7 bad\r\n", "501 5.1.7 bad\r\n"},
			}...)
			e.talk(t, mail...)
			e.talk(t, quit...)
			e.finish(t)
			w.checkRecords(t, e.address(),
				"built",
				"unknown-command request mask unknown-command XCLIENT ADDR=1",
				"unknown-command request mask unknown-command starttls",
				"replaced request mask address-character MAIL FROM:<a<b@example.org>",
				"teardown TCP FINs")
			if r := w.records(t, e.address())[0]; r.ClientInterface != "outside" {
				t.Errorf("the client's interface is %s, want outside", r.ClientInterface)
			}
		})
	}
	w.checkCounts(t, counts{"mask-banner": 2, "unknown-command": 4, "address-character": 2, "match ehlo-reply-parameter others": 6})
}

// Every byte in a segment of its own, as telnet in character mode sends them
// (asa.md 2.1): a mail passes, and of a forbidden command no more than what
// could have become an allowed one.
func TestLiveBytewise(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e := connect(t, w.Lab, f.server)
			for _, l := range bytewise() {
				near, far := e.of(t, l.side)
				for i := range len(l.sent) {
					write(t, near, l.sent[i:i+1])
					want(t, far, l.arrives[i:i+1])
				}
			}
			e.finish(t)
			w.checkRecords(t, e.address(),
				"built",
				"unknown-command request mask unknown-command STARTTLS",
				"unknown-command request mask unknown-command XFOO",
				"teardown TCP FINs")
		})
	}
	w.checkCounts(t, counts{"mask-banner": 2, "unknown-command": 4, "match ehlo-reply-parameter others": 6})
}

// bytewise is a session whose forbidden words arrive otherwise when their bytes
// come one by one: what has passed cannot be taken back.
func bytewise() []line {
	lines := append([]line{}, hello[:2]...)
	// S begins SIZE, X and H begin no keyword that passes. The end of a keyword
	// comes too late for its letter.
	lines = append(lines, line{"S", "250-mx20\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-X-EXPS\r\n250 HELP\r\n",
		"250-mx20\r\n250-PIPELINING\r\n250-SXXXXXXX\r\n250-XXXXXX\r\n250 XXXX\r\n"})
	lines = append(lines,
		line{"C", "STARTTLS\r\n", "SXXXXXXX\r\n"}, // S begins SEND
		line{"S", "500 what\r\n", "500 what\r\n"},
		line{"C", "XFOO\r\n", "XXXX\r\n"},
		line{"S", "500 what\r\n", "500 what\r\n"})
	lines = append(lines, mail...)
	return append(lines, quit...)
}
