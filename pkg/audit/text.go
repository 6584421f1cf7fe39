package audit

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// message is what an ASA would say of an event.
type message struct {
	id       int
	severity Severity
	event    string // its name in JSON
	text     string
	reason   string // 302014 and 507003
}

// messages returns what is to be said of e. A teardown by the inspection is two
// messages, because parsers that know nothing of 108004 know 507003. What the TCP
// normaliser does to a packet is always said, as on an ASA. A finding is said if
// its action says `log`; the engine says so itself where no rule of the
// operator's decides.
func (f *Formatter) messages(e *engine.Event) []message {
	switch e.Kind {
	case engine.EventBuilt:
		return []message{{302013, 6, "built", f.built(e), ""}}
	case engine.EventTeardown:
		return f.teardown(e)
	}
	if isNormaliser(e.Kind) {
		return []message{f.normalised(e)}
	}
	if !e.Do.Log {
		return nil
	}
	switch e.Kind {
	case engine.EventMatch:
		return f.finding(e, "match", "ESMTP Classification")
	case engine.EventParameter:
		return f.finding(e, "parameter", "ESMTP Parameter")
	case engine.EventReplaced:
		return []message{{108002, 2, "replaced", f.replaced(e), ""}}
	case engine.EventMalicious:
		return []message{{108003, 2, "malicious", f.malicious(e), ""}}
	case engine.EventUnknownCommand:
		return f.finding(e, "unknown-command", "ESMTP Parameter")
	case engine.EventTLSStarted:
		return []message{{108007, 6, "tls-started", "TLS started on ESMTP session between client " +
			f.endpoint(e.Conn.Client) + " and server " + f.endpoint(e.Conn.Server), ""}}
	case engine.EventSize:
		return []message{{108006, 7, "size-exceeded", f.size(e), ""}}
	case engine.EventNotice:
		return f.finding(e, "notice", "ESMTP Parameter")
	case engine.EventUndecided:
		return f.finding(e, "undecided", "ESMTP Parameter")
	case engine.EventRetransmission:
		return f.finding(e, "retransmission", "ESMTP Parameter")
	}
	return nil
}

// further is the further_info of 108004 and 108005: "matched Class 4: RULE" or
// "parameter-command: descriptive-message". It is empty for other kinds.
func further(e *engine.Event) string {
	switch e.Kind {
	case engine.EventMatch:
		return "matched Class " + strconv.Itoa(e.Class) + ": " + clean(e.Rule)
	case engine.EventParameter:
		return descriptive(e, "parameter")
	case engine.EventUnknownCommand:
		return "unknown-command: " + peer(e.Text)
	case engine.EventNotice:
		return descriptive(e, "notice")
	case engine.EventUndecided:
		return descriptive(e, "undecided")
	case engine.EventRetransmission:
		return descriptive(e, "check-retransmission")
	}
	return ""
}

// descriptive is "parameter-command: descriptive-message". Where the engine names
// no parameter, name stands for it.
func descriptive(e *engine.Event, name string) string {
	if e.Rule != "" {
		name = clean(e.Rule)
	}
	return name + ": " + clean(e.Detail)
}

// The words of 108004's action field (ASA syslog guide, 108004), and 108005's.
const (
	dropWord     = "Dropped connection for"
	loseWord     = "Dropped"
	resetWord    = "Reset connection for"
	maskWord     = "Masked header flags for"
	receivedWord = "Received"
)

// classify returns id, severity and action field of what was done.
func classify(e *engine.Event) (int, Severity, string) {
	switch {
	case e.NotForwarded:
		return 108004, 4, loseWord
	case e.Do.Action == policy.DropConnection:
		return 108004, 4, dropWord
	case e.Do.Action == policy.Reset:
		return 108004, 4, resetWord
	case e.Do.Action == policy.Mask:
		return 108004, 4, maskWord
	}
	return 108005, 6, receivedWord
}

// finding is 108004 or 108005.
func (f *Formatter) finding(e *engine.Event, event, class string) []message {
	id, severity, word := classify(e)
	return []message{{id, severity, event, f.action(class, word, e), ""}}
}

// action is the body of 108004 and 108005.
func (f *Formatter) action(class, word string, e *engine.Event) string {
	from, to := ends(e)
	return class + ": " + word + " ESMTP " + e.Side.String() + " from " + f.endpoint(from) + " to " + f.endpoint(to) +
		"; " + further(e) + explain(e)
}

// explain is our parenthesis at the end of a record.
func explain(e *engine.Event) string {
	parts := []string{"offset " + strconv.FormatUint(e.Offset, 10)}
	if e.Limit > 0 {
		parts = append(parts, comparison(e))
	}
	if e.Kind == engine.EventMatch && e.Detail != "" {
		parts = append(parts, clean(e.Detail))
	}
	if e.Text != "" && !textInBody(e.Kind) {
		parts = append(parts, `"`+peer(e.Text)+`"`)
	}
	if e.NotForwarded {
		parts = append(parts, "not forwarded")
	}
	return inParentheses(parts)
}

// inParentheses is our addition to a record, empty if there is nothing to say.
func inParentheses(parts []string) string {
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// comparison is what was reached and the bound: "513 > 512", or "12 <= 512"
// where a `match not` acted.
func comparison(e *engine.Event) string {
	if e.Value > e.Limit {
		return fmt.Sprintf("%d > %d", e.Value, e.Limit)
	}
	return fmt.Sprintf("%d <= %d", e.Value, e.Limit)
}

// textInBody is true of the kinds whose ASA text has a place for the peer's
// bytes.
func textInBody(k engine.EventKind) bool {
	return k == engine.EventReplaced || k == engine.EventMalicious || k == engine.EventUnknownCommand
}

// replaced is the body of 108002: bare addresses, the outside one first.
func (f *Formatter) replaced(e *engine.Event) string {
	outside, inside, _ := f.orient(e)
	return "SMTP replaced string: out " + address(outside) + " in " + address(inside) + " data: " + peer(e.Text) + explain(e)
}

// malicious is the body of 108003.
func (f *Formatter) malicious(e *engine.Event) string {
	return "Terminating ESMTP connection; malicious pattern detected in the mail address from " +
		f.endpoint(e.Conn.Client) + " to " + f.endpoint(e.Conn.Server) + ". Mail Address:" + peer(e.Text) + explain(e)
}

// size is the body of 108006.
func (f *Formatter) size(e *engine.Event) string {
	from, to := ends(e)
	return fmt.Sprintf("Detected ESMTP size violation from %s to %s; declared size is: %d, actual size is %d",
		f.endpoint(from), f.endpoint(to), e.Limit, e.Value)
}

// built is the body of 302013. Mapped pairs are mandatory for parsers; the
// forward hook sees one address of each end, so both pairs are the same.
func (f *Formatter) built(e *engine.Event) string {
	outside, inside, direction := f.orient(e)
	return fmt.Sprintf("Built %s TCP connection %d for %s (%s) to %s (%s)", direction, e.Conn.ID,
		f.endpoint(outside), socket(outside), f.endpoint(inside), socket(inside))
}

// teardown is 302014, after 507003 if the inspection ended the flow.
func (f *Formatter) teardown(e *engine.Event) []message {
	outside, inside, _ := f.orient(e)
	from, _ := ends(e)
	reason := teardownReason(e.Teardown, from == outside)
	text := fmt.Sprintf("Teardown TCP connection %d for %s to %s duration %s bytes %d %s", e.Conn.ID,
		f.endpoint(outside), f.endpoint(inside), hms(e.Duration), e.Bytes, reason)
	closed := message{302014, 6, "teardown", text, reason}
	why := inspectionReason(e.Teardown)
	if why == "" {
		return []message{closed}
	}
	return []message{{507003, 4, "terminated", f.terminated(e, why), why}, closed}
}

// terminated is the body of 507003.
func (f *Formatter) terminated(e *engine.Event, why string) string {
	from, to := ends(e)
	return "tcp flow from " + f.endpoint(from) + " to " + f.endpoint(to) + " terminated by inspection engine, reason - " + why + cause(e)
}

// cause is our parenthesis at the end of 507003: the rule that ended the flow.
func cause(e *engine.Event) string {
	if e.Rule == "" {
		return ""
	}
	return strings.Replace(explain(e), "(", "("+clean(e.Rule)+", ", 1)
}

// teardownReason is the ASA's word in 302014; none holds a colon. outside tells
// whether the end that closed is the lower-security one. The ASA has no word for
// a connection whose addresses a new SYN took over.
func teardownReason(t engine.Teardown, outside bool) string {
	switch t {
	case engine.TeardownFINs:
		return "TCP FINs"
	case engine.TeardownReset:
		if outside {
			return "TCP Reset-O"
		}
		return "TCP Reset-I"
	case engine.TeardownInspection:
		return "Flow closed by inspection"
	case engine.TeardownAppliance:
		return "TCP Reset-APPLIANCE"
	case engine.TeardownSYNTimeout:
		return "SYN Timeout"
	case engine.TeardownIntercept:
		return "Flow terminated by TCP Intercept"
	case engine.TeardownTimeout:
		return "Conn-timeout"
	}
	return "Unknown"
}

// inspectionReason is the ASA's word in 507003 as seen in the field, lower case
// and with its full stop; empty if the inspection did not end the flow.
func inspectionReason(t engine.Teardown) string {
	switch t {
	case engine.TeardownInspection:
		return "inspector disconnected, dropped packet."
	case engine.TeardownAppliance:
		return "inspector drop reset."
	}
	return ""
}

// ends returns the sender of the bytes that an event is about, and its peer.
func ends(e *engine.Event) (from, to engine.Endpoint) {
	if e.Side == smtp.Server {
		return e.Conn.Server, e.Conn.Client
	}
	return e.Conn.Client, e.Conn.Server
}

// orient returns the lower-security end first, as the ASA does. A flow is
// outbound if its SYN came in by the interface named inside.
func (f *Formatter) orient(e *engine.Event) (outside, inside engine.Endpoint, direction string) {
	if f.ifname(e.Conn.Client.Interface) == "inside" {
		return e.Conn.Server, e.Conn.Client, "outbound"
	}
	return e.Conn.Client, e.Conn.Server, "inbound"
}

// endpoint is "interface:address/port".
func (f *Formatter) endpoint(p engine.Endpoint) string {
	return f.ifname(p.Interface) + ":" + socket(p)
}

// socket is "address/port".
func socket(p engine.Endpoint) string { return addressPort(p.AddrPort) }

// address is the IP literal, never a name.
func address(p engine.Endpoint) string { return p.Addr().Unmap().String() }

// addressPort is "address/port".
func addressPort(a netip.AddrPort) string {
	return a.Addr().Unmap().String() + "/" + strconv.Itoa(int(a.Port()))
}

// ifname is the interface's name in the characters that parsers accept; a VLAN
// interface eth0.100 becomes eth0_100.
func (f *Formatter) ifname(index uint32) string {
	var name string
	if f.opt.Interface != nil {
		name = f.opt.Interface(index)
	}
	if name == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if isAlphanumeric(r) || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, name)
}

// hms is H:MM:SS; hours are not folded into days.
func hms(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
