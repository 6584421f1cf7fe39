package wire

import (
	"encoding/binary"
	"math/bits"
)

// Sum adds data to the one's complement sum s of 16-bit big-endian words (RFC
// 1071); data of odd length is padded with a zero octet. The result is not
// folded to 16 bits.
func Sum(data []byte, s uint64) uint64 {
	var c uint64
	for len(data) >= 32 {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(data), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(data[8:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(data[16:]), c)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(data[24:]), c)
		data = data[32:]
	}
	for len(data) >= 8 {
		s, c = bits.Add64(s, binary.BigEndian.Uint64(data), c)
		data = data[8:]
	}
	if len(data) > 0 {
		var tail [8]byte
		copy(tail[:], data)
		s, c = bits.Add64(s, binary.BigEndian.Uint64(tail[:]), c)
	}
	s, c = bits.Add64(s, 0, c)
	return s + c
}

// Fold brings a sum down to 16 bits.
func Fold(s uint64) uint16 {
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// Offsets of the fields used here.
const (
	ip4Source   = 12 // two addresses of 4 octets follow
	ip6Source   = 8  // two addresses of 16 octets follow
	tcpChecksum = 16
	tcpProtocol = 6
)

// tcpSum is the folded sum of the pseudo header and of all TCP octets of pkt,
// an IPv4 or IPv6 packet whose TCP header starts at offset tcp.
func tcpSum(pkt []byte, tcp int) uint16 {
	addrs := pkt[ip4Source : ip4Source+8]
	if pkt[0]>>4 == 6 {
		addrs = pkt[ip6Source : ip6Source+32]
	}
	return Fold(Sum(addrs, Sum(pkt[tcp:], tcpProtocol+uint64(len(pkt)-tcp))))
}

// SetTCPChecksum recomputes the TCP checksum of pkt in full (RFC 9293 section
// 3.1). An incremental update would keep the error of a packet that came with
// only its pseudo-header sum, as locally generated and GSO packets do.
func SetTCPChecksum(pkt []byte, tcp int) {
	field := pkt[tcp+tcpChecksum:]
	field[0], field[1] = 0, 0
	binary.BigEndian.PutUint16(field, ^tcpSum(pkt, tcp))
}

// TCPChecksumOK reports whether the checksum in pkt is right.
func TCPChecksumOK(pkt []byte, tcp int) bool { return tcpSum(pkt, tcp) == 0xffff }
