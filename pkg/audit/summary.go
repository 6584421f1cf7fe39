package audit

import (
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// Summary says in one phrase which rule acted, on what numbers, and what it did:
// "match cmd line length gt 512: 513 > 512, offset 40, drop-connection log".
// It is empty for events that no rule makes. It is for the reader of a dialogue,
// not for parsers.
func Summary(e *engine.Event) string {
	name := RuleLine(e)
	if name == "" {
		return ""
	}
	var parts []string
	if said := saying(e); said != "" {
		parts = append(parts, said)
	}
	if e.Limit > 0 {
		parts = append(parts, comparison(e))
	}
	if !isNormaliser(e.Kind) {
		parts = append(parts, "offset "+strconv.FormatUint(e.Offset, 10))
	}
	if do := e.Do.String(); do != "" {
		parts = append(parts, do)
	}
	if e.NotForwarded {
		parts = append(parts, "not forwarded")
	}
	return name + ": " + strings.Join(parts, ", ")
}

// RuleLine is the line of the policy that an event is about, or the name of what
// holds without one: LineReport.Line begins with it. It is empty for events that
// no rule makes.
func RuleLine(e *engine.Event) string {
	switch e.Kind {
	case engine.EventBuilt, engine.EventTeardown:
		return ""
	case engine.EventMatch:
		return "match " + clean(e.Rule)
	case engine.EventTLSStarted:
		return "allow-tls"
	case engine.EventNotice:
		return "notice"
	}
	return ruleName(e)
}

// ruleName is the rule that the event names, or the one that its kind stands for.
func ruleName(e *engine.Event) string {
	switch {
	case e.Rule != "":
		return clean(e.Rule)
	case e.Kind == engine.EventRetransmission:
		return "check-retransmission"
	}
	return normaliser[e.Kind].rule
}

// saying is what an event tells beyond its rule and numbers.
func saying(e *engine.Event) string {
	switch e.Kind {
	case engine.EventReplaced:
		return "a byte that became a space"
	case engine.EventMalicious:
		return "a pipe in a mail address"
	case engine.EventTLSStarted:
		return "the rest is not read"
	}
	if e.Detail == "" {
		return normaliser[e.Kind].saying
	}
	return clean(e.Detail)
}
