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
	Class     string       `json:"class"`
	Map       string       `json:"map"`
	Packet    uint64       `json:"packet"`     // packets inspected
	Drop      uint64       `json:"drop"`       // dropped, but not by a line below
	ResetDrop uint64       `json:"reset_drop"` // connections ended by reset
	Lines     []LineReport `json:"lines"`
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
	for i, class := range cfg.Classes {
		var c engine.Counters
		if i < len(counters) {
			c = counters[i]
		}
		ended := c.Drops[engine.ReasonPolicy] + c.Drops[engine.ReasonEnded]
		out = append(out, ClassReport{
			Class: class.Name, Map: class.Map.Name,
			// As on the ASA, packets of connections that a match line ended are
			// counted at that line and not under drop (asa.md 4.1).
			Packet: c.Packets, Drop: c.DropTotal() - ended, ResetDrop: c.EndedByRST,
			Lines: append(parameters(class.Map, &c), matches(class.Map, &c)...),
		})
	}
	return out
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
// does without being asked.
func parameters(m *policy.Map, c *engine.Counters) []LineReport {
	var out []LineReport
	if m.MaskBanner {
		out = append(out, LineReport{Line: "mask-banner", Count: c.Banners})
	}
	if m.AllowTLS {
		line := "allow-tls"
		if m.TLSLog {
			line += " action log"
		}
		out = append(out, LineReport{Line: line, Count: c.TLSStarted})
	}
	for p := range policy.NumParameters {
		var n uint64
		if int(p) < len(c.Parameters) {
			n = c.Parameters[p]
		}
		out = append(out, LineReport{Line: parameterLine(m, p), Count: n, ours: true})
	}
	return append(out,
		LineReport{Line: "unknown-command", Count: c.UnknownCommands, ours: true},
		LineReport{Line: "address-character", Count: c.AddressesChanged, ours: true},
		LineReport{Line: "address-pipe", Count: c.PipesEnded, ours: true},
		LineReport{Line: "early-bytes", Count: c.EarlyBytes, ours: true},
		LineReport{Line: "undecided", Count: c.Undecided, ours: true})
}

// parameterLine spells a parameter of ours with its value.
func parameterLine(m *policy.Map, p policy.Parameter) string {
	switch p {
	case policy.BareNewline:
		return p.String() + " " + m.BareNewline.String()
	case policy.Pipelining:
		if m.Pipelining.Action == policy.NoAction {
			return strings.TrimSpace(p.String() + " allow " + m.Pipelining.String())
		}
		return p.String() + " " + m.Pipelining.String()
	case policy.TLSInjection:
		return p.String() + " " + m.TLSInjection.String()
	case policy.AuthLineLength:
		return p.String() + " " + strconv.FormatUint(m.AuthLineLength, 10)
	}
	return p.String()
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
