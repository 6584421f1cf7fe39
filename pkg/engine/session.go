package engine

import (
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/stream"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// phase is what is done with the packets of a session.
type phase uint8

const (
	phaseLive     phase = iota // judged
	phaseDraining              // ended by the client's bytes: owed replies pass, nothing new goes to the server
	phaseDead                  // ended: a tombstone that refuses what still comes
	phaseBypass                // passes unjudged: encrypted, or --undecided open
)

// session is one connection.
type session struct {
	id       uint64
	started  time.Duration
	heard    time.Duration // when its last packet came
	bytes    uint64        // payload octets forwarded
	tcb      flow.TCB
	phase    phase
	torn     bool      // EventTeardown was given
	noted    noted     // what was told once
	client   uint8     // which end of the key the client is
	fins     [2]bool   // phaseBypass: FINs seen
	refuse   [2]bool   // phaseDead: the sender of this direction gets a RST
	iface    [2]uint32 // where the packets of each direction come in; 0 is unknown
	out      uint32    // where the SYN went out; 0 is unknown
	ledger   [2]stream.Ledger
	dialogue smtp.Dialogue
	extra    *extra // nil for most
}

// noted are the events that a session gives once only, each side's in a bit.
type noted uint8

const (
	notedUrgent    noted = 1 << 0 // and the next bit: of the server
	notedSpoofed   noted = 1 << 2 // and the next bit
	notedDuplicate noted = 1 << 4
	notedReset     noted = 1 << 5 // and the next bit: a RST passed that its receiver may have refused
)

// first reports whether n was not noted before, and notes it.
func (s *session) first(n noted) bool {
	was := s.noted
	s.noted |= n
	return was&n == 0
}

// extra is what few sessions need.
type extra struct {
	hold    [2]stream.Hold[held]
	windows []window  // of the match lines with a rate-limit that matched
	again   *synAgain // phaseBypass, torn: a SYN that may open the connection anew
}

// more returns the session's extra, for writing.
func (s *session) more() *extra {
	if s.extra == nil {
		s.extra = &extra{}
	}
	return s.extra
}

// held returns the held packets of a direction; nil, which is empty, if there
// never were any.
func (s *session) held(d flow.Dir) *stream.Hold[held] {
	if s.extra == nil {
		return nil
	}
	return &s.extra.hold[d]
}

// again returns the SYN that may open the connection anew, nil if there is none.
func (s *session) again() *synAgain {
	if s.extra == nil {
		return nil
	}
	return s.extra.again
}

// synAgain is a SYN with the addresses of a session that may be over: only the
// server knows, and says so with its SYN-ACK.
type synAgain struct {
	segment flow.Segment
	in, out uint32
}

// entry is a session in the table.
type entry = flow.Entry[session]

// ledgerLimit is how many octets the ledger of direction d may keep at present.
// What a ledger of replies has forgotten cannot be sent again: it shrinks last.
func (e *Engine) ledgerLimit(d flow.Dir) int {
	switch {
	case d == flow.Original:
		return e.pool.Share(e.limits.LedgerPerFlow)
	case e.pool.Spacious():
		return e.limits.LedgerServer
	}
	return e.pool.Share(min(e.limits.LedgerServer, tightReplies))
}

// tightReplies is how much of the replies is kept when the pool is half full: the
// window of a client that has got nothing yet.
const tightReplies = 64 << 10

// offset is where in the stream of direction d the sequence number stands.
func (s *session) offset(d flow.Dir, seq wire.Seq) uint64 {
	return s.dialogue.Offset(smtp.Side(d)) + uint64(seq.Sub(s.tcb.Next(d)))
}

// dirOf is the direction of a packet from src.
func dirOf(en *entry, src netip.AddrPort) flow.Dir {
	if en.Key().Place(src) == en.Value.client {
		return flow.Original
	}
	return flow.Reply
}

// tuple names the session for conntrack.
func tuple(en *entry) flow.Tuple {
	client, server := en.Key().Ends(en.Value.client)
	return flow.Tuple{Client: client, Server: server}
}

// connOf names the session in events.
func connOf(en *entry) Conn {
	s, t := &en.Value, tuple(en)
	return Conn{ID: s.id, Client: Endpoint{t.Client, s.iface[flow.Original]}, Server: Endpoint{t.Server, s.serverInterface()}}
}

// serverInterface is where the server's packets come in, as far as is known.
func (s *session) serverInterface() uint32 {
	if in := s.iface[flow.Reply]; in != 0 {
		return in
	}
	return s.out
}

// spoofed reports whether a packet of direction d that came in by interface in
// was not sent by that side: nobody may play the other end. Until the SYN-ACK
// has shown the server's interface, only the client's is known.
func (s *session) spoofed(d flow.Dir, in uint32) bool {
	pinned := s.iface[d]
	if in == 0 {
		return false
	}
	if pinned == 0 {
		return in == s.iface[d.Other()] && in != s.serverInterface()
	}
	return in != pinned
}
