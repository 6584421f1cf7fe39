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
-> 250 XXXXXXXA                                              # matched Class 7: ehlo-reply-parameter others: mask
C: BDAT 5 LAST
-> XXXXXXXXXXX                                               # unknown-command: mask
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
-> (dropped, policy)                                         # address-pipe: connection ended (offset 19)
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
	const want = "\n-> (dropped, policy)                                         # matched Class 4: header line length gt 998: drop-connection log\nS: 354 go\n"
	if !strings.Contains(stdout, long+want) {
		t.Error(stdout)
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
