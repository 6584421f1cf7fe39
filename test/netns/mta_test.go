package netns

import (
	"bufio"
	"crypto/sha256"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// swaks lets swaks speak to Postfix from the client and returns the dialogue
// without the message: "-> " before what it sent, "~> " where that was encrypted,
// "<- " and "<~ " before what it got, "<** " where that is an error.
func swaks(t *testing.T, l *lab.Lab, server string, args ...string) []string {
	t.Helper()
	all := append([]string{
		"--server", net.JoinHostPort(server, "25"), "--ehlo", "client.example.org",
		"--from", "alice@example.org", "--to", "bob@example.net", "--timeout", "20", "--suppress-data", "--hide-informational",
	}, args...)
	out, err := l.Command(lab.Client, "swaks", all...).CombinedOutput()
	if err != nil {
		t.Fatalf("run swaks: %v (if it is missing, run `make deps`)\n%s", err, out)
	}
	var dialogue []string
	for text := range strings.Lines(string(out)) {
		text = variable.ReplaceAllString(strings.TrimSpace(text), "...")
		mark, text, _ := strings.Cut(text, " ")
		dialogue = append(dialogue, mark+" "+strings.TrimSpace(text))
	}
	return dialogue
}

// variable is what differs from one session to the next.
var variable = regexp.MustCompile(`\w+ lines sent|queued as \w+`)

// The beginning of a session with Postfix as the client sees it. XCLIENT is
// offered with nine words, 70 bytes in all.
var (
	maskedGreeting = "<- 220 **20" + strings.Repeat("*", 26) // mx20.example.net ESMTP Postfix
	maskedHello    = []string{
		maskedGreeting, "-> EHLO client.example.org",
		"<- 250-mx20.example.net", "<- 250-PIPELINING", "<- 250-SIZE 30000000", "<- 250-VRFY", "<- 250-ETRN",
		"<- 250-XXXXXXXA", "<- 250-AUTH LOGIN", "<- 250-" + strings.Repeat("X", 69) + "B",
		"<- 250-ENHANCEDSTATUSCODES", "<- 250-8BITMIME", "<- 250-DSN", "<- 250-XXXXXXXC", "<- 250 XXXXXXXD",
	}
	taken = []string{
		"-> MAIL FROM:<alice@example.org>", "<- 250 2.1.0 Ok", "-> RCPT TO:<bob@example.net>", "<- 250 2.1.5 Ok",
		"-> DATA", "<- 354 End data with <CR><LF>.<CR><LF>", "-> ...", "<- 250 2.0.0 Ok: ...",
		"-> QUIT", "<- 221 2.0.0 Bye",
	}
	takenPipelined = []string{
		"-> MAIL FROM:<alice@example.org>", "-> RCPT TO:<bob@example.net>", "-> DATA",
		"<- 250 2.1.0 Ok", "<- 250 2.1.5 Ok", "<- 354 End data with <CR><LF>.<CR><LF>", "-> ...", "<- 250 2.0.0 Ok: ...",
		"-> QUIT", "<- 221 2.0.0 Bye",
	}
	// Username: and Password: in base64, and the answers.
	login = []string{
		"-> AUTH LOGIN", "<- 334 VXNlcm5hbWU6", "-> YWxpY2U=", "<- 334 UGFzc3dvcmQ6", "-> c2VjcmV0",
		"<- 235 2.7.0 Authentication successful",
	}
)

// Postfix and swaks, through the firewall.
func TestMTAPostfix(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	p := newPostfix(t, w.Lab)
	file, text := filepath.Join(t.TempDir(), "message"), letter()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, c := range []struct {
			name     string
			args     []string
			dialogue []string // behind the reply to EHLO
			log      string   // what Postfix says
		}{
			{"lock-step", nil, taken, "client=unknown[" + f.client + "]"},
			{"pipelined", []string{"--pipeline"}, takenPipelined, "client=unknown[" + f.client + "]"},
			{"AUTH", []string{"--auth", "LOGIN", "--auth-user", loginUser, "--auth-password", loginPassword},
				append(login, taken...), "sasl_username=" + loginUser},
			{"XCLIENT and STARTTLS wanted", []string{"--xclient-addr", "192.0.2.1", "--xclient-optional", "--tls-optional"},
				append([]string{"*** Host did not advertise STARTTLS", "*** Host did not advertise XCLIENT"}, taken...), "client=unknown[" + f.client + "]"},
		} {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				before, logged := len(w.allRecords(t)), len(p.log.String())
				got := swaks(t, w.Lab, f.server, append(c.args, "--data", "@"+file)...)
				if diff := cmp.Diff(append(maskedHello, c.dialogue...), got); diff != "" {
					t.Errorf("dialogue: want (-), got (+):\n%s", diff)
				}
				checkLetter(t, text, p.takeMail(t))
				p.awaitLog(t, logged, c.log)
				compareRecords(t, []string{"built", "teardown TCP FINs"}, func() []record { return w.allRecords(t)[before:] })
			})
		}
	}
	w.checkCounts(t, counts{"mask-banner": 8, "match ehlo-reply-parameter others": 32})
}

// letter is a message of a megabyte with lines that would be commands elsewhere.
func letter() string {
	return "Message-Id: <letter@example.org>\n" + strings.ReplaceAll(string(message(1<<20)), "\r\n", "\n") +
		"STARTTLS\n. \n.\nXCLIENT ADDR=1\nRCPT TO:<|decode>\n\n" + strings.Repeat("x", 998) + "\nend"
}

// checkLetter compares what was delivered with what swaks was given: Postfix has
// put lines on top, and swaks ends the last one.
func checkLetter(t *testing.T, sent, delivered string) {
	t.Helper()
	_, tail, found := strings.Cut(delivered, "\nMessage-Id: <letter@")
	tail = "Message-Id: <letter@" + tail
	if !found || sha256.Sum256([]byte(tail)) != sha256.Sum256([]byte(sent+"\n")) {
		t.Errorf("the message was not delivered as it was sent: %d bytes, want %d; it begins\n%.1000s", len(tail), len(sent)+1, delivered)
	}
}

// lineClient is a client that waits for each reply.
type lineClient struct {
	net.Conn
	in *bufio.Reader
}

// dialMTA connects from the client to port 25 of the server.
func dialMTA(t *testing.T, l *lab.Lab, server string) lineClient {
	t.Helper()
	conn, err := l.Dial(lab.Client, net.JoinHostPort(server, "25"), liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	return lineClient{conn, bufio.NewReader(conn)}
}

// address is the client's address and port.
func (c lineClient) address() netip.AddrPort { return c.LocalAddr().(*net.TCPAddr).AddrPort() }

// reply reads the last line of the next reply.
func (c lineClient) reply(t *testing.T) string {
	t.Helper()
	for {
		text, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatalf("read a reply: %v", err)
		}
		if len(text) > 3 && text[3] != '-' {
			return strings.TrimSpace(text)
		}
	}
}

// What Postfix would obey reaches it as X, and the session goes on; a pipe in a
// recipient ends it.
func TestMTACommands(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	p := newPostfix(t, w.Lab)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			logged := len(p.log.String())
			c := dialMTA(t, w.Lab, f.server)
			if got := c.reply(t); "<- "+got != maskedGreeting {
				t.Errorf("greeting %q, want %q", got, maskedGreeting)
			}
			for _, turn := range []struct{ command, reply string }{
				{"EHLO client.example.org", "250 XXXXXXXD"},
				{"STARTTLS", "500 5.5.2 Error: command not recognized"},
				{"XCLIENT ADDR=192.0.2.1", "500 5.5.2 Error: command not recognized"},
				{"BDAT 5 LAST", "500 5.5.2 Error: command not recognized"},
				{"NOOP", "250 2.0.0 Ok"},
				{"MAIL FROM:<a<b@example.org>", "501 5.1.7 Bad sender address syntax"},
				{"MAIL FROM:<alice@example.org>", "250 2.1.0 Ok"},
				{"RCPT TO:<bob@example.net>", "250 2.1.5 Ok"},
			} {
				write(t, c, turn.command+"\r\n")
				if got := c.reply(t); got != turn.reply {
					t.Errorf("%s is answered %q, want %q", turn.command, got, turn.reply)
				}
			}
			write(t, c, "RCPT TO:<|decode>\r\n")
			p.awaitLog(t, logged, "in MAIL command: <a b@example.org>")
			w.checkRecords(t, c.address(),
				"built",
				"unknown-command request mask unknown-command STARTTLS",
				"unknown-command request mask unknown-command XCLIENT ADDR=192.0.2.1",
				"unknown-command request mask unknown-command BDAT 5 LAST",
				"replaced request mask address-character MAIL FROM:<a<b@example.org>",
				"malicious request drop-connection address-pipe RCPT TO:<|",
				"terminated address-pipe inspector disconnected, dropped packet.",
				"teardown address-pipe Flow closed by inspection")
			eventually(t, "the conntrack entry is gone", func() bool { return !w.tracked(t, c.address()) })
		})
	}
	if log := p.log.String(); strings.Contains(log, "decode") || strings.Contains(log, "192.0.2.1") {
		t.Errorf("Postfix has read what it must not:\n%s", log)
	}
	w.checkCounts(t, counts{"mask-banner": 2, "unknown-command": 6, "address-character": 2, "address-pipe": 2, "match ehlo-reply-parameter others": 8})
}

// With allow-tls swaks and Postfix get what they would without a firewall.
func TestMTATLS(t *testing.T) {
	w := newWall(t, lab.Options{}, policyWith(" parameters\n  allow-tls action log\n match ehlo-reply-parameter others\n  mask"))
	p := newPostfix(t, w.Lab)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			logged := len(p.log.String())
			got := swaks(t, w.Lab, f.server, "--tls", "--body", "XCLIENT")
			for _, want := range []string{
				"<- 220 mx20.example.net ESMTP Postfix", "<- 250-STARTTLS", "<- 250 XXXXXXXC", // in the clear
				"<~ 250-mx20.example.net", "<~ 250 CHUNKING", "<~ 221 2.0.0 Bye",
			} {
				if !slices.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, strings.Join(got, "\n"))
				}
			}
			if text := p.takeMail(t); !strings.HasSuffix(text, "\n\nXCLIENT\n\n\n") {
				t.Errorf("delivered was\n%s", text)
			}
			p.awaitLog(t, logged, "TLS connection established from unknown["+f.client+"]: TLSv1.3")
		})
	}
	w.checkCounts(t, counts{"allow-tls action log": 2, "match ehlo-reply-parameter others": 6})
}
