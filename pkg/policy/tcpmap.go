package policy

import "time"

// TCPMap is a `tcp-map`: what is done with TCP segments that end hosts may read
// in different ways (asa.md 6). A class uses it through `set connection
// advanced-options NAME`.
type TCPMap struct {
	Name string

	QueueLimit   uint64        // queue-limit N: packets of a connection that wait for a gap to close; 0: as many as the engine's bounds allow
	QueueTimeout time.Duration // queue-limit N timeout S: how long they wait

	CheckRetransmission  bool         // check-retransmission: a record where octets are sent again with other values
	ChecksumVerification bool         // checksum-verification: in captures too
	DropOverMSS          bool         // exceed-mss drop
	AllowUrgent          bool         // urgent-flag allow
	ReservedBits         ReservedBits // reserved-bits {allow|clear|drop}
}

// ReservedBits is what is done with the reserved bits of the TCP header.
type ReservedBits uint8

// The values of reserved-bits.
const (
	ReservedAllow ReservedBits = iota
	ReservedClear
	ReservedDrop
)

// DefaultTCPMap is what holds for a class without `set connection
// advanced-options`: the ASA's defaults.
func DefaultTCPMap() *TCPMap { return &TCPMap{QueueTimeout: 4 * time.Second} }
