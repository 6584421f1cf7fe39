package audit

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// start is the wall time of Event.Time zero in these tests: the one in the
// sample line of asa.md 3.6.
var start = time.Date(2025, 11, 23, 13, 3, 1, 0, time.UTC)

// options are those of the sample lines in asa.md 3.
func options(format Format) Options {
	return Options{
		Format: format, Tag: "ASA", Host: "fw1",
		Interface: func(index uint32) string {
			return map[uint32]string{1: "outside", 2: "inside", 3: "eth0.100", 4: "DMZ"}[index]
		},
		Wall: func(d time.Duration) time.Time { return start.Add(d) },
	}
}

// conn is a connection from one address and interface to another.
func conn(id uint64, client string, clientIf uint32, server string, serverIf uint32) engine.Conn {
	return engine.Conn{
		ID:     id,
		Client: engine.Endpoint{AddrPort: netip.MustParseAddrPort(client), Interface: clientIf},
		Server: engine.Endpoint{AddrPort: netip.MustParseAddrPort(server), Interface: serverIf},
	}
}

var (
	inbound  = conn(42, "203.0.113.5:41522", 1, "192.168.1.1:25", 2)
	outbound = conn(43, "192.168.1.1:50000", 2, "198.51.100.7:25", 1)
)

// do is shorthand for an action with its log word.
func do(a policy.Action) policy.Do { return policy.Do{Action: a, Log: true} }

// TestASA compares whole lines with what asa.md section 3 prints. "IN" stands
// for the endpoints of an inbound connection's request, "OUT" for a response's.
func TestASA(t *testing.T) {
	const (
		in  = "outside:203.0.113.5/41522 to inside:192.168.1.1/25"
		out = "inside:192.168.1.1/25 to outside:203.0.113.5/41522"
	)
	tests := []struct {
		name  string
		event engine.Event
		want  []string
	}{
		{"built inbound, the sample of asa.md 3.6", engine.Event{Kind: engine.EventBuilt, Conn: inbound}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302013: Built inbound TCP connection 42 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.168.1.1/25 (192.168.1.1/25)"}},
		{"built outbound: the outside end stays first", engine.Event{Kind: engine.EventBuilt, Conn: outbound}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302013: Built outbound TCP connection 43 for outside:198.51.100.7/25 (198.51.100.7/25) to inside:192.168.1.1/50000 (192.168.1.1/50000)"}},
		{"two-digit day, packet time added", engine.Event{Kind: engine.EventBuilt, Time: 12 * 24 * time.Hour,
			Conn: conn(7, "[2001:db8::5]:41522", 3, "[2001:db8::1]:25", 9)}, []string{
			"<166>Dec 05 2025 13:03:01 fw1 : %ASA-6-302013: Built inbound TCP connection 7 for eth0_100:2001:db8::5/41522 (2001:db8::5/41522) to unknown:2001:db8::1/25 (2001:db8::1/25)"}},
		{"teardown by FIN", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Teardown: engine.TeardownFINs,
			Duration: 30*time.Second + 999*time.Millisecond, Bytes: 10316}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 0:00:30 bytes 10316 TCP FINs"}},
		{"teardown by drop-connection", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Teardown: engine.TeardownInspection,
			Duration: 25*time.Hour + 2*time.Second, Bytes: 141}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-507003: tcp flow from " + in + " terminated by inspection engine, reason - inspector disconnected, dropped packet.",
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 25:00:02 bytes 141 Flow closed by inspection"}},
		{"teardown by drop-connection that names its rule", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Teardown: engine.TeardownInspection,
			Class: 4, Rule: "header line length gt 998", Offset: 1234, Limit: 998, Value: 999}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-507003: tcp flow from " + in + " terminated by inspection engine, reason - inspector disconnected, dropped packet. (header line length gt 998, offset 1234, 999 > 998)",
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 0:00:00 bytes 0 Flow closed by inspection"}},
		{"a RST of the outside", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Teardown: engine.TeardownReset}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 0:00:00 bytes 0 TCP Reset-O"}},
		{"a RST of the inside", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Side: smtp.Server, Teardown: engine.TeardownReset}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 0:00:00 bytes 0 TCP Reset-I"}},
		{"teardown by reset, the server's bytes did it", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Side: smtp.Server,
			Teardown: engine.TeardownAppliance, Duration: -time.Second}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-507003: tcp flow from " + out + " terminated by inspection engine, reason - inspector drop reset.",
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-302014: Teardown TCP connection 42 for " + in + " duration 0:00:00 bytes 0 TCP Reset-APPLIANCE"}},
		{"match, drop-connection: the real line of asa.md 3.2", engine.Event{Kind: engine.EventMatch,
			Conn: conn(1, "75.75.75.75:35314", 1, "10.0.25.101:25", 4), Class: 4, Rule: "header line length gt 998", Do: do(policy.DropConnection),
			Offset: 1234, Limit: 998, Value: 1021, Text: "To: a\tb"}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Classification: Dropped connection for ESMTP Request from outside:75.75.75.75/35314 to DMZ:10.0.25.101/25; matched Class 4: header line length gt 998 (offset 1234, 1021 > 998, \"To: a\\tb\")"}},
		{"match, reset", engine.Event{Kind: engine.EventMatch, Conn: inbound, Class: 1, Rule: "cmd line length gt 512",
			Do: do(policy.Reset), Offset: 512, Limit: 512, Value: 513}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Classification: Reset connection for ESMTP Request from " + in + "; matched Class 1: cmd line length gt 512 (offset 512, 513 > 512)"}},
		{"match, log only", engine.Event{Kind: engine.EventMatch, Conn: inbound, Class: 3, Rule: "body line length gt 998",
			Do: do(policy.NoAction), Limit: 998, Value: 999}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Classification: Received ESMTP Request from " + in + "; matched Class 3: body line length gt 998 (offset 0, 999 > 998)"}},
		{"match, mask log, a response", engine.Event{Kind: engine.EventMatch, Conn: inbound, Side: smtp.Server, Class: 7,
			Rule: "ehlo-reply-parameter others", Do: do(policy.Mask), Offset: 60, Text: "STARTTLS"}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Classification: Masked header flags for ESMTP Response from " + out + "; matched Class 7: ehlo-reply-parameter others (offset 60, \"STARTTLS\")"}},
		{"match without log is silent", engine.Event{Kind: engine.EventMatch, Conn: inbound, Do: policy.Do{Action: policy.Mask}}, nil},
		{"parameter", engine.Event{Kind: engine.EventParameter, Conn: inbound, Rule: "bare-newline", Detail: "a bare LF in a command",
			Do: do(policy.DropConnection), Offset: 9, Text: "NOOP\nQUIT\r\n"}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Dropped connection for ESMTP Request from " + in + "; bare-newline: a bare LF in a command (offset 9, \"NOOP\\nQUIT\")"}},
		{"parameter, log only", engine.Event{Kind: engine.EventParameter, Conn: inbound, Rule: "pipelining", Detail: "did not wait",
			Do: do(policy.NoAction)}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Request from " + in + "; pipelining: did not wait (offset 0)"}},
		{"parameter without log is silent", engine.Event{Kind: engine.EventParameter, Conn: inbound, Rule: "pipelining"}, nil},
		{"replaced, the outside address first", engine.Event{Kind: engine.EventReplaced, Do: do(policy.Mask), Conn: inbound, Offset: 33, Text: "<a<b@example.org>"}, []string{
			"<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108002: SMTP replaced string: out 203.0.113.5 in 192.168.1.1 data: <a<b@example.org> (offset 33)"}},
		{"replaced, outbound", engine.Event{Kind: engine.EventReplaced, Do: do(policy.Mask), Conn: outbound, Text: "<\x01>"}, []string{
			"<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108002: SMTP replaced string: out 198.51.100.7 in 192.168.1.1 data: <\\x01> (offset 0)"}},
		{"malicious", engine.Event{Kind: engine.EventMalicious, Do: do(policy.DropConnection), Conn: inbound, Offset: 27, Text: "<|/bin/sh@example.org>"}, []string{
			"<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108003: Terminating ESMTP connection; malicious pattern detected in the mail address from " + in + ". Mail Address:<|/bin/sh@example.org> (offset 27)"}},
		{"unknown command", engine.Event{Kind: engine.EventUnknownCommand, Do: do(policy.Mask), Conn: inbound, Offset: 20, Text: "BDAT 10 LAST\r\n"}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Masked header flags for ESMTP Request from " + in + "; unknown-command: BDAT 10 LAST (offset 20)"}},
		{"a forged record stays text", engine.Event{Kind: engine.EventUnknownCommand, Do: do(policy.Mask), Conn: inbound,
			Text: "X\r\n<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108003: \x00\x1b[2J\"\\\x80\xff\x7f\r\n"}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Masked header flags for ESMTP Request from " + in + `; unknown-command: X\r\n<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-108003: \x00\x1b[2J\"\\\x80\xff\x7f (offset 0)`}},
		{"TLS", engine.Event{Kind: engine.EventTLSStarted, Do: do(policy.NoAction), Conn: inbound}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108007: TLS started on ESMTP session between client outside:203.0.113.5/41522 and server inside:192.168.1.1/25"}},
		{"notice", engine.Event{Kind: engine.EventNotice, Do: do(policy.NoAction), Conn: inbound, Side: smtp.Server, Detail: "a reply that answers no command", Value: 250}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Response from " + out + "; notice: a reply that answers no command (offset 0)"}},
		{"undecided, closed", engine.Event{Kind: engine.EventUndecided, Conn: inbound, Side: smtp.Server, Detail: "354 without DATA",
			Do: do(policy.DropConnection), Offset: 88}, []string{
			"<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-108004: ESMTP Parameter: Dropped connection for ESMTP Response from " + out + "; undecided: 354 without DATA (offset 88)"}},
		{"undecided, open", engine.Event{Kind: engine.EventUndecided, Do: do(policy.NoAction), Conn: inbound, Detail: "too late"}, []string{
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Request from " + in + "; undecided: too late (offset 0)"}},
		{"TLS without log is silent", engine.Event{Kind: engine.EventTLSStarted, Conn: inbound}, nil},
		{"a kind this version does not know", engine.Event{Kind: 200, Conn: inbound, Do: do(policy.Mask)}, nil},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range f.Records(&tt.event) {
				got = append(got, r.Line())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTeardownReasons: none may hold a colon (asa.md 3.6).
func TestTeardownReasons(t *testing.T) {
	want := []string{"Unknown", "TCP FINs", "TCP Reset-I", "Flow closed by inspection",
		"TCP Reset-APPLIANCE", "SYN Timeout", "Conn-timeout", "Unknown", "Flow terminated by TCP Intercept", "Unknown"}
	for i, w := range want {
		if got := teardownReason(engine.Teardown(i), false); got != w {
			t.Errorf("reason %d: %q, want %q", i, got, w)
		}
	}
}

// TestHead: what stands before the text, for each way to set it up.
func TestHead(t *testing.T) {
	const text = ": TLS started on ESMTP session between client unknown:203.0.113.5/41522 and server unknown:192.168.1.1/25"
	tests := []struct {
		name, tag, host, want string
	}{
		{"default tag", "", "fw1", "<166>Nov 23 2025 13:03:01 fw1 : %SMTPWALL-6-108007"},
		{"no host: a colon straight after the time", "ASA", "", "<166>Nov 23 2025 13:03:01: %ASA-6-108007"},
		{"bytes that would break the grammar", "A-%: S", "fw 1\n", "<166>Nov 23 2025 13:03:01 fw1 : %AS-6-108007"},
	}
	for _, tt := range tests {
		f := New(Options{Tag: tt.tag, Host: tt.host, Wall: options(ASA).Wall})
		got := f.Records(&engine.Event{Kind: engine.EventTLSStarted, Do: do(policy.NoAction), Conn: inbound})[0].Line()
		if want := tt.want + text; got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
	}
}

// TestJSON compares whole objects: the names are what other programs rely on.
func TestJSON(t *testing.T) {
	const ends = `"client":"203.0.113.5","client_port":41522,"client_interface":"outside","server":"192.168.1.1","server_port":25,"server_interface":"inside"`
	tests := []struct {
		name  string
		event engine.Event
		want  []string
	}{
		{"built", engine.Event{Kind: engine.EventBuilt, Time: 1500 * time.Microsecond, Conn: inbound}, []string{
			`{"time":"2025-11-23T13:03:01.001500Z","host":"fw1","id":302013,"severity":6,"event":"built","connection":42,"direction":"inbound",` + ends +
				`,"message":"Built inbound TCP connection 42 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.168.1.1/25 (192.168.1.1/25)"}`}},
		{"match", engine.Event{Kind: engine.EventMatch, Conn: inbound, Class: 4, Rule: "header line length gt 998",
			Do: do(policy.DropConnection), Offset: 1234, Limit: 998, Value: 1021, Text: "To: <a>\x00\r\n"}, []string{
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108004,"severity":4,"event":"match","connection":42,"direction":"inbound",` + ends +
				`,"side":"request","action":"drop-connection","class":4,"rule":"header line length gt 998","offset":1234,"limit":998,"value":1021,"text":"To: <a>\\x00",` +
				`"message":"ESMTP Classification: Dropped connection for ESMTP Request from outside:203.0.113.5/41522 to inside:192.168.1.1/25; matched Class 4: header line length gt 998 (offset 1234, 1021 > 998, \"To: <a>\\x00\")"}`}},
		{"offset 0 is a value", engine.Event{Kind: engine.EventUndecided, Do: do(policy.NoAction), Conn: inbound, Side: smtp.Server, Detail: "why"}, []string{
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":108005,"severity":6,"event":"undecided","connection":42,"direction":"inbound",` + ends +
				`,"side":"response","detail":"why","offset":0,` +
				`"message":"ESMTP Parameter: Received ESMTP Response from inside:192.168.1.1/25 to outside:203.0.113.5/41522; undecided: why (offset 0)"}`}},
		{"teardown by the inspection", engine.Event{Kind: engine.EventTeardown, Conn: inbound, Duration: 1250 * time.Millisecond, Teardown: engine.TeardownInspection}, []string{
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":507003,"severity":4,"event":"terminated","connection":42,"direction":"inbound",` + ends +
				`,"duration":1.25,"bytes":0,"reason":"inspector disconnected, dropped packet.",` +
				`"message":"tcp flow from outside:203.0.113.5/41522 to inside:192.168.1.1/25 terminated by inspection engine, reason - inspector disconnected, dropped packet."}`,
			`{"time":"2025-11-23T13:03:01.000000Z","host":"fw1","id":302014,"severity":6,"event":"teardown","connection":42,"direction":"inbound",` + ends +
				`,"duration":1.25,"bytes":0,"reason":"Flow closed by inspection",` +
				`"message":"Teardown TCP connection 42 for outside:203.0.113.5/41522 to inside:192.168.1.1/25 duration 0:00:01 bytes 0 Flow closed by inspection"}`}},
	}
	f := New(options(JSON))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range f.Records(&tt.event) {
				got = append(got, r.Line())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestKey: findings of one client repeat each other whatever the connection; a
// connection's own records never do.
func TestKey(t *testing.T) {
	again := conn(44, "203.0.113.5:41523", 1, "192.168.1.1:25", 2)
	other := conn(45, "203.0.113.6:41522", 1, "192.168.1.1:25", 2)
	log := do(policy.NoAction)
	tests := []struct {
		name string
		a, b engine.Event
		same bool
	}{
		{"same rule, same client", engine.Event{Kind: engine.EventMatch, Conn: inbound, Rule: "r", Do: log, Offset: 1},
			engine.Event{Kind: engine.EventMatch, Conn: again, Rule: "r", Do: log, Offset: 2}, true},
		{"another rule", engine.Event{Kind: engine.EventMatch, Conn: inbound, Rule: "r", Do: log},
			engine.Event{Kind: engine.EventMatch, Conn: inbound, Rule: "s", Do: log}, false},
		{"another client", engine.Event{Kind: engine.EventMatch, Conn: inbound, Rule: "r", Do: log},
			engine.Event{Kind: engine.EventMatch, Conn: other, Rule: "r", Do: log}, false},
		{"another notice", engine.Event{Kind: engine.EventNotice, Do: do(policy.NoAction), Conn: inbound, Detail: "a"},
			engine.Event{Kind: engine.EventNotice, Do: do(policy.NoAction), Conn: inbound, Detail: "b"}, false},
		{"built twice", engine.Event{Kind: engine.EventBuilt, Conn: inbound}, engine.Event{Kind: engine.EventBuilt, Conn: again}, false},
	}
	f := New(options(ASA))
	if k := f.Records(&engine.Event{Kind: engine.EventBuilt})[0].Key; k.Conn == 0 {
		t.Error("connection 0 has the key of records without a connection")
	}
	for _, tt := range tests {
		a, b := f.Records(&tt.a)[0].Key, f.Records(&tt.b)[0].Key
		if (a == b) != tt.same {
			t.Errorf("%s: keys %+v and %+v, want same %v", tt.name, a, b, tt.same)
		}
	}
}

// TestRepeat: the count is the last thing of a record in either format.
func TestRepeat(t *testing.T) {
	e := engine.Event{Kind: engine.EventTLSStarted, Do: do(policy.NoAction), Conn: inbound}
	asa := New(options(ASA)).Records(&e)[0]
	if got, want := asa.Repeat(41).Line(), asa.Line()+" (repeated 41)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var object struct {
		ID       int
		Repeated uint64
	}
	line := New(options(JSON)).Records(&e)[0].Repeat(41).Line()
	if err := json.Unmarshal([]byte(line), &object); err != nil || object.ID != 108007 || object.Repeated != 41 {
		t.Errorf("%s: %+v, %v", line, object, err)
	}
}

// TestEscapeBound: a cut never splits an escape, and shows.
func TestEscapeBound(t *testing.T) {
	tests := []struct {
		in    string
		limit int
		want  string
	}{
		{"abcd", 4, "abcd"},
		{"abcde", 4, "abcd..."},
		{"a\x00b", 4, "a..."}, // a and \x00 are five bytes
		{"a\x00b", 5, `a\x00...`},
		{"a\x00b", 6, `a\x00b`},
		{"é", 8, `\xc3\xa9`},
		{strings.Repeat("y", 600), MaxText, strings.Repeat("y", MaxText) + "..."},
	}
	for _, tt := range tests {
		if got := escape(tt.in, tt.limit); got != tt.want {
			t.Errorf("escape(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

// FuzzRecords: whatever a peer sends and whatever a name holds, a record is one
// line of printable ASCII of bounded length, and JSON parses back.
func FuzzRecords(f *testing.F) {
	f.Add(uint8(3), uint8(3), "rule", "detail", "a\r\n<162>x", "eth0", uint64(1), true)
	f.Add(uint8(7), uint8(0), "", "a: b", "\x00\x80\xff\u2028\"\\", "in\nside", uint64(0), false)
	f.Add(uint8(engine.EventDuplicateSYN), uint8(0), "", "", "", "in\nside", uint64(0), true)
	f.Add(uint8(engine.EventUrgentCleared), uint8(0), "a) b", "c\r", "", "é", uint64(0), false)
	f.Add(uint8(engine.EventExceedsMSS), uint8(1), "", "", "", "", uint64(1<<63), true)
	f.Add(uint8(engine.EventRetransmission), uint8(0), "\x00", "a (b)", "\r\n<162>", "eth0", uint64(9), false)
	f.Add(uint8(engine.EventSpoofed), uint8(0), "r", "d", "t", "x y)\n", uint64(3), true)
	f.Add(uint8(2), uint8(1), "é", "}", "{}", "", uint64(1<<63), true)
	f.Fuzz(func(t *testing.T, kind, action uint8, rule, detail, text, name string, n uint64, server bool) {
		e := engine.Event{
			Kind: engine.EventKind(kind), Time: time.Duration(n % (1 << 60)), Conn: inbound, Rule: rule, Detail: detail, Text: text,
			Do: do(policy.Action(action % 5)), Interface: uint32(n), Offset: n, Limit: n, Value: n, Duration: time.Duration(n), Bytes: n,
			Teardown: engine.Teardown(action), NotForwarded: action >= 128,
		}
		if server {
			e.Side = smtp.Server
		}
		for _, format := range []Format{ASA, JSON} {
			opt := options(format)
			opt.Host, opt.Tag = name, rule
			opt.Interface = func(uint32) string { return name }
			if len(name)+len(rule) > 64 {
				return // the operator's words are not a peer's
			}
			for _, r := range New(opt).Records(&e) {
				checkLine(t, format, r.Line())
				checkLine(t, format, r.Repeat(n).Line())
			}
		}
	})
}

// checkLine fails unless line is what a reader of lines can rely on.
func checkLine(t *testing.T, format Format, line string) {
	for i := range len(line) {
		if c := line[i]; c < ' ' || c >= 0x7f {
			t.Fatalf("byte %#x at %d in %q", c, i, line)
		}
	}
	if format == ASA && len(line) > 1500 || len(line) > 4000 {
		t.Fatalf("%d bytes: %q", len(line), line)
	}
	if format == JSON && !json.Valid([]byte(line)) {
		t.Fatalf("not JSON: %q", line)
	}
}
