// Package wire holds the arithmetic of packets: TCP sequence numbers, the
// Internet checksum, and edits at offsets of packet bytes. Decoding itself is
// gopacket's.
//
// It may be imported by every package above level 0. It must never keep state.
package wire

// Seq is a TCP sequence number: arithmetic modulo 2^32 (RFC 9293 section 3.4).
type Seq uint32

// Less reports whether s comes before t: t is at most 2^31-1 ahead of s.
func (s Seq) Less(t Seq) bool { return int32(s-t) < 0 }

// LessEq reports whether s is t or comes before it.
func (s Seq) LessEq(t Seq) bool { return int32(s-t) <= 0 }

// Add returns the number n octets after s; n may be negative.
func (s Seq) Add(n int) Seq { return s + Seq(uint32(n)) }

// Sub returns how many octets s is after t, negative if it is before.
func (s Seq) Sub(t Seq) int { return int(int32(s - t)) }
