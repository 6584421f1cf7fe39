package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExplain compares whole screens.
func TestExplain(t *testing.T) {
	conf := defaultCopy(t)
	tests := []struct{ name, transcript, want string }{
		{"masks", dialogue, `
S: 220 mx.example.org ESMTP 20
-> 220 *********************20                               # mask-banner
C: EHLO client.example.com
S: 250-mx.example.org
S: 250 CHUNKING
-> 250 XXXXXXXA                                              # match ehlo-reply-parameter others: offset 62, mask
C: BDAT 5 LAST
-> XXXXXXXXXXX                                               # unknown-command: offset 37, mask log
S: 500 unknown
C: QUIT
S: 221 bye

Audit records:
%SMTPWALL-6-302013: Built inbound TCP connection 1 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.0.2.25/25 (192.0.2.25/25)
%SMTPWALL-4-108004: ESMTP Parameter: Masked header flags for ESMTP Request from outside:203.0.113.5/41522 to inside:192.0.2.25/25; unknown-command: BDAT 5 LAST (offset 37)
%SMTPWALL-6-302014: Teardown TCP connection 1 for outside:203.0.113.5/41522 to inside:192.0.2.25/25 duration 0:00:00 bytes 129 TCP FINs
`},
		{"the end of a session", `S: 220 hi
C: HELO c
S: 250 hi
C: MAIL FROM:<|sh>
S: 250 ok
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: HELO c
S: 250 hi
C: MAIL FROM:<|sh>
-> (dropped, policy)                                         # address-pipe: a pipe in a mail address, offset 19, drop-connection log
S: 250 ok
-> (dropped, ended)

Audit records:
%SMTPWALL-6-302013: Built inbound TCP connection 1 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.0.2.25/25 (192.0.2.25/25)
%SMTPWALL-2-108003: Terminating ESMTP connection; malicious pattern detected in the mail address from outside:203.0.113.5/41522 to inside:192.0.2.25/25. Mail Address:MAIL FROM:<| (offset 19)
%SMTPWALL-4-507003: tcp flow from outside:203.0.113.5/41522 to inside:192.0.2.25/25 terminated by inspection engine, reason - inspector disconnected, dropped packet. (address-pipe, offset 19)
%SMTPWALL-6-302014: Teardown TCP connection 1 for outside:203.0.113.5/41522 to inside:192.0.2.25/25 duration 0:00:00 bytes 24 Flow closed by inspection
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, _, err := call(newExplainCommand(), tt.transcript, "--policy", conf, "-")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, "\n"+stdout); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestExplainHeld: bytes that wait for a reply arrive when it does, and a
// command cut in two is shown as it was cut.
func TestExplainHeld(t *testing.T) {
	const transcript = `S: 220 hi
C: HE\
C: LO c
S: 250 hi
C: MAIL FROM:<a@example.org>
S: 250 ok
C: RCPT TO:<b@example.org>
S: 250 ok
C: DATA
C: text
C: .
S: 354 go
S: 250 ok
`
	stdout, _, err := call(newExplainCommand(), transcript, "--policy", defaultCopy(t), "-")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(stdout, "dropped") || strings.Contains(stdout, "not decided") || !strings.Contains(stdout, "\nC: HE\\\nC: LO c\nS: 250 hi\n") {
		t.Error(stdout)
	}
}

// TestExplainPlace: what is found when a held packet is judged stands at its own
// line, not at the reply that set it free.
func TestExplainPlace(t *testing.T) {
	long := "C: Subject: " + strings.Repeat("x", 990) // 999 bytes without its end
	transcript := "S: 220 hi\nC: HELO c\nS: 250 hi\nC: MAIL FROM:<a@example.org>\nS: 250 ok\n" +
		"C: RCPT TO:<b@example.org>\nS: 250 ok\nC: DATA\n" + long + "\nS: 354 go\n"
	stdout, _, err := call(newExplainCommand(), transcript, "--policy", defaultCopy(t), "-")
	if err != nil {
		t.Fatal(err)
	}
	// The header begins at octet 66: HELO 8, MAIL 27, RCPT 25 and DATA 6 stand before it.
	want := "\n-> (dropped, policy)" + strings.Repeat(" ", 40) + " # held: the reply to the command before it says how to read it\n" +
		strings.Repeat(" ", 60) + " # match header line length gt 998: 999 > 998, offset 1064, drop-connection log\nS: 354 go\n"
	if !strings.Contains(stdout, long+want) {
		t.Error(stdout)
	}
}

// explainPolicy has a bound, a mask and a rate, and lets TLS and BDAT pass.
const explainPolicy = `policy-map type inspect esmtp m
 parameters
  mask-banner
  allow-tls
  allow-bdat
 match cmd line length gt 40
  drop-connection log
 match cmd verb VRFY
  mask log
 match cmd verb NOOP
  rate-limit 2
class-map c
 match queue 0
policy-map p
 class c
  inspect esmtp m
service-policy p global
`

// TestExplainRules compares what is shown of the dialogue: the line as it was
// sent, what arrived of it, the rule with its numbers. Offsets are counted from
// the first byte of each side.
func TestExplainRules(t *testing.T) {
	conf := file(t, "policy.conf", []byte(explainPolicy))
	tests := []struct{ name, transcript, want string }{
		{"a bound", `S: 220 hi
C: RSET 01234567890123456789012345678901234
S: 250 ok
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: RSET 01234567890123456789012345678901234
-> (dropped, policy)                                         # match cmd line length gt 40: 41 > 40, offset 40, drop-connection log
S: 250 ok
-> (dropped, ended)
`},
		{"a masked verb and one that is only counted", `S: 220 hi
C: VRFY a
S: 500 no
C: NOOP
S: 250 ok
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: VRFY a
-> XXXXXX                                                    # match cmd verb VRFY: offset 4, mask log
S: 500 no
C: NOOP                                                      # match cmd verb NOOP: rate-limit 2
S: 250 ok
`},
		{"a rate", `S: 220 hi
C: NOOP
S: 250 ok
C: NOOP
S: 250 ok
C: NOOP
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: NOOP                                                      # match cmd verb NOOP: rate-limit 2
S: 250 ok
C: NOOP                                                      # match cmd verb NOOP: rate-limit 2
S: 250 ok
C: NOOP
-> (dropped, policy)                                         # match cmd verb NOOP: matches within a second, 3 > 2, offset 16, drop-connection log
`},
		{"STARTTLS", `S: 220 hi
C: EHLO c
S: 250-mx
S: 250 STARTTLS
C: STARTTLS
S: 220 go
C: \x16\x03\x01\0\x05\x01hello\
S: \x16\x03\x03\0\x05\x02hello\
C: VRFY \xe9
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: EHLO c
S: 250-mx
S: 250 STARTTLS
C: STARTTLS
S: 220 go
C: \x16\x03\x01\0\x05\x01hello\
S: \x16\x03\x03\0\x05\x02hello\                              # allow-tls: the rest is not read, offset 43
C: VRFY \xe9                                                 # passes unread
`},
		{"BDAT: octets are no commands, what follows them is", `S: 220 hi
C: EHLO c
S: 250-mx
S: 250 CHUNKING
C: BDAT 8\r\nA: b\r\n
S: 250 ok
C: BDAT 6 LAST
C: VRFY
S: 250 ok
C: XFOO
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: EHLO c
S: 250-mx
S: 250 CHUNKING
C: BDAT 8\r\nA: b\r\n
S: 250 ok
C: BDAT 6 LAST
C: VRFY
S: 250 ok
C: XFOO
-> XXXX                                                      # unknown-command: offset 48, mask log
`},
		{"AUTH: a line that came early waits, and is no command", `S: 220 hi
C: AUTH LOGIN
C: YWxpY2U=
S: 334 VXNlcm5hbWU6
S: 235 ok
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: AUTH LOGIN
C: YWxpY2U=                                                  # held: the reply to the command before it says how to read it
S: 334 VXNlcm5hbWU6
S: 235 ok
`},
		{"held, then refused", `S: 220 hi
C: DATA
C: XFOO
S: 503 no
S: 500 no
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: DATA
C: XFOO
-> XXXX                                                      # held: the reply to the command before it says how to read it
                                                             # unknown-command: offset 11, mask log
S: 503 no
S: 500 no
`},
		{"part of a line has passed", `S: 220 hi
C: VERB\
C:  on
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: VERB\
-> XXXX\
C:  on
-> XXX                                                       # unknown-command: offset 8, mask log
`},
		{"a mask that nobody got", `S: 220 hi
C: XFOO\r\nMAIL FROM:<|>
`, `
S: 220 hi
-> 220 **                                                    # mask-banner
C: XFOO\r\nMAIL FROM:<|>
-> (dropped, policy)                                         # unknown-command: offset 5, mask log, not forwarded
                                                             # pipelining: a command did not wait, and the server had not announced PIPELINING, offset 6, log
                                                             # address-pipe: a pipe in a mail address, offset 17, drop-connection log
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stdout, _, err := call(newExplainCommand(), tt.transcript, "--policy", conf, "-")
			if err != nil {
				t.Fatal(err)
			}
			shown, _, _ := strings.Cut(stdout, "\nAudit records:")
			if diff := cmp.Diff(tt.want, "\n"+shown); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestExplainErrors: where a transcript is wrong.
func TestExplainErrors(t *testing.T) {
	conf := defaultCopy(t)
	bad := file(t, "bad.txt", []byte("S: 220 hi\nhello\n"))
	tests := []struct{ name, path, want string }{
		{"not a transcript", bad, bad + `:2:1: want "C: " or "S: " or a comment that begins with #`},
		{"not there", "/nonexistent.txt", "read transcript: open /nonexistent.txt: no such file or directory"},
	}
	for _, tt := range tests {
		if _, _, err := call(newExplainCommand(), "", "--policy", conf, tt.path); err == nil || err.Error() != tt.want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, tt.want)
		}
	}
}
