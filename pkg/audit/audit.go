// Package audit turns the events of the engine and of the static mappings into
// records: the ASA's syslog text, ready for the parsers that already read it, or
// JSON.
//
// It may be imported from level 4 up. It must never write a record anywhere,
// read a clock or start a goroutine: sinks are pkg/syslog's.
//
// # ASA text
//
// A record is one line, framed as an ASA sends it to a syslog server:
//
//	<PRI>Nov 23 2026 13:03:01 fw1 : %SMTPWALL-6-302013: text
//
// PRI is 160 (facility local4) plus the severity. Without Options.Host the host
// name and its space are left out: "13:03:01: %SMTPWALL-...". The texts are the
// ASA's, to the letter, followed in 108002 to 108005 and 507003 by an explanation of ours
// in one pair of parentheses at the very end, where existing parsers read free
// text:
//
//	...; matched Class 4: header line length gt 998 (offset 1234, 1021 > 998, "X-Long: aaa")
//	...; matched Class 2: not cmd line length gt 4 (offset 10, 4 <= 4, "\r\n")
//	...; matched Class 1: cmd verb NOOP (offset 52, 4 > 3, matches within a second)
//	...; unknown-command: XFOO (offset 9, not forwarded)
//	...; check-retransmission: TCP bad retransmission (offset 1460)
//
// It holds the offset of the byte that decided, counted from the first payload
// byte of its side; the value reached and the bound, where there is one; what a
// rate-limit counts; the peer's bytes between quotes, unless the text before has
// them; and "not forwarded" for a mask that nobody got, because a later byte of
// the same packet ended the connection. It always comes last, so that a peer who
// writes parentheses of its own cannot move it. 108006, 419001 to 419003 and
// 106016 have none.
//
// What happened to the bytes is one of the ASA's words: "Dropped connection for",
// "Reset connection for", "Masked header flags for", or "Dropped" for a mask that
// was not forwarded. Of AUTH commands no record shows more than the mechanism.
//
// Bytes of a peer appear as they came if they are printable ASCII; all others,
// the quote and the backslash are written \r, \n, \t, \", \\ or \xNN, so that a
// record never holds a line end and no record can forge another. They are cut at
// MaxText bytes, and the cut is shown as "...".
//
// Connection limits have the records 201002, 201003 and 201010 to 201013. Their
// parenthesis says what TCP intercept does and how many more were refused:
//
//	Connection limit exceeded 50/50 for input packet from 203.0.113.5/41522 to 192.168.1.1/25 on interface outside (12 more refused since the last record)
//	Too many TCP connections on static 1.1.1.1! 100 50 (12 more refused since the last record)
//	Too many TCP connections on static 1.1.1.1! 100 50 (7 SYNs refused by the kernel within a second, in intercept)
//	Embryonic connection limit exceeded 100/100 for input packet from ... (SYNs are answered with a cookie from now on)
//	Embryonic limit exceeded 100/100 for 203.0.113.5/41522 to 192.168.1.1(1.1.1.1)/25 on interface outside (SYNs are ...)
//
// The interface of a SYN that the box itself sent, as synproxy does for a client
// that answered a cookie, is "identity". No ASA tells of the end of an intercept;
// ours is a 201010 too:
//
//	Embryonic connection limit no longer exceeded 3/100 for 192.168.1.1 (1.1.1.1): intercepted for 0:01:40, 2500000 SYNs answered with a cookie
//
// # JSON
//
// One object a record, on one line. The fields, in this order; those without a
// value are left out:
//
//	time              RFC 3339 with microseconds
//	host              Options.Host
//	id, severity      of the ASA's message: 108004, 4
//	event             built, teardown, terminated, match, parameter, replaced,
//	                  malicious, unknown-command, tls-started, size-exceeded,
//	                  notice, undecided, retransmission, exceeds-mss,
//	                  duplicate-syn, urgent-cleared, spoofed
//	connection        number of the connection, the same in all its records
//	direction         inbound or outbound
//	client, client_port, client_interface
//	server, server_port, server_interface
//	side              request (the client's bytes) or response (the server's)
//	action            mask, drop-connection, reset; absent: none was taken
//	class             number of the match line in its map, from 1
//	rule              the match line, "header line length gt 998"; the parameter:
//	                  bare-newline, pipelining, tls-injection, auth-line-length,
//	                  mail-relay, special-character, require-tls; the line of the
//	                  tcp-map: check-retransmission, exceed-mss, urgent-flag; or what
//	                  holds without a line: unknown-command, address-character,
//	                  address-pipe, mail-parameter, after-quit, early-bytes,
//	                  size-exceeded, undecided, duplicate-syn, spoofed
//	detail            one sentence
//	offset            of the byte that decided, from 0; none for exceeds-mss,
//	                  duplicate-syn, urgent-cleared and spoofed
//	limit, value      the bound and what was reached; for size-exceeded the octets
//	                  declared and counted, for a rate-limit matches a second, for a
//	                  notice about a reply its code as value, for exceeds-mss the
//	                  receiver's MSS and the packet's octets
//	text              the peer's bytes, escaped as in the ASA text
//	interface         by which a spoofed packet came in
//	not_forwarded     true of a mask (or a replacement) that nobody got
//	duration          seconds (teardown)
//	bytes             payload bytes forwarded, both directions (teardown)
//	reason            of 302014 or 507003
//	message           the ASA text
//	repeated          how many records like this one were suppressed before it
//
// Those of connection limits, in this order:
//
//	time, host, id, severity
//	event             connection-limit, embryonic-limit, intercept-entered,
//	                  intercept-left, connection-limit-kernel
//	client, client_port, interface
//	                  of the SYN; none for intercept-left,
//	                  connection-limit-kernel
//	local, global     addresses of the host: its own, and the one clients write
//	server_port       of the SYN
//	per_client        true: count and limit are those of the client
//	count, limit      connections; half-open ones but for connection-limit
//	detail            what TCP intercept does to the SYN
//	suppressed        refusals that had no record since the last one of this host,
//	                  or of this client
//	duration          seconds in intercept (intercept-left)
//	refusals          SYNs that the kernel refused (connection-limit-kernel)
//	cookies           SYNs answered with a cookie (intercept-left)
//	message, repeated
package audit

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// Format is the language of a record.
type Format uint8

// The formats of --audit-format.
const (
	ASA Format = iota
	JSON
)

// ParseFormat reads the value of --audit-format.
func ParseFormat(s string) (Format, bool) {
	switch s {
	case "asa":
		return ASA, true
	case "json":
		return JSON, true
	}
	return ASA, false
}

// DefaultTag stands where an ASA writes "ASA".
const DefaultTag = "SMTPWALL"

// Options is how a Formatter writes.
type Options struct {
	Format Format
	Tag    string // DefaultTag if empty; "ASA" for parsers that know nothing else
	Host   string // name of this box; empty: left out
	// Interface names an interface by its index, as the operator calls it
	// (nameif, or the kernel's name); nil or an empty answer means "unknown".
	Interface func(index uint32) string
	// Wall is the wall time of an Event.Time. Its location is the one records
	// are written in. The caller answers it afresh for every record, so that a
	// clock set after the start does not leave a wrong time in all records.
	Wall func(time.Duration) time.Time
}

// Severity is a syslog severity: 0 is the worst, 7 debugging.
type Severity uint8

// local4 is the facility an ASA logs to by default.
const local4 = 20

// PRI is the priority value of RFC 3164 4.1.1 with facility local4.
func (s Severity) PRI() int { return local4*8 + int(s) }

// Key says which records repeat each other. A connection's own records carry
// its number and so never repeat.
type Key struct {
	ID     int
	Rule   string
	Client netip.Addr
	Host   netip.Addr // with connection limits
	Conn   uint64
}

// Record is one line of the audit trail.
type Record struct {
	ID       int // 302013
	Severity Severity
	Time     time.Time // wall time
	Key      Key
	Body     string // "%SMTPWALL-6-302013: text", or a JSON object; no line end
	head     string // what ASA text puts before Body; empty for JSON
}

// Line is the whole record as a file holds it, without a line end.
func (r Record) Line() string { return r.head + r.Body }

// Repeat returns r saying that n records like it were left out before it.
func (r Record) Repeat(n uint64) Record {
	count := strconv.FormatUint(n, 10)
	if object, ok := strings.CutSuffix(r.Body, "}"); ok && strings.HasPrefix(r.Body, "{") {
		r.Body = object + `,"repeated":` + count + "}"
	} else {
		r.Body += " (repeated " + count + ")"
	}
	return r
}

// Formatter makes records of events. It keeps nothing between calls.
type Formatter struct {
	opt Options
}

// New returns a Formatter. Tag and Host are cut down to the characters that the
// record's grammar leaves free.
func New(opt Options) *Formatter {
	opt.Tag = keep(opt.Tag, "_")
	if opt.Tag == "" {
		opt.Tag = DefaultTag
	}
	opt.Host = keep(opt.Host, "_-.")
	return &Formatter{opt: opt}
}

// Records returns the records of an event, oldest first: usually one, none for
// a finding whose action does not say `log`.
func (f *Formatter) Records(e *engine.Event) []Record {
	var out []Record
	for _, m := range f.messages(e) {
		out = append(out, f.record(e, m))
	}
	return out
}

// record frames one message.
func (f *Formatter) record(e *engine.Event, m message) Record {
	r := Record{ID: m.id, Severity: m.severity, Time: f.wall(e.Time), Key: key(e, m)}
	if f.opt.Format == JSON {
		r.Body = f.object(e, m, r.Time)
	} else {
		f.frame(&r, m.text)
	}
	return r
}

// wall is the wall time of an event; zero without Options.Wall.
func (f *Formatter) wall(t time.Duration) time.Time {
	if f.opt.Wall == nil {
		return time.Time{}
	}
	return f.opt.Wall(t)
}

// frame puts an ASA's text into a record.
func (f *Formatter) frame(r *Record, text string) {
	r.head = "<" + strconv.Itoa(r.Severity.PRI()) + ">" + r.Time.Format("Jan 02 2006 15:04:05")
	if f.opt.Host != "" {
		r.head += " " + f.opt.Host + " "
	}
	r.head += ": "
	r.Body = "%" + f.opt.Tag + "-" + strconv.Itoa(int(r.Severity)) + "-" + strconv.Itoa(r.ID) + ": " + text
}

// key tells which records repeat each other: findings by rule and client, since
// a client can make as many as it likes on as many connections as it likes.
func key(e *engine.Event, m message) Key {
	k := Key{ID: m.id, Rule: e.Rule, Client: e.Conn.Client.Addr().Unmap()}
	switch e.Kind {
	case engine.EventBuilt, engine.EventTeardown, engine.EventTLSStarted:
		k.Conn = e.Conn.ID + 1 // 0 means none
	case engine.EventNotice, engine.EventUndecided:
		k.Rule += "\x00" + e.Detail
	}
	return k
}

// keep drops every byte of s that is neither a letter, a digit nor one of also.
func keep(s, also string) string {
	return strings.Map(func(r rune) rune {
		if isAlphanumeric(r) || strings.ContainsRune(also, r) {
			return r
		}
		return -1
	}, s)
}

// isAlphanumeric is true for the ASCII letters and digits.
func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
