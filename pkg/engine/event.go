package engine

import (
	"bytes"

	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// fact gives an event about a fact of the session that is being fed, and returns
// it.
func (e *Engine) fact(f smtp.Fact, ev Event) Event {
	ev.Conn = connOf(e.feed.entry)
	ev.Side, ev.Offset, ev.Limit, ev.Value = f.Side, f.Offset, f.Limit, f.Value
	ev.Text = string(withoutSecret(f.Text))
	e.emit(ev)
	return ev
}

// emit gives an event to the caller. When nobody takes them, they are counted.
func (e *Engine) emit(ev Event) {
	if len(e.events) >= e.limits.Events {
		e.counters.EventsLost++
		return
	}
	ev.Time = e.now
	e.events = append(e.events, ev)
}

// notForwarded marks the events of the packet in hand that tell of a mask: a
// later byte of it has ended the session, so that nobody gets what was masked.
func (e *Engine) notForwarded() {
	for i := range e.events[e.feed.events:] {
		ev := &e.events[e.feed.events+i]
		ev.NotForwarded = ev.Do.Action == policy.Mask
	}
}

// teardown tells once why a connection is over.
func (e *Engine) teardown(en *entry, why Teardown, side smtp.Side) {
	s := &en.Value
	if s.torn {
		return
	}
	s.torn = true
	ev := Event{}
	if why == TeardownInspection || why == TeardownAppliance {
		ev = e.ending
		ev.Do, ev.Text = policy.Do{}, ""
	}
	ev.Kind, ev.Conn, ev.Side, ev.Teardown = EventTeardown, connOf(en), side, why
	ev.Duration, ev.Bytes = e.now-s.started, s.bytes
	e.emit(ev)
}

// secretWords are the commands whose argument may hold a password (RFC 4954; X-EXPS
// is Exchange's AUTH).
var secretWords = [...]string{"AUTH", "X-EXPS"}

// withoutSecret cuts a command line behind the name of its mechanism, if it is
// one that may go on with a password: more people read an audit trail than may
// know one.
func withoutSecret(line []byte) []byte {
	for _, word := range secretWords {
		n := len(word)
		if len(line) <= n || !bytes.EqualFold(line[:n], []byte(word)) || !isBlank(line[n]) {
			continue
		}
		for n < len(line) && isBlank(line[n]) {
			n++
		}
		for n < len(line) && !isBlank(line[n]) {
			n++
		}
		return line[:n]
	}
	return line
}

// isBlank is true of what may stand between the words of a command.
func isBlank(c byte) bool { return c == ' ' || c == '\t' }
