package engine

import (
	"net/netip"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// Packet is one IP packet as the kernel or a capture file gives it.
type Packet struct {
	// ID is the caller's name for the packet; its Decision carries it. IDs of
	// packets that have no Decision yet must differ.
	ID uint32
	// Time is when the packet came, from an epoch of the caller's choosing. It
	// must never run backwards; it is the engine's only clock.
	Time time.Duration
	// In and Out are the interface indexes at the forward hook; 0 is unknown.
	In, Out uint32
	// Checksum is what is known of Data's TCP checksum.
	Checksum Checksum
	// Merged says that Data holds several segments of the wire as one (GSO): its
	// length says nothing of theirs.
	Merged bool
	// Data is the packet from its IP header on. It belongs to the engine from
	// the call of Process until its Decision is returned; the engine may edit
	// it in place and never changes its length.
	Data []byte
}

// Checksum is what is known of a packet's TCP checksum. One that is wrong would
// be repaired by an edit: what no receiver took would become true.
type Checksum uint8

// The values of Checksum.
const (
	ChecksumUnknown    Checksum = iota // a capture: it is verified with `checksum-verification` only, because of senders that leave it to their hardware
	ChecksumGood                       // the kernel has verified it, or its hardware
	ChecksumPartial                    // not computed yet: a local sender, or GSO
	ChecksumUnverified                 // the kernel has not looked: the engine does
)

// Verdict is what becomes of a packet.
type Verdict uint8

// The verdicts.
const (
	Accept Verdict = iota
	Drop
)

// Mark is a request to the ruleset that rides on an accepted packet; chain
// `late` acts on it (design.md section 4).
type Mark uint8

// The marks. They are bits: each has a packet-mark bit of its own in site.nft.
const (
	MarkNone    Mark = 0
	MarkOffload Mark = 1 << 0 // save to the conntrack mark: the flow needs no inspection any more
	MarkReset   Mark = 1 << 1 // reject this packet with a TCP RST to its sender
)

// Decision is the verdict on one packet. Every packet gets exactly one, from
// the Process call that took it or, if it was held, from a later Process, Tick
// or Forget.
type Decision struct {
	ID      uint32
	Verdict Verdict
	Mark    Mark
	Edited  bool   // Data is to be sent back: octets of it have changed, or its checksum was not complete
	Data    []byte // the packet's bytes; the caller's again
	Reason  Reason // why it was dropped; ReasonNone for an accepted one
}

// Undecided says what becomes of a session that the engine does not understand.
type Undecided uint8

// The values of --undecided.
const (
	UndecidedClosed Undecided = iota // the connection ends
	UndecidedOpen                    // the rest of the connection passes unjudged
)

// Midstream says what becomes of packets of a connection whose start was not
// seen.
type Midstream uint8

// The values of --midstream.
const (
	MidstreamReset  Midstream = iota // the sender gets a RST
	MidstreamBypass                  // those of Options.Known pass unjudged, others get a RST
	MidstreamDrop                    // they are dropped
)

// Options is how an engine is set up.
type Options struct {
	Map       *policy.Map
	Undecided Undecided
	Midstream Midstream
	// Known are the connections that were open when the inspection began:
	// MidstreamBypass holds for them only, until a SYN opens such a connection
	// anew. The map is read, never written.
	Known map[flow.Key]struct{}
	// Synproxy reports whether the kernel's synproxy may have opened a connection
	// to a server, as the forward hook sees its address: then a SYN-ACK without a
	// SYN opens one. nil: never. It must be safe to call at any time.
	Synproxy func(server netip.Addr) bool
	TCP      *policy.TCPMap // nil means policy.DefaultTCPMap
	Limits   Limits         // zero fields mean DefaultLimits

	// FirstConn and ConnStep number the connections of this engine FirstConn,
	// FirstConn+ConnStep, ... so that several engines of one program give
	// different numbers. Zero ConnStep means 1.
	FirstConn, ConnStep uint64
}

// Endpoint is one end of a connection as the forward hook sees it: behind DNAT,
// before SNAT.
type Endpoint struct {
	netip.AddrPort
	Interface uint32 // index of the interface its packets come in by; 0 is unknown
}

// Conn names a connection in events. Client sent the SYN.
type Conn struct {
	ID             uint64
	Client, Server Endpoint
}

// EventKind says what an Event tells.
type EventKind uint8

// The kinds of Event.
const (
	EventBuilt          EventKind = iota + 1 // a connection's SYN passed (302013)
	EventTeardown                            // it is over (302014): Duration, Bytes, Teardown
	EventMatch                               // a match line acted: Class, Rule, Do (108004, 108005)
	EventParameter                           // a parameter, or what holds without one, acted: Rule names it, Detail says what (108004, 108005)
	EventReplaced                            // bytes of a mail address became spaces (108002): Text
	EventMalicious                           // a pipe in a mail address ended the session (108003): Rule, Text
	EventUnknownCommand                      // a command line was masked: Text is the line
	EventTLSStarted                          // the session is encrypted from here (108007)
	EventNotice                              // nothing was done; Detail says what was seen
	EventUndecided                           // --undecided acted: Rule, Detail says why
	EventSize                                // a message of Value octets was declared with Limit (108006)
	EventDuplicateSYN                        // a SYN with another sequence number on a living connection was dropped (419002)
	EventUrgentCleared                       // the first URG flag of a session's side was cleared (419003)
	EventExceedsMSS                          // a packet of Value octets, over the receiver's MSS Limit, was dropped (419001)
	EventRetransmission                      // octets were sent again with other values, and replaced by the first ones: `check-retransmission`
	EventSpoofed                             // a packet of Side came in by Interface, where the other side's come in (106016)
)

// Teardown is why a connection ended.
type Teardown uint8

// The reasons of 302014 (asa.md 3.4).
const (
	TeardownNone       Teardown = iota
	TeardownFINs                // TCP FINs
	TeardownReset               // TCP Reset-O or TCP Reset-I: Side sent a RST
	TeardownInspection          // Flow closed by inspection
	TeardownAppliance           // TCP Reset-APPLIANCE
	TeardownSYNTimeout          // SYN Timeout
	TeardownTimeout             // Conn-timeout: conntrack forgot the connection
	TeardownReplaced            // a new SYN took over its addresses
	TeardownIntercept           // Flow terminated by TCP Intercept: half-open, its host under a flood
)

// Event explains one thing that the engine did or saw. It holds copies only. The
// teardown of a session that the inspection ended repeats Class, Rule, Detail,
// Offset, Limit and Value of the event that ended it.
type Event struct {
	Kind EventKind
	Time time.Duration // of the packet
	Conn Conn
	Side smtp.Side // whose bytes: Client is an ESMTP Request, Server a Response

	Class  int       // EventMatch: the match line's number in its map, from 1
	Rule   string    // EventMatch: "header line length gt 998"; others: "bare-newline", "unknown-command"
	Do     policy.Do // what was done; Do.Log false: the operator did not ask for a record
	Detail string    // one sentence without a colon; EventMatch: of a rate-limit only
	Offset uint64    // of the byte that decided, in the payload of Side
	Limit  uint64    // the bound, where there is one
	Value  uint64    // the value reached; within Limit if a `match not` acted
	Text   string    // the peer's bytes, unescaped, at most smtp.MaxText; of an AUTH command no password

	// NotForwarded says of a mask that nobody got the bytes: a later byte of the
	// same packet ended the session.
	NotForwarded bool

	Interface uint32 // EventSpoofed: index of the interface

	Duration time.Duration // EventTeardown
	Bytes    uint64        // EventTeardown: payload bytes forwarded, both directions
	Teardown Teardown      // EventTeardown
}
