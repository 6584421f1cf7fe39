package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// String returns the ASA's words for the action: "drop-connection log", "mask",
// "rate-limit 5", "log"; empty if nothing is done.
func (d Do) String() string {
	switch {
	case d.Action == RateLimit:
		return "rate-limit " + strconv.FormatUint(d.Rate, 10)
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
// "cmd line length gt 512", "not ehlo-reply-parameter size dsn".
func (m Match) String() string {
	words := []string{m.Criterion.String()}
	if m.Not {
		words = []string{"not", m.Criterion.String()}
	}
	switch m.Criterion {
	case EHLOReplyParameter:
		for _, k := range m.Keywords {
			words = append(words, keywords[k])
		}
	case CmdVerb:
		words = append(words, m.Verbs...)
	case MIMEEncoding:
		for _, e := range m.Encodings {
			words = append(words, encodings[e])
		}
	case MIMEFiletypeRegex, SenderAddressRegex:
		if m.Class {
			words = append(words, "class")
		}
		words = append(words, m.Regex)
	default:
		words = append(words, "gt", strconv.FormatUint(m.Over, 10))
	}
	return strings.Join(words, " ")
}

// String returns the parameter's name in the language.
func (p Parameter) String() string {
	return [...]string{"bare-newline", "pipelining", "tls-injection", "auth-line-length",
		"mail-relay", "special-character", "require-tls"}[p]
}

// String prints the policy so that Parse gives the same Config.
func (c *Config) String() string {
	var b strings.Builder
	for _, kernel := range slices.Sorted(maps.Keys(c.Nameif)) {
		fmt.Fprintf(&b, "interface %s\n nameif %s\n", kernel, c.Nameif[kernel])
	}
	for _, r := range c.Regexes {
		fmt.Fprintf(&b, "regex %s \"%s\"\n", r.Name, r.Pattern)
	}
	for _, rc := range c.RegexClasses {
		fmt.Fprintf(&b, "class-map type regex match-any %s\n%s", rc.Name, described(rc.Description))
		for _, name := range rc.Regexes {
			fmt.Fprintf(&b, " match regex %s\n", name)
		}
	}
	for _, m := range c.Maps {
		b.WriteString(m.String())
	}
	for _, t := range c.TCPMaps {
		b.WriteString(t.String())
	}
	for _, cl := range c.Classes {
		queues := strconv.Itoa(int(cl.First))
		if cl.Last != cl.First {
			queues += "-" + strconv.Itoa(int(cl.Last))
		}
		fmt.Fprintf(&b, "class-map %s\n%s match queue %s\n", cl.Name, described(cl.Description), queues)
	}
	fmt.Fprintf(&b, "policy-map %s\n%s", c.PolicyMap, described(c.Description))
	for _, cl := range c.Classes {
		b.WriteString(cl.String())
	}
	fmt.Fprintf(&b, "service-policy %s %s\n", c.PolicyMap, c.ServicePolicy)
	return b.String()
}

// String prints the class as it stands in the policy map.
func (c *Class) String() string {
	lines := []string{" class " + c.Name}
	if c.Map != nil {
		lines = append(lines, "  inspect esmtp "+c.Map.Name)
	}
	if c.TCP != nil && c.TCP.Name != "" {
		lines = append(lines, "  set connection advanced-options "+c.TCP.Name)
	}
	if limits := c.SetConnection(); limits != "" {
		lines = append(lines, "  set connection "+limits)
	}
	return strings.Join(lines, "\n") + "\n"
}

// described is the line of a description, if there is one.
func described(text string) string {
	if text == "" {
		return ""
	}
	return " description " + text + "\n"
}

// String prints the map as a policy file has it. As on the ASA its own
// parameters always stand there; ours only where they differ from the default.
func (m *Map) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy-map type inspect esmtp %s\n%s", m.Name, described(m.Description))
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
	if m.MailRelayDomain != "" {
		lines[1] = "mail-relay " + m.MailRelayDomain + " action " + m.MailRelay.String()
	}
	if m.SpecialCharacter != (Do{}) {
		lines[2] = "special-character action " + m.SpecialCharacter.String()
	}
	switch {
	case m.AllowTLS && m.TLSLog:
		lines[3] = "allow-tls action log"
	case m.AllowTLS:
		lines[3] = "allow-tls"
	}
	return append(append(lines, m.extensions()...), m.findings()...)
}

// extensions lists the parameters of ours that say what passes.
func (m *Map) extensions() (lines []string) {
	if m.RequireTLS {
		lines = append(lines, "require-tls")
	}
	if m.AllowBDAT {
		lines = append(lines, "allow-bdat")
	}
	for _, c := range m.AllowCommands {
		line := "allow-command " + c.Word
		if c.Like != builtInLikes[c.Word] {
			line += " like " + likes[c.Like]
		}
		lines = append(lines, line)
	}
	if len(m.AllowKeywords) > 0 {
		lines = append(lines, "allow-ehlo-parameter "+strings.Join(m.AllowKeywords, " "))
	}
	if m.AuthCommandLength {
		lines = append(lines, "auth-line-length "+strconv.FormatUint(m.AuthLineLength, 10))
	}
	return lines
}

// findings lists the parameters of ours that say what is done about a finding.
func (m *Map) findings() (lines []string) {
	absent := newMap("")
	switch {
	case m.Pipelining == Do{}:
		lines = append(lines, "pipelining allow")
	case m.Pipelining != absent.Pipelining:
		lines = append(lines, "pipelining "+m.Pipelining.String())
	}
	if m.BareNewline != absent.BareNewline {
		lines = append(lines, "bare-newline "+m.BareNewline.String())
	}
	if m.TLSInjection != absent.TLSInjection {
		lines = append(lines, "tls-injection "+m.TLSInjection.String())
	}
	return lines
}
