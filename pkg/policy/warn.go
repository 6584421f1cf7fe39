package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// Warnings says what in the policy will hurt, though it is no error: one
// sentence each, with the map it is about and the remedy. Maps that no class uses
// hurt nobody.
func (c *Config) Warnings() (all []string) {
	for _, m := range c.Maps {
		if !slices.ContainsFunc(c.Classes, func(cl Class) bool { return cl.Map == m }) {
			continue
		}
		for _, text := range m.warnings() {
			all = append(all, "map "+m.Name+": "+text)
		}
	}
	for _, t := range c.TCPMaps {
		for _, text := range c.warnTCPMap(t) {
			all = append(all, "tcp-map "+t.Name+": "+text)
		}
	}
	return slices.Concat(all, c.warnConnections(), c.warnUnused())
}

// warnings are those of one map, without its name.
func (m *Map) warnings() []string {
	all := slices.Concat(m.warnGreeting(), m.warnAuth(), m.warnPrivate(), m.warnParameters(), m.warnMatches())
	if m.Name == DefaultMapName {
		all = append(all, "this map cannot be changed; write the remedies into a map of your own, or inspect with modern_esmtp_map of the shipped policy.conf")
	}
	return all
}

// warnGreeting is about what a sender is told of the server (asa.md section 7,
// rows 1, 2 and 10).
func (m *Map) warnGreeting() (texts []string) {
	if m.MaskBanner {
		texts = append(texts, "mask-banner hides the server's name and the word ESMTP: senders that check the name may not deliver,"+
			" and Postfix turns to its workarounds for a broken PIX (HELO, a pause before the dot); write no mask-banner")
	}
	if !m.passes(smtp.VerbSTARTTLS) {
		remedy := "write allow-tls action log"
		if m.AllowTLS {
			remedy = "let no match cmd verb with mask apply to it"
		}
		texts = append(texts, "STARTTLS does not pass: mail that both ends would have encrypted passes in clear,"+
			" and senders that require TLS (DANE, MTA-STS) do not deliver; "+remedy)
	}
	return texts
}

// warnAuth is about AUTH commands with a long initial response (RFC 4954 section
// 4), which a bound on command lines ends.
func (m *Map) warnAuth() (texts []string) {
	if m.AuthCommandLength || !m.passes(smtp.VerbAUTH) {
		return nil
	}
	for _, match := range m.Matches {
		if match.Criterion == CmdLineLength && match.Over < smtp.DefaultAuthLineLength && match.ends() && !match.Not {
			texts = append(texts, fmt.Sprintf("match %s ends sessions for a long AUTH command, which may have %d bytes; write auth-line-length %d",
				match, smtp.DefaultAuthLineLength, smtp.DefaultAuthLineLength))
		}
	}
	return texts
}

// warnPrivate is about an allowed command that a forbidden one begins with: what
// the server gets of that is harmless to us, and unknown to the server.
func (m *Map) warnPrivate() (texts []string) {
	if len(m.AllowCommands) == 0 {
		return nil
	}
	for _, bad := range m.forbidden() {
		for i, c := range m.AllowCommands {
			if m.passes(smtp.NumVerbs+smtp.Verb(i)) && strings.HasPrefix(bad, c.Word) {
				rest := strings.Repeat("X", len(bad)-len(c.Word))
				texts = append(texts, fmt.Sprintf("the forbidden command %s begins with the allowed %s: of a line split there the server gets %s%s; write no allow-command %s if the server does not need it",
					bad, c.Word, c.Word, rest, c.Word))
			}
		}
	}
	return texts
}

// warnParameters is about what the map does with findings.
func (m *Map) warnParameters() (texts []string) {
	if m.Pipelining.Action != NoAction && !m.masksKeyword(smtp.KeywordPIPELINING) {
		texts = append(texts, fmt.Sprintf("pipelining %s acts on clients that only do what the server offered them; write match ehlo-reply-parameter pipelining with mask below it, or pipelining allow log",
			m.Pipelining))
	}
	if m.Pipelining.Action == Mask {
		texts = append(texts, "pipelining mask turns a RCPT that did not wait into a recipient that the sender takes for refused; write pipelining allow log or pipelining drop-connection log")
	}
	if m.BareNewline.Action == NoAction {
		texts = append(texts, "bare-newline log lets through mail whose end, and commands whose line, two servers see in different places (SMTP smuggling); write bare-newline drop-connection log")
	}
	return texts
}

// warnMatches is about match lines that end the sessions of honest mail.
func (m *Map) warnMatches() (texts []string) {
	for _, match := range m.Matches {
		if !match.ends() || match.Not {
			continue
		}
		switch match.Criterion {
		case HeaderLineLength:
			texts = append(texts, fmt.Sprintf("match %s ends sessions for honest mail too, whose To, References and DKIM-Signature lines can be longer; write log as its action", match))
		case InvalidRecipientsCount:
			texts = append(texts, fmt.Sprintf("match %s ends the session before the message, at each attempt: its good recipients never get the mail; write log as its action", match))
		}
	}
	return texts
}

// ends tells whether a line ends connections at its first match.
func (m Match) ends() bool { return m.Do.Action == DropConnection || m.Do.Action == Reset }

// masksKeyword tells whether a match line masks a class of EHLO keywords.
func (m *Map) masksKeyword(k smtp.Keyword) bool {
	return slices.ContainsFunc(m.Matches, func(match Match) bool {
		return match.Criterion == EHLOReplyParameter && match.Do.Action == Mask && match.hasKeyword(m, k)
	})
}

// warnTCPMap is about a tcp-map.
func (c *Config) warnTCPMap(t *TCPMap) (texts []string) {
	if !slices.ContainsFunc(c.Classes, func(cl Class) bool { return cl.TCP == t }) {
		return []string{"no class uses it; write set connection advanced-options " + t.Name + " below one, or no such tcp-map"}
	}
	if t.AllowUrgent {
		texts = append(texts, "urgent-flag allow makes end hosts leave an octet out that was inspected: a server may read other commands than were judged; write urgent-flag clear")
	}
	if t.NoTTLProtection {
		texts = append(texts, "no ttl-evasion-protection changes nothing: octets that were forwarded once are the ones that a later packet gets too, whatever became of the first; write no such line")
	}
	return texts
}

// warnUnused is about regexes that decide on nothing, often a line forgotten.
func (c *Config) warnUnused() (texts []string) {
	used := make(map[regexName]bool)
	for _, m := range c.Maps {
		for _, match := range m.Matches {
			used[regexName{match.Regex, match.Class}] = true
		}
	}
	for _, rc := range c.RegexClasses {
		for _, name := range rc.Regexes {
			used[regexName{name, false}] = true
		}
		if !used[regexName{rc.Name, true}] {
			texts = append(texts, "class-map type regex "+rc.Name+": no match line names it; write one, or no such class-map")
		}
	}
	for _, r := range c.Regexes {
		if !used[regexName{r.Name, false}] {
			texts = append(texts, "regex "+r.Name+": neither a match line nor a class names it; write one, or no such regex")
		}
	}
	return texts
}
