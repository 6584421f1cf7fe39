package engine

import (
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// replaceable reports whether a SYN may begin a new connection in the place of
// en: one that is over, one that passes unjudged (the kernel has taken it over,
// so that its end was not seen), or one whose SYN was never answered and which
// its client begins anew with another sequence number.
func (e *Engine) replaceable(en *entry) bool {
	s := &en.Value
	switch {
	case s.phase == phaseDead, s.phase == phaseBypass, s.torn:
		return true
	case s.tcb.Embryonic():
		return e.pkt.src == s.conn.Client.AddrPort && e.pkt.seg.Seq != s.tcb.Acked(flow.Original)
	}
	return false
}

// open begins a connection with the SYN p; old is what it replaces.
func (e *Engine) open(old *entry, k flow.Key, p *Packet) {
	switch {
	case e.pkt.seg.Flags&(flow.FIN|flow.RST) != 0:
		e.drop(p, ReasonNotSYN)
		return
	case e.pkt.seg.Len > 0:
		e.drop(p, ReasonSYNPayload)
		return
	}
	if old != nil {
		e.teardown(&old.Value, TeardownReplaced, smtp.Client)
		e.remove(old)
	}
	en := e.table.Insert(k)
	if en == nil {
		e.drop(p, ReasonTableFull)
		return
	}
	s := &en.Value
	s.conn = Conn{
		ID:     e.nextConn,
		Client: Endpoint{e.pkt.src, p.In},
		Server: Endpoint{e.pkt.dst, p.Out},
	}
	e.nextConn += e.opt.ConnStep
	s.started = e.now
	s.iface[flow.Original] = p.In
	s.tcb.Open(e.pkt.seg.Seq)
	s.ledger[flow.Original].Start(s.tcb.Next(flow.Original))
	s.dialogue.Init(e.rules)
	e.assembler.Feed(e.pkt.net, &e.pkt.tcp, e.sink)
	e.table.SetTimer(en, flow.Embryonic, e.now)
	e.counters.Sessions++
	e.emit(Event{Kind: EventBuilt, Conn: s.conn})
	e.accept(p, e.pkt.clearUrgent(p.Data), MarkNone)
}

// synAck takes the server's answer to the SYN.
func (e *Engine) synAck(en *entry, p *Packet) {
	s := &en.Value
	s.iface[flow.Reply] = p.In
	if p.In != 0 {
		s.conn.Server.Interface = p.In
	}
	e.assembler.Feed(e.pkt.net, &e.pkt.tcp, e.sink)
	e.forward(s, flow.Reply, p, flow.InOrder, false)
	s.ledger[flow.Reply].Start(s.tcb.Next(flow.Reply))
	e.table.SetTimer(en, flow.Greeting, e.now)
}

// establish notes that payload passed.
func (e *Engine) establish(en *entry) {
	if t := en.Timer(); t == flow.Greeting || t == flow.Closing && !en.Value.tcb.Closed() {
		e.table.SetTimer(en, flow.NoTimer, e.now)
	}
}

// finished notes that both FINs have passed.
func (e *Engine) finished(en *entry) {
	s := &en.Value
	if s.phase == phaseLive && s.tcb.Closed() && !s.torn {
		e.teardown(s, TeardownFINs, smtp.Client)
		e.table.SetTimer(en, flow.Closing, e.now)
	}
}

// closes forwards a RST that its receiver takes for the end. The session goes on
// being judged for a while: should the receiver have refused it after all,
// nothing passes unseen.
func (e *Engine) closes(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	e.teardown(s, TeardownReset, smtp.Side(dir))
	e.table.SetTimer(en, flow.Closing, e.now)
	e.accept(p, e.pkt.clearUrgent(p.Data), MarkNone)
}

// end ends a session with the packet in hand, whose bytes of direction dir were
// judged against it. owed is how many replies the server owed before it.
func (e *Engine) end(en *entry, dir flow.Dir, p *Packet, owed int) {
	s := &en.Value
	e.dropHeld(en, ReasonEnded)
	e.notForwarded()
	first := s.phase == phaseLive // else a reply that it was owed has been judged against it, too
	if e.ending.Do.Action == policy.Reset {
		e.teardown(s, TeardownAppliance, smtp.Side(dir))
		if first {
			e.counters.EndedByRST++
		}
		s.refuse[dir] = true
		e.pkt.makeRST(p.Data, s.tcb.Next(dir))
		e.bury(en)
		e.accept(p, true, MarkNone)
		return
	}
	e.teardown(s, TeardownInspection, smtp.Side(dir))
	if first {
		e.counters.EndedByDrop++
	}
	e.drop(p, e.endReason)
	if dir == flow.Original && owed > 0 {
		s.phase, s.unowed = phaseDraining, s.dialogue.Owed()-owed
		e.table.SetTimer(en, flow.Draining, e.now)
		return
	}
	e.bury(en)
}

// bury leaves a tombstone that refuses what still comes. Where no RST has to be
// sent any more, conntrack's entry goes, so that the kernel drops the rest.
func (e *Engine) bury(en *entry) {
	s := &en.Value
	e.dropHeld(en, ReasonEnded)
	s.phase, s.windows = phaseDead, nil
	for dir := range s.ledger {
		s.ledger[dir].Drop(e.pool)
	}
	e.table.SetTimer(en, flow.Tombstone, e.now)
	if !s.refuse[flow.Original] && !s.refuse[flow.Reply] {
		e.kills = append(e.kills, s.tuple())
	}
}

// draining lets the replies pass that are owed to commands which the server has
// got. Of the client's packets only what the server has seen already, or pure
// ACKs, go on.
func (e *Engine) draining(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	v := s.tcb.Check(dir, &e.pkt.seg)
	switch {
	case dir == flow.Original && v == flow.Old && e.pkt.seg.Flags&flow.RST == 0:
		e.old(en, dir, p)
	case dir == flow.Original:
		e.drop(p, ReasonEnded)
	default:
		e.live(en, dir, p)
		for s.phase == phaseDraining && e.judgeable(s, dir) {
			h := s.hold[dir].TakeFirst()
			e.counters.HeldNow--
			e.live(en, dir, &h.packet)
		}
	}
	if s.phase == phaseDraining && s.dialogue.Owed() <= s.unowed {
		e.bury(en)
	}
}

// refuse answers a packet of a session that was ended.
func (e *Engine) refuse(s *session, dir flow.Dir, p *Packet) {
	if !s.refuse[dir] || e.pkt.seg.Flags&flow.RST != 0 {
		e.drop(p, ReasonEnded)
		return
	}
	e.accept(p, false, MarkReset)
	e.kills = append(e.kills, s.tuple())
}

// bypass lets a packet of an unjudged session pass and asks the kernel to take
// the session over.
func (e *Engine) bypass(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	e.accept(p, false, MarkOffload)
	switch {
	case e.pkt.seg.Flags&flow.RST != 0:
		e.teardown(s, TeardownReset, smtp.Side(dir))
	case e.pkt.seg.Flags&flow.FIN != 0:
		s.fins[dir] = true
		if !s.fins[dir.Other()] {
			return
		}
		e.teardown(s, TeardownFINs, smtp.Client)
	default:
		return
	}
	e.table.SetTimer(en, flow.Closing, e.now)
}

// startBypass ends the inspection of a session that passes unjudged from here.
func (e *Engine) startBypass(en *entry) {
	s := &en.Value
	s.phase, s.windows = phaseBypass, nil
	e.counters.Offloaded++
}

// releaseAll forwards the held packets of a session that needs no inspection any
// more.
func (e *Engine) releaseAll(en *entry) {
	for dir := range en.Value.hold {
		en.Value.hold[dir].TakeIf(func(h held) bool {
			e.counters.HeldNow--
			e.accept(&h.packet, false, MarkOffload)
			return true
		})
	}
}

// dropHeld drops the held packets of a session.
func (e *Engine) dropHeld(en *entry, why Reason) {
	for dir := range en.Value.hold {
		en.Value.hold[dir].TakeIf(func(h held) bool {
			e.counters.HeldNow--
			e.drop(&h.packet, why)
			return true
		})
	}
}

// expire handles a time-out.
func (e *Engine) expire(en *entry) {
	s := &en.Value
	switch en.Timer() {
	case flow.Draining:
		e.bury(en)
		return
	case flow.Embryonic:
		e.teardown(s, TeardownSYNTimeout, smtp.Client)
	case flow.Greeting:
		e.teardown(s, TeardownTimeout, smtp.Client)
	}
	e.remove(en)
}

// remove forgets a session.
func (e *Engine) remove(en *entry) {
	s := &en.Value
	e.dropHeld(en, ReasonEnded)
	for dir := range s.ledger {
		s.ledger[dir].Drop(e.pool)
	}
	client, server := s.conn.Client.AddrPort, s.conn.Server.AddrPort
	e.closeAssembler(client, server)
	e.closeAssembler(server, client)
	e.table.Delete(en)
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
