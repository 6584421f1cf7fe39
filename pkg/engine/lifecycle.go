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
// en at once: one whose SYN was refused.
func (e *Engine) replaceable(en *entry) bool {
	s := &en.Value
	return s.tcb.Embryonic() && s.torn && dirOf(en, e.pkt.src) == flow.Original
}

// open begins a connection with the SYN p; old is what it replaces.
func (e *Engine) open(old *entry, k flow.Key, p *Packet) {
	if why := e.misshapen(); why != ReasonNone {
		e.drop(p, why)
		return
	}
	if old != nil {
		e.teardown(old, TeardownReplaced, smtp.Client)
		e.remove(old)
	}
	en := e.insert(k, Endpoint{e.pkt.src, p.In}, Endpoint{e.pkt.dst, p.Out})
	if en == nil {
		e.drop(p, ReasonTableFull)
		return
	}
	s := &en.Value
	s.tcb.Open(&e.pkt.seg)
	s.ledger[flow.Original].Start(s.tcb.Next(flow.Original))
	e.accept(p, e.normalise(nil, flow.Original, p), MarkNone)
}

// openProxied begins a connection whose SYN the kernel's synproxy has sent, with
// the server's SYN-ACK.
func (e *Engine) openProxied(k flow.Key, p *Packet) {
	why := e.misshapen()
	if why == ReasonNone && p.In != 0 && p.In == p.Out {
		why = ReasonSpoofed // the client, answering itself
	}
	if why != ReasonNone {
		e.drop(p, why)
		return
	}
	en := e.insert(k, Endpoint{e.pkt.dst, p.Out}, Endpoint{e.pkt.src, p.In})
	if en == nil {
		e.drop(p, ReasonTableFull)
		return
	}
	s := &en.Value
	s.tcb.OpenProxied(&e.pkt.seg)
	s.ledger[flow.Original].Start(s.tcb.Next(flow.Original))
	e.synAck(en, p)
}

// proxied reports whether synproxy may have opened the connection whose SYN-ACK
// is in hand.
func (e *Engine) proxied() bool {
	return e.opt.Synproxy != nil && e.opt.Synproxy(e.pkt.src.Addr())
}

// misshapen says why the SYN or SYN-ACK in hand begins no connection.
func (e *Engine) misshapen() Reason {
	switch {
	case e.pkt.seg.Flags&(flow.FIN|flow.RST) != 0:
		return ReasonNotSYN
	case e.pkt.seg.Len > 0:
		return ReasonSYNPayload
	}
	return ReasonNone
}

// insert adds a connection whose first packet passes. A full table gives it the
// place of the half-open connection that has waited longest: a flood of SYNs must
// shut out neither established connections nor new ones. nil: there is none.
func (e *Engine) insert(k flow.Key, client, server Endpoint) *entry {
	en := e.table.Insert(k)
	if oldest := e.table.HalfOpen(); en == nil && oldest != nil {
		e.counters.Evicted++
		e.teardown(oldest, TeardownSYNTimeout, smtp.Client)
		e.remove(oldest)
		en = e.table.Insert(k)
	}
	if en == nil {
		return nil
	}
	s := &en.Value
	s.id, s.client, s.out = e.nextConn, k.Place(client.AddrPort), server.Interface
	e.nextConn += e.opt.ConnStep
	s.started, s.heard = e.now, e.now
	s.iface[flow.Original] = client.Interface
	s.dialogue.Init(e.rules)
	e.table.SetTimer(en, flow.Embryonic, e.now)
	e.counters.Sessions++
	e.emit(Event{Kind: EventBuilt, Conn: connOf(en)})
	return en
}

// over reports whether a SYN with the addresses of s may mean a new connection: s
// has no answer yet, or is closed, or ended, or passes unjudged, so that its end
// was not seen.
func (s *session) over() bool {
	return s.torn || s.phase == phaseDead || s.phase == phaseBypass || s.tcb.Embryonic()
}

// opensAgain handles a SYN, and what the server says to it, where the addresses
// are those of a session that may be over. Anybody can send such a SYN. It goes
// to the server, which alone knows; only its SYN-ACK ends the old session and
// begins the new one. Neither may have its old number: the server sends a
// SYN-ACK more than once, and a late one must not make what was forwarded
// forgotten. It reports whether p has its decision.
func (e *Engine) opensAgain(en *entry, dir flow.Dir, p *Packet) bool {
	s, seg := &en.Value, &e.pkt.seg
	again := s.again()
	const handshake = flow.SYN | flow.ACK | flow.RST | flow.FIN
	flags := seg.Flags & handshake
	switch {
	case dir == flow.Original && flags == flow.SYN && s.over() && seg.Seq != s.tcb.First(flow.Original):
		s.more().again = &synAgain{*seg, p.In, p.Out}
		if t := en.Timer(); t == flow.Embryonic || t == flow.Closing || t == flow.Tombstone {
			e.table.SetTimer(en, t, e.now) // as long as the answer may come
		}
	case dir == flow.Original, !s.over():
		return false
	case flags == flow.SYN|flow.ACK && e.answersAgain(s, p):
		e.replace(en, p, again)
		return true
	case flags == flow.RST|flow.ACK && seg.Len == 0 && again != nil && seg.Ack == again.segment.Seq.Add(1):
		s.extra.again = nil // nobody listens
	default:
		return false
	}
	e.accept(p, e.normalise(en, dir, p), MarkNone)
	return true
}

// answersAgain reports whether the SYN-ACK in hand answers the SYN again, or, where
// there is none, one of the kernel's synproxy, and comes from the server.
func (e *Engine) answersAgain(s *session, p *Packet) bool {
	again, seg := s.again(), &e.pkt.seg
	switch {
	case !s.tcb.Embryonic() && seg.Seq == s.tcb.First(flow.Reply):
		return false
	case again != nil:
		own := p.In != 0 && p.In == again.in && p.In != again.out // of the client's interface
		return seg.Ack == again.segment.Seq.Add(1) && !own
	}
	return e.proxied() && seg.Ack != s.tcb.First(flow.Original).Add(1) && !s.spoofed(flow.Reply, p.In)
}

// replace ends the session en and begins the one whose SYN was forwarded, or sent
// by a synproxy if again is nil, and whose SYN-ACK is p.
func (e *Engine) replace(en *entry, p *Packet, again *synAgain) {
	k := en.Key()
	e.teardown(en, TeardownReplaced, smtp.Client)
	e.remove(en)
	if again == nil {
		e.openProxied(k, p)
		return
	}
	en = e.insert(k, Endpoint{e.pkt.dst, again.in}, Endpoint{e.pkt.src, again.out})
	s := &en.Value // there is room: one has just left
	s.tcb.Open(&again.segment)
	s.ledger[flow.Original].Start(s.tcb.Next(flow.Original))
	e.synAck(en, p)
}

// synAck takes the server's answer to the SYN.
func (e *Engine) synAck(en *entry, p *Packet) {
	s := &en.Value
	delete(e.known, en.Key())
	if s.extra != nil {
		s.extra.again = nil
	}
	s.iface[flow.Reply] = p.In
	e.forward(en, flow.Reply, p, flow.InOrder, false)
	s.ledger[flow.Reply].Start(s.tcb.Next(flow.Reply))
	e.table.SetTimer(en, flow.Greeting, e.now)
}

// establish notes that payload passed.
func (e *Engine) establish(en *entry) {
	if t := en.Timer(); t == flow.Greeting || t == flow.Closing && !en.Value.tcb.Closed() {
		e.table.SetTimer(en, flow.NoTimer, e.now)
		en.Value.torn = false // a RST was refused after all: there will be another end
		if en.Value.extra != nil {
			en.Value.extra.again = nil
		}
	}
}

// finished notes that both FINs have passed.
func (e *Engine) finished(en *entry) {
	s := &en.Value
	if s.phase == phaseLive && s.tcb.Closed() && !s.torn {
		e.teardown(en, TeardownFINs, smtp.Client)
		e.table.SetTimer(en, flow.Closing, e.now)
	}
}

// closes forwards a RST that its receiver takes for the end. The session goes on
// being judged for a while: should the receiver have refused it after all,
// nothing passes unseen.
func (e *Engine) closes(en *entry, dir flow.Dir, p *Packet) {
	e.teardown(en, TeardownReset, smtp.Side(dir))
	e.accept(p, e.normalise(en, dir, p), MarkNone)
	if en.Value.phase == phaseDraining {
		e.bury(en)
		return
	}
	e.table.SetTimer(en, flow.Closing, e.now)
}

// end ends a session with the packet in hand, whose bytes of direction dir were
// judged against it. owed is how many replies the server owed before it.
func (e *Engine) end(en *entry, dir flow.Dir, p *Packet, owed int) {
	s := &en.Value
	e.dropHeld(en, ReasonEnded)
	e.notForwarded()
	first := s.phase == phaseLive // else a reply that it was owed has been judged against it, too
	if e.ending.Do.Action == policy.Reset {
		e.teardown(en, TeardownAppliance, smtp.Side(dir))
		if first {
			e.counters.EndedByRST++
		}
		s.refuse = [2]bool{true, true} // the receiver too: it may have lost octets before the RST
		e.pkt.makeRST(p.Data, s.tcb.Next(dir))
		e.bury(en)
		e.accept(p, true, MarkNone)
		return
	}
	e.teardown(en, TeardownInspection, smtp.Side(dir))
	if first {
		e.counters.EndedByDrop++
	}
	e.drop(p, e.endReason)
	if dir == flow.Original && owed > 0 {
		s.phase = phaseDraining
		s.dialogue.Owe(owed)
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
	s.phase = phaseDead
	for dir := range s.ledger {
		s.ledger[dir].Drop(e.pool)
	}
	e.table.SetTimer(en, flow.Tombstone, e.now)
	if !s.refuse[flow.Original] && !s.refuse[flow.Reply] {
		e.kills = append(e.kills, tuple(en))
	}
}

// draining lets the replies pass that are owed to commands which the server has
// got, and then their retransmissions for a while. Of the client's packets only
// what the server has seen already, or pure ACKs, go on.
func (e *Engine) draining(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	v := s.tcb.Check(dir, &e.pkt.seg)
	done := en.Timer() == flow.Drained
	switch {
	case v == flow.Old && (dir == flow.Reply || e.pkt.seg.Flags&flow.RST == 0):
		e.old(en, dir, p)
	case dir == flow.Original, done && v != flow.Closes:
		e.drop(p, ReasonEnded)
	default:
		e.live(en, dir, p)
		for s.phase == phaseDraining && e.judgeable(s, dir) {
			e.live(en, dir, e.takeFirst(s, dir))
		}
	}
	if s.phase == phaseDraining && !done && s.dialogue.Owed() == 0 {
		e.dropHeld(en, ReasonEnded)
		e.table.SetTimer(en, flow.Drained, e.now)
	}
}

// refuse answers a packet of a session that was ended. Behind a new SYN what has
// no payload passes: a server that still has the old connection answers with a
// challenge ACK, and the client with a RST (RFC 5961 section 4).
func (e *Engine) refuse(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	if s.again() != nil {
		if e.pkt.seg.Len > 0 || e.pkt.seg.Flags&(flow.SYN|flow.FIN) != 0 {
			e.drop(p, ReasonEnded)
			return
		}
		e.accept(p, e.normalise(en, dir, p), MarkNone)
		return
	}
	if !s.refuse[dir] || e.pkt.seg.Flags&flow.RST != 0 {
		e.drop(p, ReasonEnded)
		return
	}
	e.accept(p, false, MarkReset)
	e.kills = append(e.kills, tuple(en))
}

// bypass lets a packet of an unjudged session pass and asks the kernel to take
// the session over, unless a SYN waits for its answer: the kernel may count what
// comes now as a new connection's. A SYN or SYN-ACK that begins no other session
// is dropped for the same reason. A RST or FIN may be a stranger's: payload behind
// it shows that the session lives.
func (e *Engine) bypass(en *entry, dir flow.Dir, p *Packet) {
	s := &en.Value
	switch {
	case e.pkt.seg.Flags&flow.SYN != 0:
		e.drop(p, ReasonDuplicateSYN)
		return
	case s.again() != nil:
		e.accept(p, e.normalise(en, dir, p), MarkNone)
	default:
		e.accept(p, false, MarkOffload)
	}
	switch {
	case e.pkt.seg.Flags&flow.RST != 0:
		e.teardown(en, TeardownReset, smtp.Side(dir))
	case e.pkt.seg.Flags&flow.FIN != 0:
		s.fins[dir] = true
		if !s.fins[dir.Other()] {
			return
		}
		e.teardown(en, TeardownFINs, smtp.Client)
	default:
		if e.pkt.seg.Len > 0 && s.torn {
			s.torn, s.fins = false, [2]bool{}
		}
	}
}

// startBypass ends the inspection of a session that passes unjudged from here.
func (e *Engine) startBypass(en *entry) {
	s := &en.Value
	s.phase = phaseBypass
	e.counters.Offloaded++
}

// releaseAll forwards the held packets of a session that needs no inspection any
// more.
func (e *Engine) releaseAll(en *entry) {
	for dir := flow.Original; dir <= flow.Reply; dir++ {
		en.Value.held(dir).TakeIf(func(h held) bool {
			p := e.unheld(&h)
			e.pkt.decode(p.Data)
			e.accept(p, false, MarkOffload)
			return true
		})
	}
}

// dropHeld drops the held packets of a session.
func (e *Engine) dropHeld(en *entry, why Reason) {
	for dir := flow.Original; dir <= flow.Reply; dir++ {
		en.Value.held(dir).TakeIf(func(h held) bool {
			e.drop(e.unheld(&h), why)
			return true
		})
	}
}

// expire handles a time-out.
func (e *Engine) expire(en *entry) {
	switch en.Timer() {
	case flow.Draining, flow.Drained:
		e.bury(en)
		return
	case flow.Embryonic:
		e.teardown(en, TeardownSYNTimeout, smtp.Client)
	case flow.Greeting, flow.Closing:
		e.gone(en)
	}
	e.remove(en)
}

// gone tells of the end of a session that nobody has seen ending, but perhaps a
// RST that may have been refused.
func (e *Engine) gone(en *entry) {
	switch s := &en.Value; {
	case s.noted&notedReset != 0:
		e.teardown(en, TeardownReset, smtp.Client)
	case s.noted&(notedReset<<flow.Reply) != 0:
		e.teardown(en, TeardownReset, smtp.Server)
	default:
		e.teardown(en, TeardownTimeout, smtp.Client)
	}
}

// remove forgets a session.
func (e *Engine) remove(en *entry) {
	s := &en.Value
	e.dropHeld(en, ReasonEnded)
	for dir := range s.ledger {
		s.ledger[dir].Drop(e.pool)
	}
	client, server := en.Key().Ends(s.client)
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
