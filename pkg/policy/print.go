package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// String returns the ASA's words for the action: "drop-connection log", "mask",
// "log"; empty if nothing is done.
func (d Do) String() string {
	switch {
	case !d.Log:
		return d.Action.String()
	case d.Action == NoAction:
		return "log"
	}
	return d.Action.String() + " log"
}

// String returns the criterion as `show service-policy` spells it.
func (c Criterion) String() string { return criteria[c].words }

// String returns the match as `show service-policy` and audit records spell it:
// "cmd line length gt 512", "ehlo-reply-parameter others".
func (m Match) String() string {
	if m.Criterion != EHLOReplyParameter {
		return m.Criterion.String() + " gt " + strconv.FormatUint(m.Over, 10)
	}
	s := m.Criterion.String()
	for _, k := range m.Keywords {
		s += " " + keywords[k]
	}
	return s
}

// String returns the parameter's name in the language.
func (p Parameter) String() string {
	return [...]string{"bare-newline", "pipelining", "tls-injection", "auth-line-length"}[p]
}

// String prints the policy so that Parse gives the same Config.
func (c *Config) String() string {
	var b strings.Builder
	for _, kernel := range slices.Sorted(maps.Keys(c.Nameif)) {
		fmt.Fprintf(&b, "interface %s\n nameif %s\n", kernel, c.Nameif[kernel])
	}
	for _, m := range c.Maps {
		b.WriteString(m.String())
	}
	for _, cl := range c.Classes {
		queues := strconv.Itoa(int(cl.First))
		if cl.Last != cl.First {
			queues += "-" + strconv.Itoa(int(cl.Last))
		}
		fmt.Fprintf(&b, "class-map %s\n match queue %s\n", cl.Name, queues)
	}
	fmt.Fprintf(&b, "policy-map %s\n", c.PolicyMap)
	for _, cl := range c.Classes {
		fmt.Fprintf(&b, " class %s\n  inspect esmtp %s\n", cl.Name, cl.Map.Name)
	}
	fmt.Fprintf(&b, "service-policy %s %s\n", c.PolicyMap, c.ServicePolicy)
	return b.String()
}

// String prints the map as a policy file has it. As on the ASA its own
// parameters always stand there; ours only where they differ from the default.
func (m *Map) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy-map type inspect esmtp %s\n", m.Name)
	if m.Description != "" {
		fmt.Fprintf(&b, " description %s\n", m.Description)
	}
	b.WriteString(" parameters\n")
	for _, p := range m.parameters() {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	for _, match := range m.Matches {
		fmt.Fprintf(&b, " match %s\n  %s\n", match, match.Do)
	}
	return b.String()
}

// parameters lists the lines of the map's `parameters` section.
func (m *Map) parameters() []string {
	lines := []string{"no mask-banner", "no mail-relay", "no special-character", "no allow-tls"}
	if m.MaskBanner {
		lines[0] = "mask-banner"
	}
	switch {
	case m.AllowTLS && m.TLSLog:
		lines[3] = "allow-tls action log"
	case m.AllowTLS:
		lines[3] = "allow-tls"
	}
	absent := newMap("")
	if m.BareNewline != absent.BareNewline {
		lines = append(lines, "bare-newline "+m.BareNewline.String())
	}
	switch {
	case m.Pipelining == Do{}:
		lines = append(lines, "pipelining allow")
	case m.Pipelining != absent.Pipelining:
		lines = append(lines, "pipelining "+m.Pipelining.String())
	}
	if m.TLSInjection != absent.TLSInjection {
		lines = append(lines, "tls-injection "+m.TLSInjection.String())
	}
	if m.AuthLineLength != absent.AuthLineLength {
		lines = append(lines, "auth-line-length "+strconv.FormatUint(m.AuthLineLength, 10))
	}
	return lines
}
