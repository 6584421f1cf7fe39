package netns

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Flags of a TCP header (RFC 9293 section 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// Lengths of headers without options.
const (
	ip4Header = 20
	ip6Header = 40
	tcpHeader = 20
)

// crafted is a TCP segment as no kernel would send it: every field as the test
// wants it.
type crafted struct {
	seq, ack       uint32
	flags          uint8
	reserved       uint8 // the four bits behind the data offset
	window, urgent uint16
	options        []byte // a multiple of four bytes
	payload        string
	ttl            uint8 // of the IP header
	badSum         bool  // the TCP checksum is wrong
}

// mod changes a segment before it is sent.
type mod func(*crafted)

// lost is a segment that passes the firewall and whose TTL ends before the
// host behind it (see newSiege).
func lost(c *crafted) { c.ttl = 2 }

// badChecksum is a segment that no receiver takes.
func badChecksum(c *crafted) { c.badSum = true }

// flags sets the flags.
func flags(f uint8) mod { return func(c *crafted) { c.flags = f } }

// ackAt moves the acknowledgement by n octets.
func ackAt(n int) mod { return func(c *crafted) { c.ack += uint32(n) } }

// urgent sets the flag and the pointer.
func urgent(pointer uint16) mod {
	return func(c *crafted) { c.flags, c.urgent = c.flags|flagURG, pointer }
}

// options puts options behind those of the segment.
func options(o string) mod {
	return func(c *crafted) { c.options = append(append([]byte{}, c.options...), o...) }
}

// segment is the TCP segment, checksum included.
func (c *crafted) segment(src, dst netip.AddrPort) []byte {
	b := make([]byte, tcpHeader, tcpHeader+len(c.options)+len(c.payload))
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], c.seq)
	binary.BigEndian.PutUint32(b[8:], c.ack)
	b[12] = uint8(tcpHeader+len(c.options))/4<<4 | c.reserved
	b[13] = c.flags
	binary.BigEndian.PutUint16(b[14:], c.window)
	binary.BigEndian.PutUint16(b[18:], c.urgent)
	b = append(append(b, c.options...), c.payload...)
	sum := onesSum(pseudoHeader(src.Addr(), dst.Addr(), len(b)), b)
	if c.badSum {
		sum += 0x1111
	}
	binary.BigEndian.PutUint16(b[16:], ^sum)
	return b
}

// packet is the IP packet with the segment.
func (c *crafted) packet(src, dst netip.AddrPort) []byte {
	return ipPacket(src.Addr(), dst.Addr(), c.ttl, c.segment(src, dst))
}

// ipPacket puts an IP header before a TCP segment.
func ipPacket(src, dst netip.Addr, ttl uint8, segment []byte) []byte {
	if src.Is6() {
		b := make([]byte, ip6Header, ip6Header+len(segment))
		b[0] = 6 << 4
		binary.BigEndian.PutUint16(b[4:], uint16(len(segment)))
		b[6], b[7] = unix.IPPROTO_TCP, ttl
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return append(b, segment...)
	}
	return append(ip4(src, dst, ttl, 0, 0, len(segment)), segment...)
}

// ip4 is an IPv4 header; fragment is its field of flags and offset.
func ip4(src, dst netip.Addr, ttl uint8, id, fragment uint16, length int) []byte {
	b := make([]byte, ip4Header, ip4Header+length)
	b[0] = 4<<4 | ip4Header/4
	binary.BigEndian.PutUint16(b[2:], uint16(ip4Header+length))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[8], b[9] = ttl, unix.IPPROTO_TCP
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b))
	return b
}

// pseudoHeader is what a TCP checksum covers of the addresses.
func pseudoHeader(src, dst netip.Addr, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, unix.IPPROTO_TCP)
}

// onesSum is the ones' complement sum of 16-bit words (RFC 1071). All parts but
// the last are even.
func onesSum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for i, b := range p {
			sum += uint32(b) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
