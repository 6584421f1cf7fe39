package audit

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// ClassReport is one class of the service policy with its counters. The JSON
// names are part of the program's interface.
type ClassReport struct {
	Class         string       `json:"class"`
	Map           string       `json:"map"`                      // empty: nothing inspects, the class only states limits
	Packet        uint64       `json:"packet"`                   // packets inspected
	Drop          uint64       `json:"drop"`                     // dropped, but not by a line below
	ResetDrop     uint64       `json:"reset_drop"`               // connections ended by reset
	SetConnection string       `json:"set_connection,omitempty"` // "conn-max 50 per-client-max 5"
	Lines         []LineReport `json:"lines"`
}

// LineReport is one line of a map with what it counted.
type LineReport struct {
	Line  string `json:"line"`             // "match header line length gt 998", "mask-banner"
	Do    string `json:"action,omitempty"` // of a match: "drop-connection log"
	Count uint64 `json:"count"`

	ours bool // the ASA has no such line
}

// Report lists the classes of cfg in its order; counters[i] belongs to
// cfg.Classes[i], summed over its queues. A class without counters has counted
// nothing.
func Report(cfg *policy.Config, counters []engine.Counters) []ClassReport {
	var out []ClassReport
	for i := range cfg.Classes {
		var c engine.Counters
		if i < len(counters) {
			c = counters[i]
		}
		out = append(out, newClassReport(&cfg.Classes[i], &c))
	}
	return out
}

// newClassReport is the report of one class.
func newClassReport(class *policy.Class, c *engine.Counters) ClassReport {
	r := ClassReport{Class: class.Name, SetConnection: class.SetConnection(), Lines: []LineReport{}}
	if class.Map == nil {
		return r
	}
	// As on the ASA, packets of connections that a match line ended are counted
	// at that line and not under drop (asa.md 4.1).
	ended := c.Drops[engine.ReasonPolicy] + c.Drops[engine.ReasonEnded]
	r.Map, r.Packet, r.Drop, r.ResetDrop = class.Map.Name, c.Packets, c.DropTotal()-ended, c.EndedByRST
	r.Lines = append(parameters(class.Map, c), matches(class.Map, c)...)
	return r
}

// Sum adds up the counters of several engines of one class.
func Sum(counters ...engine.Counters) engine.Counters {
	var sum engine.Counters
	for i := range counters {
		add(reflect.ValueOf(&sum).Elem(), reflect.ValueOf(&counters[i]).Elem())
	}
	return sum
}

// add adds every number in v to its counterpart in sum: walking the fields finds
// those that are added to Counters later, too. A slice of sum grows as needed.
func add(sum, v reflect.Value) {
	switch v.Kind() {
	case reflect.Uint64:
		sum.SetUint(sum.Uint() + v.Uint())
	case reflect.Struct:
		for i := range v.NumField() {
			add(sum.Field(i), v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		for sum.Len() < v.Len() {
			sum.Set(reflect.Append(sum, reflect.Zero(v.Type().Elem())))
		}
		for i := range v.Len() {
			add(sum.Index(i), v.Index(i))
		}
	}
}

// parameters are the lines of the map's parameters section, and what the engine
// does without being asked. Of the ASA's own, those that are off are left out,
// as on an ASA.
func parameters(m *policy.Map, c *engine.Counters) []LineReport {
	var out []LineReport
	asa := func(on bool, line string, n uint64) {
		if on {
			out = append(out, LineReport{Line: line, Count: n})
		}
	}
	ours := func(line string, n uint64) {
		out = append(out, LineReport{Line: line, Count: n, ours: true})
	}
	asa(m.MaskBanner, "mask-banner", c.Banners)
	asa(m.MailRelayDomain != "", "mail-relay "+m.MailRelayDomain+" action "+m.MailRelay.String(), parameter(c, policy.MailRelay))
	asa(m.SpecialCharacter != policy.Do{}, "special-character action "+m.SpecialCharacter.String(), parameter(c, policy.SpecialCharacter))
	asa(m.AllowTLS, tlsLine(m), c.TLSStarted)
	if m.RequireTLS {
		ours("require-tls", parameter(c, policy.RequireTLS))
	}
	ours("bare-newline "+m.BareNewline.String(), parameter(c, policy.BareNewline))
	ours(pipeliningLine(m), parameter(c, policy.Pipelining))
	ours("tls-injection "+m.TLSInjection.String(), parameter(c, policy.TLSInjection))
	ours("auth-line-length "+strconv.FormatUint(m.AuthLineLength, 10), parameter(c, policy.AuthLineLength))
	ours("unknown-command", c.UnknownCommands)
	ours("address-character", c.AddressesChanged)
	ours("address-pipe", c.PipesEnded)
	ours("mail-parameter", c.RefusedParameters)
	ours("after-quit", c.AfterQuit)
	ours("early-bytes", c.EarlyBytes)
	ours("size-exceeded", c.SizeExceeded)
	ours("undecided", c.Undecided)
	ours("notice unexpected reply", c.UnexpectedReplies)
	ours("notice transition", c.Transitions)
	ours("notice long reply line", c.LongReplies)
	return out
}

// parameter is what a parameter has counted.
func parameter(c *engine.Counters, p policy.Parameter) uint64 {
	if int(p) < len(c.Parameters) {
		return c.Parameters[p]
	}
	return 0
}

// tlsLine spells allow-tls.
func tlsLine(m *policy.Map) string {
	if m.TLSLog {
		return "allow-tls action log"
	}
	return "allow-tls"
}

// pipeliningLine spells pipelining: its action that does nothing has a word.
func pipeliningLine(m *policy.Map) string {
	if m.Pipelining.Action == policy.NoAction {
		return strings.TrimSpace("pipelining allow " + m.Pipelining.String())
	}
	return "pipelining " + m.Pipelining.String()
}

// matches are the map's match lines.
func matches(m *policy.Map, c *engine.Counters) []LineReport {
	var out []LineReport
	for i, match := range m.Matches {
		var n uint64
		if i < len(c.Matches) {
			n = c.Matches[i]
		}
		out = append(out, LineReport{Line: "match " + match.String(), Do: match.Do.String(), Count: n})
	}
	return out
}

// ServicePolicy prints what `show service-policy` shows, in the ASA's layout
// (asa.md 4.1). Lines that no ASA has appear once they have counted something,
// so that a quiet box prints what an ASA prints.
func ServicePolicy(w io.Writer, cfg *policy.Config, counters []engine.Counters) error {
	var b strings.Builder
	if cfg.ServicePolicy == "global" {
		b.WriteString("Global policy:\n")
	} else {
		fmt.Fprintf(&b, "%s:\n", cfg.ServicePolicy)
	}
	fmt.Fprintf(&b, "  Service-policy: %s\n", cfg.PolicyMap)
	for _, class := range Report(cfg, counters) {
		class.print(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// print writes one class. A match's counter is called packet and a parameter's
// count, as on the ASA.
func (r ClassReport) print(b *strings.Builder) {
	fmt.Fprintf(b, "    Class-map: %s\n", r.Class)
	if r.SetConnection != "" {
		fmt.Fprintf(b, "      Set connection policy: %s\n", r.SetConnection)
	}
	if r.Map == "" {
		return
	}
	fmt.Fprintf(b, "      Inspect: esmtp %s, packet %d, drop %d, reset-drop %d\n", r.Map, r.Packet, r.Drop, r.ResetDrop)
	for _, l := range r.Lines {
		switch {
		case l.Do != "":
			fmt.Fprintf(b, "        %s\n          %s, packet %d\n", l.Line, l.Do, l.Count)
		case l.Count > 0 || !l.ours:
			fmt.Fprintf(b, "        %s, count %d\n", l.Line, l.Count)
		}
	}
}
