package netns

import (
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// policyWith is a policy file whose only map has these lines.
func policyWith(lines string) string {
	return "policy-map type inspect esmtp test\n" + lines + `
class-map inspection_default
 match queue 0-3
policy-map global_policy
 class inspection_default
  inspect esmtp test
service-policy global_policy global
`
}

// ended checks what drop-connection leaves of a connection on which the client's
// last segment is unacknowledged: no conntrack entry, so that the kernel drops
// what the client repeats and the queue sees none of it; nothing at the server.
func (w *wall) ended(t *testing.T, e ends) {
	t.Helper()
	eventually(t, "the conntrack entry is gone", func() bool { return !w.tracked(t, e.address()) })
	queued, invalid := w.queued(t), counter(t, w.Lab, "invalid")
	eventually(t, "the kernel drops a repeated segment as invalid", func() bool { return counter(t, w.Lab, "invalid") > invalid })
	if n := w.queued(t) - queued; n > 0 {
		t.Errorf("%d packets came to the queue after the end", n)
	}
	nothingToRead(t, e.server)
}

// After drop-connection nothing more passes to the server; replies that it owes
// still reach the client. Only then is the conntrack entry deleted.
func TestLiveDropConnection(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run("replies owed "+f.name, func(t *testing.T) {
			e := connect(t, w.Lab, f.server)
			e.talk(t, hello...)
			const two = "MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\n"
			e.talk(t, line{"C", two, two})
			write(t, e.client, "RCPT TO:<|decode>\r\n")
			w.awaitRecord(t, e.address(), "malicious request drop-connection address-pipe RCPT TO:<|")
			nothingToRead(t, e.server)
			if !w.tracked(t, e.address()) {
				t.Error("the conntrack entry is gone before the replies")
			}
			const replies = "250 2.1.0 ok\r\n250 2.1.5 ok\r\n"
			e.talk(t, line{"S", replies, replies})
			w.ended(t, e)
			w.checkRecords(t, e.address(),
				"built",
				"malicious request drop-connection address-pipe RCPT TO:<|",
				"terminated address-pipe inspector disconnected, dropped packet.",
				"teardown address-pipe Flow closed by inspection")
		})
		t.Run("none owed "+f.name, func(t *testing.T) {
			e := connect(t, w.Lab, f.server)
			e.talk(t, hello...)
			write(t, e.client, "NOOP a\nXCLIENT b\r\n")
			w.ended(t, e)
			w.checkRecords(t, e.address(),
				"built",
				"parameter request drop-connection bare-newline NOOP a",
				"terminated bare-newline inspector disconnected, dropped packet.",
				"teardown bare-newline Flow closed by inspection")
		})
	}
	w.checkCounts(t, counts{"mask-banner": 4, "address-pipe": 2, "bare-newline drop-connection log": 2, "match ehlo-reply-parameter others": 12})
}

// reset ends the connection at both ends, whichever side gave the reason.
func TestLiveReset(t *testing.T) {
	w := newWall(t, lab.Options{}, policyWith(" parameters\n  allow-tls\n  tls-injection reset log\n match cmd line length gt 100\n  reset log"))
	long := "NOOP " + strings.Repeat("a", 94) + "\r\n" // 101 bytes
	startTLS := line{"C", "STARTTLS\r\n", "STARTTLS\r\n"}
	for _, f := range families {
		for _, c := range []struct {
			name, side, text string
			before           []line
			record, rule     string
		}{
			{"by the client", "C", long, nil,
				"match request reset cmd line length gt 100 NOOP " + strings.Repeat("a", 94) + `\r`, "cmd line length gt 100"},
			{"by a long packet of the client", "C", strings.Repeat(long, 100), nil, // 10100 bytes: seven segments
				"match request reset cmd line length gt 100 NOOP " + strings.Repeat("a", 94) + `\r`, "cmd line length gt 100"},
			{"by the server", "S", "220 go\r\n250 in the clear\r\n", []line{startTLS},
				"parameter response reset tls-injection", "tls-injection"},
		} {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				e := connect(t, w.Lab, f.server)
				e.talk(t, line{"S", "220 mx\r\n", "220 mx\r\n"})
				e.talk(t, c.before...)
				near, far := e.of(t, c.side)
				write(t, near, c.text)
				wantError(t, far, syscall.ECONNRESET)
				wantError(t, near, syscall.ECONNRESET)
				eventually(t, "the conntrack entry is gone", func() bool { return !w.tracked(t, e.address()) })
				w.checkRecords(t, e.address(), "built", c.record, "terminated "+c.rule+" inspector drop reset.", "teardown "+c.rule+" TCP Reset-APPLIANCE")
			})
		}
	}
	w.checkCounts(t, counts{"reset_drop": 6, "match cmd line length gt 100": 4, "tls-injection reset log": 2})
	if n := counter(t, w.Lab, "resets"); n < 6 {
		t.Errorf("counter resets is %d, want one for each connection", n)
	}
}
