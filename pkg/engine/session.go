package engine

import (
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
	conn     Conn
	started  time.Duration
	bytes    uint64 // payload octets forwarded
	tcb      flow.TCB
	phase    phase
	torn     bool      // EventTeardown was given
	noted    noted     // what was told once
	again    *synAgain // phaseBypass, torn: a SYN that may open the connection anew
	fins     [2]bool   // phaseBypass: FINs seen
	refuse   [2]bool   // phaseDead: the sender of this direction gets a RST
	unowed   int       // phaseDraining: commands in the dialogue's queue that never reached the server
	iface    [2]uint32 // where the packets of each direction come in; 0 is unknown
	ledger   [2]stream.Ledger
	hold     [2]stream.Hold[held]
	dialogue smtp.Dialogue
	windows  []window // of the match lines with a rate-limit that matched
}

// noted are the events that a session gives once only, each side's in a bit.
type noted uint8

const (
	notedUrgent    noted = 1 << 0 // and the next bit: of the server
	notedSpoofed   noted = 1 << 2 // and the next bit
	notedDuplicate noted = 1 << 4
)

// first reports whether n was not noted before, and notes it.
func (s *session) first(n noted) bool {
	was := s.noted
	s.noted |= n
	return was&n == 0
}

// synAgain is a SYN with the addresses of a session that may be over: only the
// server knows, and says so with its SYN-ACK.
type synAgain struct {
	segment flow.Segment
	in, out uint32
}

// entry is a session in the table.
type entry = flow.Entry[session]

// ledgerLimit is the bound of the ledger of direction d.
func (e *Engine) ledgerLimit(d flow.Dir) int {
	if d == flow.Original {
		return e.limits.LedgerPerFlow
	}
	return e.limits.LedgerServer
}

// offset is where in the stream of direction d the sequence number stands.
func (s *session) offset(d flow.Dir, seq wire.Seq) uint64 {
	return s.dialogue.Offset(smtp.Side(d)) + uint64(seq.Sub(s.tcb.Next(d)))
}

// tuple names the session for conntrack.
func (s *session) tuple() flow.Tuple {
	return flow.Tuple{Client: s.conn.Client.AddrPort, Server: s.conn.Server.AddrPort}
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
		return in == s.iface[d.Other()] && in != s.conn.Server.Interface
	}
	return in != pinned
}
