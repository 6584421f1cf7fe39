package audit

import (
	"fmt"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// normaliser are the events about a packet that the TCP normaliser, or the guard
// against spoofing, dropped or changed. No byte of a stream decided, so they have
// no offset.
var normaliser = map[engine.EventKind]struct {
	id       int
	severity Severity
	event    string // its name in JSON
	rule     string // where the engine names none
	saying   string // for Summary
}{
	engine.EventExceedsMSS:    {419001, 4, "exceeds-mss", "exceed-mss", "a packet over its receiver's MSS was dropped"},
	engine.EventDuplicateSYN:  {419002, 4, "duplicate-syn", "duplicate-syn", "a SYN on a living connection was dropped"},
	engine.EventUrgentCleared: {419003, 4, "urgent-cleared", "urgent-flag", "an urgent flag was cleared"},
	engine.EventSpoofed:       {106016, 2, "spoofed", "spoofed", "a packet that came in by the other side's interface was dropped"},
}

// isNormaliser is true of the kinds in normaliser.
func isNormaliser(k engine.EventKind) bool {
	_, ok := normaliser[k]
	return ok
}

// normalised is the message of an event in normaliser: the ASA's to the letter,
// without a word of ours (asa.md 3.5; 419001 and 106016 as in the samples that
// other parsers are tested with).
func (f *Formatter) normalised(e *engine.Event) message {
	n := normaliser[e.Kind]
	return message{n.id, n.severity, n.event, f.normalisedText(e), ""}
}

// normalisedText is its body.
func (f *Formatter) normalisedText(e *engine.Event) string {
	sender, receiver := ends(e)
	from, to := f.endpoint(sender), f.endpoint(receiver)
	switch e.Kind {
	case engine.EventExceedsMSS:
		return fmt.Sprintf("Dropping TCP packet from %s to %s, reason: MSS exceeded, MSS %d, data %d", from, to, e.Limit, e.Value)
	case engine.EventDuplicateSYN:
		return fmt.Sprintf("Duplicate TCP SYN from %s to %s with different initial sequence number", from, to)
	case engine.EventUrgentCleared:
		return fmt.Sprintf("Cleared TCP urgent flag from %s to %s", from, to)
	}
	return fmt.Sprintf("Deny IP spoof from (%s) to %s on interface %s", address(sender), address(receiver), f.ifname(e.Interface))
}
