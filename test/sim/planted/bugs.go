package main

// The files that hold the bugs.
const (
	segmentGo   = "pkg/engine/segment.go"
	normaliseGo = "pkg/engine/normalise.go"
	holdGo      = "pkg/engine/hold.go"
	sessionGo   = "pkg/engine/session.go"
	tcbGo       = "pkg/flow/tcb.go"
	ledgerGo    = "pkg/stream/ledger.go"
	poolGo      = "pkg/stream/pool.go"
	dialogueGo  = "pkg/smtp/dialogue.go"
)

// bugs are planted one at a time.
var bugs = []bug{
	{"ledger: nothing is overwritten", ledgerGo,
		"if l.buf == nil {\n\t\treturn false, false", "if l.buf == nil || len(b) > 0 {\n\t\treturn false, false"},
	{"ledger: retransmissions are not overwritten", segmentGo,
		"e.forward(en, dir, p, flow.Old, e.overwrite(en, dir, p))", "e.forward(en, dir, p, flow.Old, false)"},
	{"ledger: overlaps of new segments are not", segmentGo,
		"edited := e.overwrite(en, dir, p)\n\towed :=", "edited := false\n\towed :="},
	{"ledger: released before it is acknowledged", segmentGo,
		"Release(e.pool, s.tcb.Acked(other))", "Release(e.pool, s.tcb.Next(other))"},
	{"ledger: bound not kept", poolGo, "if p.used+size > limit {", "if p.used+size < 0 {"},
	{"RST: every one closes", tcbGo,
		"case s.Seq == h.next, h.fin && s.Seq == h.next.Add(-1):", "case true:"},
	{"hold: segments ahead pass unjudged", segmentGo,
		"default:\n\t\te.holdPacket(en, dir, p)\n\t\treturn\n\t}\n\te.forward(en, dir, p, flow.Ahead, edited)", "}\n\te.forward(en, dir, p, flow.Ahead, edited)"},
	{"hold: replies ahead pass unjudged", segmentGo,
		"if dir == flow.Reply || e.pkt.seg.Flags&notEarly != 0 {", "if dir == flow.Reply {\n\t\te.forward(en, dir, p, flow.Ahead, false)\n\t\treturn\n\t}\n\tif e.pkt.seg.Flags&notEarly != 0 {"},
	{"hold: not for the reply that decides", dialogueGo, "if d.waiting {\n\t\td.glued", "if false {\n\t\td.glued"},
	{"hold: no time-out", holdGo, "e.holds[n].deadline <= e.now; n++", "e.holds[n].deadline < 0; n++"},
	{"hold: bound not kept", holdGo, "|| c.HeldNow >= uint64(e.limits.Held) ", ""},
	{"early: octets are not judged", segmentGo, "for from != to && !f.ended {", "for from != to && f.ended {"},
	{"early: edits come too late, and nobody minds", segmentGo, "if f.edited {\n\t\t\te.tooLate(from)\n\t\t}", ""},
	{"early: commands pass, too", dialogueGo, "\tcase modeData:\n\t\treturn data[0]", "\tcase modeData, modeCommand:\n\t\treturn data[0]"},
	{"early: octets behind a FIN stay", segmentGo, "case e.pkt.seg.Flags&flow.FIN != 0 && end.Less(l.Last()):", "case false:"},
	{"early: what closes the gap passes all the same", segmentGo,
		"if fed.ended && s.phase != phaseBypass {", "if fed.ended && s.phase != phaseBypass && reach == end {"},
	{"FIN: text behind it passes", tcbGo,
		"case h.fin && (h.next.Less(end) || s.Len > 0 && h.next.Add(-1).Less(s.end())):", "case false:"},
	{"FIN: another one inside the stream passes", tcbGo, "if fin && (!h.fin || end != h.next) {", "if false {"},
	{"ACK: anything goes", tcbGo, "return ack.LessEq(h.next) && h.acked", "return true || h.acked"},
	{"ACK: old ones go", tcbGo, "return ack.LessEq(h.next) && h.acked.Add", "return ack.LessEq(h.next) || h.acked.Add"},
	{"ACK flag: not needed", tcbGo, "if s.Flags&ACK == 0 {\n\t\treturn NotSYN", "if false {\n\t\treturn NotSYN"},
	{"window: text behind it is kept", tcbGo, "case d == Original && h.edge.Less(s.Seq):\n\t\treturn Beyond", "case false:\n\t\treturn Beyond"},
	{"window: its edge moves left", tcbGo, "room = max(room, h.edge.Sub(s.Ack), 1)", "room = max(room, 1+0*h.edge.Sub(s.Ack))"},
	{"PAWS: off", tcbGo, "return age > 1 && age < paws", "return age > 1 && age < 0*paws"},
	{"interface: nobody looks", sessionGo, "return in != pinned", "return false"},
	{"URG: passes", normaliseGo, "if e.tcp.AllowUrgent || !e.pkt.clearUrgent(p.Data) {", "if true {"},
	{"checksum: not computed anew", normaliseGo, "\t\twire.SetTCPChecksum(p.Data, e.pkt.header)\n", ""},
	{"checksum: a wrong one is taken", normaliseGo, "case verify && !wire.TCPChecksumOK(p.Data, e.pkt.header):", "case verify && false:"},
	{"checksum: its completion is the sender's", normaliseGo, "edited || p.Checksum == ChecksumPartial && !p.Merged", "edited"},
	{"TLS: the replies before it need not be acknowledged", segmentGo, "return !s.tcb.Acknowledges(&e.pkt.seg)", "return false"},
	{"SYN cookie: the stream may begin earlier", tcbGo, "return !h.far && seq.LessEq(h.isn)", "return false"},
	{"SYN: its payload passes", segmentGo, "case e.pkt.seg.Flags&flow.SYN != 0 && e.pkt.seg.Len > 0:", "case false:"},
}
