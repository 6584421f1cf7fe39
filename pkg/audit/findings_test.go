package audit

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// TestFindings compares the records of every kind of finding with what asa.md
// 3.2 prints, followed by our parenthesis, and with the phrase that `explain`
// shows.
func TestFindings(t *testing.T) {
	const (
		in     = "outside:203.0.113.5/41522 to inside:192.168.1.1/25"
		out    = "inside:192.168.1.1/25 to outside:203.0.113.5/41522"
		dropIn = "<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Dropped connection for ESMTP Request from " + in + "; "
		maskIn = "<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Masked header flags for ESMTP Request from " + in + "; "
		lostIn = "<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Dropped ESMTP Request from " + in + "; "
		noteIn = "<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Request from " + in + "; "
		note   = "<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Response from " + out + "; "
		class  = "<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Classification: "
	)
	log, mask, drop := do(policy.NoAction), do(policy.Mask), do(policy.DropConnection)
	tests := []struct {
		name            string
		event           engine.Event
		record, summary string
	}{
		{"mail-relay: the text of the ASA's syslog guide",
			engine.Event{Kind: engine.EventParameter, Rule: "mail-relay", Detail: "No Mail Relay allowed", Do: drop, Offset: 57, Text: "b@example.org"},
			dropIn + `mail-relay: No Mail Relay allowed (offset 57, "b@example.org")`,
			"mail-relay: No Mail Relay allowed, offset 57, drop-connection log"},
		{"mail-relay, log",
			engine.Event{Kind: engine.EventParameter, Rule: "mail-relay", Detail: "No Mail Relay allowed", Do: log, Offset: 57, Text: "b@example.org"},
			noteIn + `mail-relay: No Mail Relay allowed (offset 57, "b@example.org")`,
			"mail-relay: No Mail Relay allowed, offset 57, log"},
		{"special-character",
			engine.Event{Kind: engine.EventParameter, Rule: "special-character", Detail: "a back quote or NUL in a mail address", Do: drop, Offset: 12, Text: "MAIL FROM:<\x00"},
			dropIn + `special-character: a back quote or NUL in a mail address (offset 12, "MAIL FROM:<\x00")`,
			"special-character: a back quote or NUL in a mail address, offset 12, drop-connection log"},
		{"require-tls",
			engine.Event{Kind: engine.EventParameter, Rule: "require-tls", Detail: "a command that passes inside TLS only", Do: mask, Offset: 33, Text: "MAIL FROM:<a@b>\r\n"},
			maskIn + `require-tls: a command that passes inside TLS only (offset 33, "MAIL FROM:<a@b>")`,
			"require-tls: a command that passes inside TLS only, offset 33, mask log"},
		{"behind QUIT",
			engine.Event{Kind: engine.EventParameter, Rule: "after-quit", Detail: "a command behind the reply to QUIT", Do: mask, Offset: 9, Text: "NOOP\r\n"},
			maskIn + `after-quit: a command behind the reply to QUIT (offset 9, "NOOP")`,
			"after-quit: a command behind the reply to QUIT, offset 9, mask log"},
		{"a mask that nobody got is no mask",
			engine.Event{Kind: engine.EventUnknownCommand, Rule: "unknown-command", Do: mask, Offset: 9, Text: "XFOO\r\n", NotForwarded: true},
			lostIn + `unknown-command: XFOO (offset 9, not forwarded)`,
			"unknown-command: offset 9, mask log, not forwarded"},
		{"nor is a match's",
			engine.Event{Kind: engine.EventMatch, Side: smtp.Server, Class: 7, Rule: "ehlo-reply-parameter others", Do: mask, Offset: 60, Text: "STARTTLS", NotForwarded: true},
			class + `Dropped ESMTP Response from ` + out + `; matched Class 7: ehlo-reply-parameter others (offset 60, "STARTTLS", not forwarded)`,
			"match ehlo-reply-parameter others: offset 60, mask log, not forwarded"},
		{"nor a replacement",
			engine.Event{Kind: engine.EventReplaced, Rule: "address-character", Do: mask, Offset: 33, Text: "<a<b>", NotForwarded: true},
			"<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108002: SMTP replaced string: out 203.0.113.5 in 192.168.1.1 data: <a<b> (offset 33, not forwarded)",
			"address-character: a byte that became a space, offset 33, mask log, not forwarded"},
		{"a bound",
			engine.Event{Kind: engine.EventMatch, Class: 1, Rule: "cmd line length gt 512", Do: drop, Offset: 40, Limit: 512, Value: 513, Text: "NOOP a"},
			class + `Dropped connection for ESMTP Request from ` + in + `; matched Class 1: cmd line length gt 512 (offset 40, 513 > 512, "NOOP a")`,
			"match cmd line length gt 512: 513 > 512, offset 40, drop-connection log"},
		{"match not: the value is within the bound",
			engine.Event{Kind: engine.EventMatch, Class: 2, Rule: "not cmd line length gt 12", Do: drop, Offset: 11, Limit: 12, Value: 12, Text: "NOOP abcd\r\n"},
			class + `Dropped connection for ESMTP Request from ` + in + `; matched Class 2: not cmd line length gt 12 (offset 11, 12 <= 12, "NOOP abcd")`,
			"match not cmd line length gt 12: 12 <= 12, offset 11, drop-connection log"},
		{"rate-limit",
			engine.Event{Kind: engine.EventMatch, Class: 1, Rule: "cmd verb noop", Do: drop, Offset: 52, Limit: 3, Value: 4, Detail: "matches within a second"},
			class + `Dropped connection for ESMTP Request from ` + in + `; matched Class 1: cmd verb noop (offset 52, 4 > 3, matches within a second)`,
			"match cmd verb noop: matches within a second, 4 > 3, offset 52, drop-connection log"},
		{"108006 is the ASA's to the last letter",
			engine.Event{Kind: engine.EventSize, Rule: "size-exceeded", Do: log, Offset: 700, Limit: 100, Value: 612},
			"<167>Nov 23 2025 13:03:01 fw1 : %ASA-7-108006: Detected ESMTP size violation from " + in + "; declared size is: 100, actual size is 612",
			"size-exceeded: 612 > 100, offset 700, log"},
		{"a reply that its command does not take",
			engine.Event{Kind: engine.EventNotice, Side: smtp.Server, Detail: "reply 250 to DATA", Do: log, Offset: 88, Value: 250},
			note + "notice: reply 250 to DATA (offset 88)",
			"notice: reply 250 to DATA, offset 88, log"},
		{"a long reply line",
			engine.Event{Kind: engine.EventNotice, Side: smtp.Server, Detail: "a reply line is longer than clients must take", Do: log, Offset: 512, Limit: 512, Value: 513},
			note + "notice: a reply line is longer than clients must take (offset 512, 513 > 512)",
			"notice: a reply line is longer than clients must take, 513 > 512, offset 512, log"},
		{"a count that nobody can read",
			engine.Event{Kind: engine.EventUndecided, Rule: "undecided", Detail: "what follows the count of a BDAT or XEXCH50 line is no syntax for it", Do: drop, Offset: 21},
			dropIn + "undecided: what follows the count of a BDAT or XEXCH50 line is no syntax for it (offset 21)",
			"undecided: what follows the count of a BDAT or XEXCH50 line is no syntax for it, offset 21, drop-connection log"},
		{"a pipe",
			engine.Event{Kind: engine.EventMalicious, Rule: "address-pipe", Do: drop, Offset: 19, Text: "MAIL FROM:<|"},
			"<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108003: Terminating ESMTP connection; malicious pattern detected in the mail address from " + in + ". Mail Address:MAIL FROM:<| (offset 19)",
			"address-pipe: a pipe in a mail address, offset 19, drop-connection log"},
		{"TLS",
			engine.Event{Kind: engine.EventTLSStarted, Side: smtp.Server, Do: log, Offset: 48},
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108007: TLS started on ESMTP session between client outside:203.0.113.5/41522 and server inside:192.168.1.1/25",
			"allow-tls: the rest is not read, offset 48, log"},
		{"no log word, no record",
			engine.Event{Kind: engine.EventMatch, Class: 7, Rule: "ehlo-reply-parameter others", Do: policy.Do{Action: policy.Mask}}, "",
			"match ehlo-reply-parameter others: offset 0, mask"},
		{"what no rule makes", engine.Event{Kind: engine.EventBuilt},
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302013: Built inbound TCP connection 42 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.168.1.1/25 (192.168.1.1/25)", ""},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.event.Conn = inbound
			record := ""
			for _, r := range f.Records(&tt.event) {
				record += r.Line()
			}
			if diff := cmp.Diff(tt.record, record); diff != "" {
				t.Errorf("record:\n%s", diff)
			}
			if got := Summary(&tt.event); got != tt.summary {
				t.Errorf("summary:\n got %s\nwant %s", got, tt.summary)
			}
		})
	}
}

// TestFindingsJSON compares whole objects.
func TestFindingsJSON(t *testing.T) {
	const head = `"connection":42,"direction":"inbound","client":"203.0.113.5","client_port":41522,"client_interface":"outside",` +
		`"server":"192.168.1.1","server_port":25,"server_interface":"inside","side":"request",`
	const in = `outside:203.0.113.5/41522 to inside:192.168.1.1/25; `
	tests := []struct {
		name  string
		event engine.Event
		want  string
	}{
		{"the octets declared and counted",
			engine.Event{Kind: engine.EventSize, Rule: "size-exceeded", Do: do(policy.NoAction), Offset: 700, Limit: 100, Value: 612},
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108006,"severity":7,"event":"size-exceeded",` + head +
				`"rule":"size-exceeded","offset":700,"limit":100,"value":612,` +
				`"message":"Detected ESMTP size violation from ` + in + `declared size is: 100, actual size is 612"}`},
		{"a mask that nobody got",
			engine.Event{Kind: engine.EventUnknownCommand, Rule: "unknown-command", Do: do(policy.Mask), Offset: 9, Text: "XFOO\r\n", NotForwarded: true},
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108004,"severity":4,"event":"unknown-command",` + head +
				`"action":"mask","rule":"unknown-command","offset":9,"text":"XFOO","not_forwarded":true,` +
				`"message":"ESMTP Parameter: Dropped ESMTP Request from ` + in + `unknown-command: XFOO (offset 9, not forwarded)"}`},
		{"0 is a value where there is a bound",
			engine.Event{Kind: engine.EventMatch, Class: 1, Rule: "not sender-address length gt 4", Do: do(policy.Reset), Offset: 14, Limit: 4},
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108004,"severity":4,"event":"match",` + head +
				`"action":"reset","class":1,"rule":"not sender-address length gt 4","offset":14,"limit":4,"value":0,` +
				`"message":"ESMTP Classification: Reset connection for ESMTP Request from ` + in + `matched Class 1: not sender-address length gt 4 (offset 14, 0 <= 4)"}`},
		{"a rate-limit",
			engine.Event{Kind: engine.EventMatch, Class: 1, Rule: "cmd verb noop", Do: do(policy.DropConnection), Offset: 52, Limit: 3, Value: 4, Detail: "matches within a second"},
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108004,"severity":4,"event":"match",` + head +
				`"action":"drop-connection","class":1,"rule":"cmd verb noop","detail":"matches within a second","offset":52,"limit":3,"value":4,` +
				`"message":"ESMTP Classification: Dropped connection for ESMTP Request from ` + in + `matched Class 1: cmd verb noop (offset 52, 4 > 3, matches within a second)"}`},
	}
	f := New(options(JSON))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.event.Conn = inbound
			if diff := cmp.Diff(tt.want, f.Records(&tt.event)[0].Line()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
