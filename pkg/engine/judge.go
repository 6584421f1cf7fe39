package engine

import (
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// judge is the Engine as the Judge of the session that is being fed.
type judge Engine

// Judge decides on a fact by the map.
func (j *judge) Judge(f smtp.Fact) smtp.Action {
	e := (*Engine)(j)
	m := e.opt.Map
	switch f.Kind {
	case smtp.KindLimit:
		return e.matched(f, m.ByLimit(f.Measure, f.Limit))
	case smtp.KindEHLOKeyword:
		return e.matched(f, m.ByKeyword(f.Keyword))
	case smtp.KindBanner:
		e.counters.Banners++
	case smtp.KindUnknownCommand:
		e.counters.UnknownCommands++
		e.fact(f, Event{Kind: EventUnknownCommand, Rule: "unknown-command", Do: policy.Do{Action: policy.Mask, Log: true}})
	case smtp.KindAddressReplaced:
		e.counters.AddressesChanged++
		e.fact(f, Event{Kind: EventReplaced, Rule: "address-character", Do: policy.Do{Action: policy.Mask, Log: true}})
	case smtp.KindPipe:
		e.counters.PipesEnded++
		return e.ends(ReasonPolicy, e.fact(f, Event{Kind: EventMalicious, Rule: "address-pipe", Do: dropAndLog}))
	case smtp.KindBareNewline:
		return e.parameter(f, policy.BareNewline, m.BareNewline, "a CR or LF that is no part of CR LF in a command")
	case smtp.KindAuthNewline:
		return e.parameter(f, policy.BareNewline, maskToDrop(m.BareNewline), "a CR or LF that is no part of CR LF in an AUTH exchange")
	case smtp.KindDotLine:
		return e.parameter(f, policy.BareNewline, maskToDrop(m.BareNewline), "a line holding one dot that does not stand between CR LF and CR LF")
	case smtp.KindPipelined:
		return e.parameter(f, policy.Pipelining, m.Pipelining, "a command did not wait, and the server had not announced PIPELINING")
	case smtp.KindEarlyTalker:
		return e.parameter(f, policy.Pipelining, m.Pipelining, "a command came before the greeting")
	case smtp.KindGluedBytes:
		e.counters.EarlyBytes++
		return e.ends(ReasonPolicy, e.fact(f, Event{Kind: EventParameter, Rule: "early-bytes", Do: dropAndLog,
			Detail: "bytes in the packet of a DATA or AUTH line whose reply decides how to read them"}))
	case smtp.KindTLSInjection:
		return e.parameter(f, policy.TLSInjection, m.TLSInjection, "bytes in the clear behind STARTTLS or its reply")
	case smtp.KindTLSMissing:
		return e.parameter(f, policy.TLSInjection, m.TLSInjection, "no TLS handshake behind the reply to STARTTLS")
	case smtp.KindAuthLine:
		return e.parameter(f, policy.AuthLineLength, dropAndLog, "a line of an AUTH exchange is too long")
	case smtp.KindTLSStarted:
		e.counters.TLSStarted++
		e.fact(f, Event{Kind: EventTLSStarted, Do: policy.Do{Log: m.TLSLog}})
		e.startBypass(e.feed.entry)
	case smtp.KindUnexpectedReply:
		e.fact(f, Event{Kind: EventNotice, Do: policy.Do{Log: true}, Detail: fmt.Sprintf("reply %d answers no command", f.Value)})
	case smtp.KindUndecided:
		return e.undecided(f, fmt.Sprintf("reply %d without the command it belongs to", f.Value))
	case smtp.KindOverflow:
		return e.undecided(f, "more commands await a reply than are kept")
	}
	return smtp.Pass
}

// maskToDrop is what a parameter does where bytes are never edited: in message
// octets and in AUTH exchanges.
func maskToDrop(do policy.Do) policy.Do {
	if do.Action == policy.Mask {
		do.Action = policy.DropConnection
	}
	return do
}

var dropAndLog = policy.Do{Action: policy.DropConnection, Log: true}

// matched applies the match lines of the map to a fact, in their order. The
// first that ends the connection wins; counting and logging stop nothing.
func (e *Engine) matched(f smtp.Fact, classes []int) smtp.Action {
	action := smtp.Pass
	for _, i := range classes {
		match := &e.opt.Map.Matches[i]
		e.counters.Matches[i]++
		if f.Repeat && match.Do.Action == policy.NoAction {
			continue
		}
		ev := e.fact(f, Event{Kind: EventMatch, Class: i + 1, Rule: match.String(), Do: match.Do})
		switch match.Do.Action {
		case policy.DropConnection, policy.Reset:
			return e.ends(ReasonPolicy, ev)
		case policy.Mask:
			action = smtp.Mask
		}
	}
	return action
}

// parameter applies a parameter of the map to a fact.
func (e *Engine) parameter(f smtp.Fact, p policy.Parameter, do policy.Do, detail string) smtp.Action {
	e.counters.Parameters[p]++
	if f.Repeat && do.Action == policy.NoAction {
		return smtp.Pass
	}
	ev := e.fact(f, Event{Kind: EventParameter, Rule: p.String(), Do: do, Detail: detail})
	switch do.Action {
	case policy.DropConnection, policy.Reset:
		return e.ends(ReasonPolicy, ev)
	case policy.Mask:
		return smtp.Mask
	}
	return smtp.Pass
}

// undecided handles what nobody can read, as --undecided says: the one place
// where it is decided.
func (e *Engine) undecided(f smtp.Fact, detail string) smtp.Action {
	e.counters.Undecided++
	do := dropAndLog
	if e.opt.Undecided == UndecidedOpen {
		do.Action = policy.NoAction
	}
	ev := e.fact(f, Event{Kind: EventUndecided, Rule: "undecided", Do: do, Detail: detail})
	if e.opt.Undecided == UndecidedOpen {
		e.startBypass(e.feed.entry)
		return smtp.Pass
	}
	return e.ends(ReasonUndecided, ev)
}

// ends notes that the session ends, and why.
func (e *Engine) ends(why Reason, cause Event) smtp.Action {
	e.ending, e.endReason = cause, why
	return smtp.End
}

// fact gives an event about a fact of the session that is being fed, and returns
// it.
func (e *Engine) fact(f smtp.Fact, ev Event) Event {
	ev.Conn = e.feed.entry.Value.conn
	ev.Side, ev.Offset, ev.Limit, ev.Value = f.Side, f.Offset, f.Limit, f.Value
	ev.Text = string(f.Text)
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

// teardown tells once why a connection is over.
func (e *Engine) teardown(s *session, why Teardown, side smtp.Side) {
	if s.torn {
		return
	}
	s.torn = true
	ev := Event{}
	if why == TeardownInspection || why == TeardownAppliance {
		ev = e.ending
		ev.Do, ev.Text = policy.Do{}, ""
	}
	ev.Kind, ev.Conn, ev.Side, ev.Teardown = EventTeardown, s.conn, side, why
	ev.Duration, ev.Bytes = e.now-s.started, s.bytes
	e.emit(ev)
}

// closeAssembler makes the assembler forget the direction from src to dst.
func (e *Engine) closeAssembler(src, dst netip.AddrPort) {
	endpoint := layers.EndpointIPv6
	if src.Addr().Is4() {
		endpoint = layers.EndpointIPv4
	}
	net := gopacket.NewFlow(endpoint, src.Addr().AsSlice(), dst.Addr().AsSlice())
	e.assembler.Close(net, src.Port(), dst.Port())
}
