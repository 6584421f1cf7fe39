package engine

import (
	"fmt"

	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// judge is the Engine as the Judge of the session that is being fed.
type judge Engine

// What is done where no line of the policy names an action.
var (
	dropAndLog = policy.Do{Action: policy.DropConnection, Log: true}
	maskAndLog = policy.Do{Action: policy.Mask, Log: true}
	logOnly    = policy.Do{Log: true}
)

// Judge decides on a fact by the map. Behind the fact that ended a session, or
// its inspection, nothing more of it is judged.
func (j *judge) Judge(f smtp.Fact) smtp.Action {
	e := (*Engine)(j)
	if e.feed.over {
		return smtp.End
	}
	m, c := e.opt.Map, &e.counters
	switch f.Kind {
	case smtp.KindLimit, smtp.KindWithin, smtp.KindVerb, smtp.KindSender, smtp.KindMediaType, smtp.KindEncoding, smtp.KindEHLOKeyword:
		return e.matched(f, m.Lines(&f))
	case smtp.KindRecipient:
		return e.recipient(f)
	case smtp.KindSpecialCharacter:
		if m.SpecialCharacter != (policy.Do{}) {
			return e.parameter(f, policy.SpecialCharacter, m.SpecialCharacter, "a back quote or NUL in a mail address")
		}
	case smtp.KindTLSRequired:
		return e.parameter(f, policy.RequireTLS, maskAndLog, "a command that passes inside TLS only")
	case smtp.KindBareNewline:
		return e.parameter(f, policy.BareNewline, m.BareNewline, "a CR or LF that is no part of CR LF in a command")
	case smtp.KindAuthNewline:
		return e.parameter(f, policy.BareNewline, maskToDrop(m.BareNewline), "a CR or LF that is no part of CR LF in an AUTH exchange")
	case smtp.KindDotLine:
		return e.parameter(f, policy.BareNewline, maskToDrop(m.BareNewline), "a line holding one dot that does not stand between CR LF and CR LF")
	case smtp.KindPipelined:
		return e.pipelined(f, "a command did not wait, and the server had not announced PIPELINING")
	case smtp.KindGroupEnd:
		return e.pipelined(f, "a command did not wait for the reply to one that has to be the last of its group")
	case smtp.KindEarlyTalker:
		return e.parameter(f, policy.Pipelining, maskToPass(m.Pipelining), "a command came before the greeting")
	case smtp.KindTLSInjection:
		return e.parameter(f, policy.TLSInjection, m.TLSInjection, "bytes in the clear behind STARTTLS or its reply")
	case smtp.KindTLSMissing:
		return e.parameter(f, policy.TLSInjection, m.TLSInjection, "no TLS handshake behind the reply to STARTTLS")
	case smtp.KindAuthLine:
		return e.parameter(f, policy.AuthLineLength, dropAndLog, "a line of an AUTH exchange is too long")
	case smtp.KindBanner:
		c.Banners++
	case smtp.KindUnknownCommand:
		c.UnknownCommands++
		e.fact(f, Event{Kind: EventUnknownCommand, Rule: "unknown-command", Do: masked(f)})
	case smtp.KindParameterRefused:
		c.RefusedParameters++
		e.fact(f, Event{Kind: EventParameter, Rule: "mail-parameter", Do: maskAndLog, Detail: "PRDR, behind which replies and commands cannot be paired"})
	case smtp.KindAfterQuit:
		c.AfterQuit++
		if !f.Repeat {
			e.fact(f, Event{Kind: EventParameter, Rule: "after-quit", Do: maskAndLog, Detail: "a command behind the reply to QUIT"})
		}
	case smtp.KindAddressReplaced:
		c.AddressesChanged++
		e.fact(f, Event{Kind: EventReplaced, Rule: "address-character", Do: maskAndLog})
	case smtp.KindPipe:
		c.PipesEnded++
		return e.ends(ReasonPolicy, e.fact(f, Event{Kind: EventMalicious, Rule: "address-pipe", Do: dropAndLog}))
	case smtp.KindGluedBytes:
		c.EarlyBytes++
		return e.ends(ReasonPolicy, e.fact(f, Event{Kind: EventParameter, Rule: "early-bytes", Do: dropAndLog,
			Detail: "bytes in the packet of a line whose reply decides how to read them"}))
	case smtp.KindTLSStarted:
		c.TLSStarted++
		e.fact(f, Event{Kind: EventTLSStarted, Do: policy.Do{Log: m.TLSLog}})
		e.startBypass(e.feed.entry)
	case smtp.KindSizeExceeded:
		c.SizeExceeded++
		e.fact(f, Event{Kind: EventSize, Rule: "size-exceeded", Do: logOnly})
	case smtp.KindUnexpectedReply:
		c.UnexpectedReplies++
		e.notice(f, fmt.Sprintf("reply %d answers no command", f.Value))
	case smtp.KindTransition:
		c.Transitions++
		command := f.Text // the dialogue's word, not the server's bytes
		f.Text = nil
		e.notice(f, fmt.Sprintf("reply %d to %s", f.Value, command))
	case smtp.KindReplyLine:
		c.LongReplies++
		e.notice(f, "a reply line is longer than clients must take")
	case smtp.KindUndecided:
		return e.undecided(f, fmt.Sprintf("reply %d without the command it belongs to", f.Value))
	case smtp.KindCountUnclear:
		return e.undecided(f, "what follows the count of a BDAT or XEXCH50 line is no syntax for it")
	case smtp.KindLineUnclear:
		return e.undecided(f, "a line of more bytes than servers read as one")
	case smtp.KindOverflow:
		return e.undecided(f, "more commands await a reply than are kept")
	}
	return smtp.Pass
}

// masked is what was done about bytes that may not pass. Where they had passed
// before that was known, it was nothing.
func masked(f smtp.Fact) policy.Do {
	if f.Passed {
		return logOnly
	}
	return maskAndLog
}

// maskToDrop is what a parameter does where bytes are never edited: in message
// octets and in AUTH exchanges.
func maskToDrop(do policy.Do) policy.Do {
	if do.Action == policy.Mask {
		do.Action = policy.DropConnection
	}
	return do
}

// maskToPass is what a parameter does about what has no bytes of its own to
// overwrite.
func maskToPass(do policy.Do) policy.Do {
	if do.Action == policy.Mask {
		do.Action = policy.NoAction
	}
	return do
}

// matched applies the match lines of the map to a fact, in their order. The
// first that ends the connection wins; counting and logging stop nothing.
func (e *Engine) matched(f smtp.Fact, lines []int) smtp.Action {
	action := smtp.Pass
	for _, i := range lines {
		match := &e.opt.Map.Matches[i]
		e.counters.Matches[i]++
		if f.Repeat && match.Do.Action == policy.NoAction {
			continue
		}
		if f.Kind == smtp.KindWithin {
			f.Limit = match.Over
		}
		ev := Event{Kind: EventMatch, Class: i + 1, Rule: e.matches[i], Do: match.Do}
		switch match.Do.Action {
		case policy.DropConnection, policy.Reset:
			return e.ends(ReasonPolicy, e.fact(f, ev))
		case policy.RateLimit:
			if !e.feed.entry.Value.exceeds(i, match.Do.Rate, e.now) {
				continue
			}
			f.Limit, f.Value = match.Do.Rate, match.Do.Rate+1
			ev.Do, ev.Detail = dropAndLog, "matches within a second"
			return e.ends(ReasonPolicy, e.fact(f, ev))
		case policy.Mask:
			action = smtp.Mask
			if f.Passed {
				ev.Do.Action = policy.NoAction
			}
		}
		e.fact(f, ev)
	}
	return action
}

// parameter applies a parameter of the map to a fact.
func (e *Engine) parameter(f smtp.Fact, p policy.Parameter, do policy.Do, detail string) smtp.Action {
	e.counters.Parameters[p]++
	ends := do.Action == policy.DropConnection || do.Action == policy.Reset
	if !f.Repeat || ends {
		ev := e.fact(f, Event{Kind: EventParameter, Rule: p.String(), Do: do, Detail: detail})
		if ends {
			return e.ends(ReasonPolicy, ev)
		}
	}
	if do.Action == policy.Mask {
		return smtp.Mask
	}
	return smtp.Pass
}

// pipelined applies `pipelining` to a command that did not wait. Where it is
// allowed, only the first of a session is worth a word, and only if the server
// had not offered it, or offers it between other commands only; else every
// command is one that may not pass.
func (e *Engine) pipelined(f smtp.Fact, detail string) smtp.Action {
	do := e.opt.Map.Pipelining
	if f.Repeat {
		if do.Action == policy.NoAction {
			return smtp.Pass
		}
		f.Repeat, detail = false, "a command did not wait for the reply before it"
	}
	return e.parameter(f, policy.Pipelining, do, detail)
}

// recipient applies `mail-relay` to a recipient's path. The detail is the ASA's
// (108004's own example in its syslog guide).
func (e *Engine) recipient(f smtp.Fact) smtp.Action {
	m := e.opt.Map
	if !m.Relays(f.Text, f.Cut) {
		return smtp.Pass
	}
	return e.parameter(f, policy.MailRelay, m.MailRelay, "No Mail Relay allowed")
}

// notice tells what was seen and left alone.
func (e *Engine) notice(f smtp.Fact, detail string) {
	e.fact(f, Event{Kind: EventNotice, Do: logOnly, Detail: detail})
}

// undecided handles what nobody can read, as --undecided says: the one place
// where it is decided. A session that the policy has ended already does not
// open again.
func (e *Engine) undecided(f smtp.Fact, detail string) smtp.Action {
	e.counters.Undecided++
	ev := Event{Kind: EventUndecided, Rule: "undecided", Do: dropAndLog, Detail: detail}
	if e.opt.Undecided == UndecidedOpen && e.feed.entry.Value.phase == phaseLive {
		ev.Do = logOnly
		e.fact(f, ev)
		e.startBypass(e.feed.entry)
		e.feed.over = true
		return smtp.End
	}
	return e.ends(ReasonUndecided, e.fact(f, ev))
}

// ends notes that the session ends, and why.
func (e *Engine) ends(why Reason, cause Event) smtp.Action {
	e.ending, e.endReason = cause, why
	e.feed.over = true
	return smtp.End
}
