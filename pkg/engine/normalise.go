package engine

import (
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// malformed says why a packet may not even be looked at. Its checksum is
// verified where nobody has done so: an edit would make a wrong one right, and
// the octets of a packet that no receiver takes would become the truth.
func (e *Engine) malformed(p *Packet) Reason {
	verify := p.Checksum == ChecksumUnverified || p.Checksum == ChecksumUnknown && e.tcp.ChecksumVerification
	switch {
	case verify && !wire.TCPChecksumOK(p.Data, e.pkt.header):
		return ReasonChecksum
	case e.tcp.ReservedBits == policy.ReservedDrop && p.Data[e.pkt.header+tcpOffset]&reserved != 0:
		return ReasonReservedBits
	}
	return ReasonNone
}

// normalise takes off a packet that passes what end hosts may read in different
// ways, and reports whether it was changed. en is nil where there is no session
// yet.
func (e *Engine) normalise(en *entry, dir flow.Dir, p *Packet) (edited bool) {
	if e.tcp.ReservedBits == policy.ReservedClear {
		edited = e.pkt.clearReserved(p.Data)
	}
	if e.tcp.AllowUrgent || !e.pkt.clearUrgent(p.Data) {
		return edited
	}
	e.counters.UrgentCleared++
	if e.pkt.seg.Flags&flow.URG != 0 && en != nil && en.Value.first(notedUrgent<<dir) {
		e.emit(Event{Kind: EventUrgentCleared, Conn: connOf(en), Side: smtp.Side(dir), Do: maskAndLog})
	}
	return true
}

// exceedsMSS drops a packet that holds more than its receiver takes in one
// segment, and reports whether it did.
func (e *Engine) exceedsMSS(en *entry, dir flow.Dir, p *Packet) bool {
	mss := en.Value.tcb.MSS(dir)
	if !e.tcp.DropOverMSS || p.Merged || e.pkt.seg.Len <= mss {
		return false
	}
	e.emit(Event{Kind: EventExceedsMSS, Conn: connOf(en), Side: smtp.Side(dir), Do: logOnly, Limit: uint64(mss), Value: uint64(e.pkt.seg.Len)})
	e.drop(p, ReasonExceedsMSS)
	return true
}

// lowerWindow lowers the window in a packet of the server to what the ledger has
// room for, and reports whether it did.
func (e *Engine) lowerWindow(s *session, p *Packet) bool {
	window := s.tcb.Window(&e.pkt.seg, e.pool.Offer(e.limits.LedgerPerFlow))
	if window == e.pkt.seg.Window {
		return false
	}
	e.pkt.setWindow(p.Data, window)
	e.counters.WindowLowered++
	return true
}

// overwrite puts what was forwarded before over the payload of p, and reports
// whether that changed it. What its receiver has acknowledged is blanked: nothing
// that was not judged passes, even if the receiver should count otherwise.
func (e *Engine) overwrite(en *entry, dir flow.Dir, p *Packet) bool {
	s := &en.Value
	payload := p.Data[e.pkt.payload:]
	changed, conflict := s.ledger[dir].Overwrite(e.pkt.seg.Seq, payload)
	if base := s.ledger[dir].Base(); e.pkt.seg.Seq.Less(base) && len(payload) > 0 {
		clear(payload[:min(int(uint32(base-e.pkt.seg.Seq)), len(payload))])
		changed = true
	}
	if !conflict {
		return changed
	}
	e.counters.Conflicts++
	if e.tcp.CheckRetransmission {
		e.emit(Event{Kind: EventRetransmission, Conn: connOf(en), Side: smtp.Side(dir), Rule: "check-retransmission", Do: logOnly,
			Detail: "TCP bad retransmission, replaced by what was forwarded first", Offset: s.offset(dir, e.pkt.seg.Seq)})
	}
	return changed
}

// accept lets p pass as it is, or edited.
func (e *Engine) accept(p *Packet, edited bool, mark Mark) {
	if edited {
		e.counters.Edited++
	}
	// Who left the checksum to be completed has also said where in the packet it is
	// to be written, and that may be the payload: it is completed here.
	rewritten := edited || p.Checksum == ChecksumPartial && !p.Merged
	if rewritten {
		wire.SetTCPChecksum(p.Data, e.pkt.header)
	}
	e.counters.Accepted++
	e.out = append(e.out, Decision{ID: p.ID, Verdict: Accept, Mark: mark, Edited: rewritten, Data: p.Data})
}
