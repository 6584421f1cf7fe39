package engine

import (
	"maps"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/stream"
)

// Engine inspects the packets of one queue.
type Engine struct {
	opt    Options
	limits Limits
	rules  *smtp.Rules
	tcp    *policy.TCPMap
	known  map[flow.Key]struct{} // of Options.Known, those that no SYN has opened anew
	// matches are the match lines in words, by index: made once, because events
	// need them.
	matches []string

	table     *flow.Table[session]
	pool      *stream.Pool
	search    uint64 // where in the table makeRoom goes on
	assembler *stream.Assembler
	holds     []heldUntil // soonest first
	counters  Counters
	nextConn  uint64

	// Of the call under way.
	now       time.Duration
	out       []Decision
	scratch   []byte // octets of a ledger on their way to the assembler
	events    []Event
	kills     []flow.Tuple
	pkt       decoder
	feed      feeding
	ending    Event        // what ended the session being fed
	endReason Reason       // of the packet that it ended with
	sink      func([]byte) // e.reassembled, made once
	judgement smtp.Judge   // e as the dialogue's Judge, made once
}

// New returns an engine without connections.
func New(opt Options) *Engine {
	e := &Engine{opt: opt, limits: opt.Limits.withDefaults(), nextConn: opt.FirstConn}
	if e.opt.Map == nil {
		e.opt.Map = policy.Default().Classes[0].Map
	}
	if e.tcp = opt.TCP; e.tcp == nil {
		e.tcp = policy.DefaultTCPMap()
	}
	if n := int(e.tcp.QueueLimit); n > 0 {
		e.limits.HeldPerFlow = n
	}
	if opt.Midstream == MidstreamBypass {
		e.known = maps.Clone(opt.Known)
	}
	if e.opt.ConnStep == 0 {
		e.opt.ConnStep = 1
	}
	e.rules = e.opt.Map.Rules()
	for _, match := range e.opt.Map.Matches {
		e.matches = append(e.matches, match.String())
	}
	e.table = flow.NewTable[session](e.limits.Flows)
	e.pool = stream.NewPool(e.limits.Ledger)
	e.assembler = stream.NewAssembler()
	e.counters.Matches = make([]uint64, len(e.opt.Map.Matches))
	e.counters.Parameters = make([]uint64, policy.NumParameters)
	e.sink = e.reassembled
	e.judgement = (*judge)(e)
	return e
}

// Process decides on p and on every held packet that p sets free. The slice is
// valid until the next call.
func (e *Engine) Process(p *Packet) []Decision {
	e.begin(p.Time)
	e.counters.Packets++
	e.packet(p)
	return e.out
}

// Tick decides what only time decides. Call it every 100 ms of packet time.
func (e *Engine) Tick(now time.Duration) []Decision {
	e.begin(now)
	e.expireHolds()
	for en := e.table.Expired(e.now); en != nil; en = e.table.Expired(e.now) {
		e.expire(en)
	}
	return e.out
}

// Forget ends a connection that conntrack no longer knows, if it is as old as that
// word must be.
func (e *Engine) Forget(now time.Duration, k flow.Tuple) []Decision {
	return e.forget(now, now-settling, k)
}

// Close ends a connection that conntrack took for closed, and whose entry was
// deleted then. One that began later is another one.
func (e *Engine) Close(now, then time.Duration, k flow.Tuple) []Decision {
	return e.forget(now, then, k)
}

// forget ends a connection that began before then.
func (e *Engine) forget(now, then time.Duration, k flow.Tuple) []Decision {
	e.begin(now)
	key := k.Key()
	delete(e.known, key)
	en := e.table.Lookup(key)
	if en == nil {
		return e.out
	}
	s := &en.Value
	if s.again() == nil && s.started > then && !s.torn {
		// conntrack may mean an earlier connection of the same addresses.
		if en.Timer() == flow.Embryonic {
			e.table.SetTimer(en, flow.Greeting, e.now)
		}
		return e.out
	}
	e.vanished(en)
	return e.out
}

// Cut ends a half-open connection, on behalf of TCP intercept or because its time
// is up. A client's bare ACK is not seen here: one that no payload has passed yet
// counts as half-open, as conntrack says it is. Any other goes on.
func (e *Engine) Cut(now time.Duration, k flow.Tuple, why Teardown) []Decision {
	e.begin(now)
	if en := e.table.Lookup(k.Key()); en != nil && (en.Timer() == flow.Embryonic || en.Timer() == flow.Greeting) {
		e.teardown(en, why, smtp.Client)
		e.remove(en)
	}
	return e.out
}

// TakeEvents returns the events since the last call; the slice is valid until
// the next call of any method.
func (e *Engine) TakeEvents() []Event {
	events := e.events
	e.events = e.events[:0]
	return events
}

// TakeKills returns the connections whose conntrack entries are to be deleted;
// valid until the next call of any method.
func (e *Engine) TakeKills() []flow.Tuple {
	kills := e.kills
	e.kills = e.kills[:0]
	return kills
}

// Counters returns a copy.
func (e *Engine) Counters() Counters {
	c := e.counters
	c.Flows = uint64(e.table.Len())
	c.LedgerBytes = uint64(e.pool.Used())
	c.Matches = append([]uint64(nil), c.Matches...)
	c.Parameters = append([]uint64(nil), c.Parameters...)
	return c
}

// withDefaults fills in what is zero.
func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		value int
	}{
		{&l.Flows, DefaultLimits.Flows},
		{&l.HeldPerFlow, DefaultLimits.HeldPerFlow},
		{&l.Held, DefaultLimits.Held},
		{&l.HeldOctets, DefaultLimits.HeldOctets},
		{&l.LedgerPerFlow, DefaultLimits.LedgerPerFlow},
		{&l.LedgerServer, DefaultLimits.LedgerServer},
		{&l.Ledger, DefaultLimits.Ledger},
		{&l.Events, DefaultLimits.Events},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return l
}

// Share returns the limits of one of n engines in a program, with the defaults
// filled in: memory in octets is the program's, the rest is each engine's.
func (l Limits) Share(n int) Limits {
	l = l.withDefaults()
	l.Ledger /= n
	l.HeldOctets /= n
	return l
}

// begin starts a call: packet time never runs backwards.
func (e *Engine) begin(now time.Duration) {
	e.now = max(e.now, now)
	e.out = e.out[:0]
}

// drop refuses p.
func (e *Engine) drop(p *Packet, why Reason) {
	e.counters.Drops[why]++
	e.out = append(e.out, Decision{ID: p.ID, Verdict: Drop, Data: p.Data, Reason: why})
}

// packet finds the session of p and decides.
func (e *Engine) packet(p *Packet) {
	if !e.pkt.decode(p.Data) {
		e.drop(p, ReasonUndecodable) // whatever --undecided says: it may belong to a session that is inspected
		return
	}
	if why := e.malformed(p); why != ReasonNone {
		e.drop(p, why)
		return
	}
	k := flow.KeyOf(e.pkt.src, e.pkt.dst)
	en := e.table.Lookup(k)
	handshake := e.pkt.seg.Flags & (flow.SYN | flow.ACK)
	switch {
	case handshake == flow.SYN && (en == nil || e.replaceable(en)):
		e.open(en, k, p)
	case en != nil && !e.knownUnder(en, k):
		e.session(en, p)
	case handshake == flow.SYN|flow.ACK && e.proxied():
		e.openProxied(k, p)
	default:
		e.midstream(p, k)
	}
}

// knownUnder reports whether the packet belongs to a connection that was open when
// the inspection began, and en to a SYN with its addresses that nobody has
// answered.
func (e *Engine) knownUnder(en *entry, k flow.Key) bool {
	_, known := e.known[k]
	return known && en.Value.tcb.Embryonic() && e.pkt.seg.Flags&flow.SYN == 0
}

// midstream decides on a packet of a connection whose start was not seen.
func (e *Engine) midstream(p *Packet, k flow.Key) {
	_, known := e.known[k]
	switch {
	case e.opt.Midstream == MidstreamBypass && known:
		e.accept(p, false, MarkOffload)
	case e.opt.Midstream != MidstreamDrop && e.pkt.seg.Flags&flow.RST == 0:
		e.accept(p, false, MarkReset)
	default:
		e.drop(p, ReasonMidstream)
	}
}
