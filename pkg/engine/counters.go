package engine

// Reason says why a packet was dropped. Every drop has one and is counted.
type Reason uint8

// The reasons.
const (
	ReasonNone         Reason = iota
	ReasonUndecodable         // not a TCP packet that can be read
	ReasonMidstream           // a connection whose start was not seen
	ReasonTableFull           // the flow table is full: new SYNs are refused
	ReasonNotSYN              // a packet that does not fit the state of its handshake
	ReasonSYNPayload          // data on a SYN
	ReasonDuplicateSYN        // a SYN on a living connection
	ReasonSpoofed             // one side's packet on the other side's interface
	ReasonInvalidRST          // a RST that its receiver would not accept
	ReasonInvalidACK          // acknowledges what was never sent
	ReasonBeyondFIN           // data behind a FIN
	ReasonLedgerFull          // more unacknowledged bytes than the ledger keeps
	ReasonHoldFull            // more held packets than the bound
	ReasonHoldTimeout         // the gap before a held packet did not close in time
	ReasonPending             // more commands await a reply than the dialogue keeps
	ReasonEnded               // the inspection ended this connection earlier
	ReasonPolicy              // the inspection ends the connection with this packet
	ReasonUndecided           // --undecided closed
	ReasonPanic               // a fault in the engine: the flow is poisoned
	ReasonChecksum            // a wrong TCP checksum
	ReasonBeyondWindow        // data behind the window that the receiver has offered
	ReasonOldTimestamp        // a timestamp that the receiver refuses (PAWS)
	ReasonReservedBits        // `reserved-bits drop`
	ReasonExceedsMSS          // `exceed-mss drop`
	ReasonConflict            // octets behind a gap that differ from those forwarded before
	NumReasons
)

// reasonNames are the names in `show drops` and in metrics: stable.
var reasonNames = [NumReasons]string{
	"none", "undecodable", "midstream", "table-full", "not-syn", "syn-payload", "duplicate-syn",
	"spoofed", "invalid-rst", "invalid-ack", "beyond-fin", "ledger-full", "hold-full", "hold-timeout",
	"pending-full", "ended", "policy", "undecided", "panic",
	"bad-checksum", "beyond-window", "old-timestamp", "reserved-bits", "exceeds-mss", "conflict",
}

// String returns the reason's stable name.
func (r Reason) String() string { return reasonNames[r] }

// Counters are what an engine has done since it started. They only grow, but
// for the gauges that say so.
type Counters struct {
	Packets  uint64 // given to Process
	Accepted uint64
	Edited   uint64 // accepted with changed bytes
	Held     uint64 // packets that had to wait for their decision
	Drops    [NumReasons]uint64

	Sessions    uint64 // connections whose SYN passed
	Flows       uint64 // gauge: in the table now
	HeldNow     uint64 // gauge: packets waiting now
	HeldOctets  uint64 // gauge: their bytes
	LedgerBytes uint64 // gauge: bytes kept for retransmissions
	EndedByDrop uint64 // connections ended by drop-connection
	EndedByRST  uint64 // connections ended by reset
	Offloaded   uint64 // connections handed to the kernel
	Evicted     uint64 // half-open connections that gave their place in a full table to a new one

	Early         uint64 // message packets forwarded before the ones that were missing before them
	Conflicts     uint64 // packets whose octets differed from those forwarded before, and were overwritten
	UrgentCleared uint64 // packets whose URG flag or pointer was cleared
	WindowLowered uint64 // packets whose window was lowered to what the ledger can keep
	Forgotten     uint64 // silent connections whose ledgers were emptied for want of room

	TLSStarted        uint64   // sessions that became encrypted
	Banners           uint64   // greetings masked
	UnknownCommands   uint64   // command lines masked
	AddressesChanged  uint64   // paths in which bytes were replaced
	PipesEnded        uint64   // sessions ended by a pipe in an address
	EarlyBytes        uint64   // sessions ended by bytes that could neither be read nor held
	RefusedParameters uint64   // MAIL lines masked for a parameter
	AfterQuit         uint64   // command lines masked behind the reply to QUIT
	SizeExceeded      uint64   // messages larger than MAIL had declared
	Matches           []uint64 // per match line of the map, by index
	Parameters        []uint64 // per policy.Parameter
	Undecided         uint64   // sessions decided by --undecided
	EventsLost        uint64   // events dropped because the caller did not take them

	// Seen and left alone.
	UnexpectedReplies uint64 // replies that answer no command
	Transitions       uint64 // replies that their command does not take
	LongReplies       uint64 // sessions with a reply line over 512 bytes
}

// DropTotal is the number of dropped packets.
func (c *Counters) DropTotal() uint64 {
	var n uint64
	for _, d := range c.Drops {
		n += d
	}
	return n
}

// Limits bound everything that a peer can make grow.
type Limits struct {
	Flows         int // sessions in the table
	HeldPerFlow   int // packets held per session
	Held          int // packets held in all
	HeldOctets    int // octets of the packets held in all; of several engines together, see Share
	LedgerPerFlow int // bytes kept for retransmission, client to server
	LedgerServer  int // bytes kept for retransmission, server to client
	Ledger        int // bytes kept for retransmission in all; of several engines together, see Share
	Events        int // events waiting to be taken
}

// DefaultLimits are the bounds of design.md section 6.
var DefaultLimits = Limits{
	Flows:         1 << 18,   // a quarter of a million sessions a queue
	HeldPerFlow:   64,        // a window of 64 full segments: more is not in order for long
	Held:          4096,      // half of the kernel queue's length, so that holds never fill it
	HeldOctets:    64 << 20,  // packets may be of 64 KiB each (GSO), here and once more in the kernel
	LedgerPerFlow: 4 << 20,   // the largest window in common use
	LedgerServer:  256 << 10, // the replies to a thousand commands; freed by the client's next data
	Ledger:        256 << 20, // what a firewall can spare
	Events:        4096,
}
