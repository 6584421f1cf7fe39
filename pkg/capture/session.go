package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// mss is the most payload a built packet has: Ethernet's.
const mss = 1460

// Session builds the packets of one TCP connection as its two ends would send
// them. It is for dialogues written by hand and for tests: nothing is
// retransmitted, and the window never closes.
type Session struct {
	ends [2]end // by smtp.Side
}

// end is one end's view.
type end struct {
	addr netip.AddrPort
	next uint32 // sequence number of the next byte it sends
	seen uint32 // of the next byte it expects: what it acknowledges
}

// Initial sequence numbers. The client's is near the wrap, so that every
// dialogue of some length crosses it.
const (
	clientISN = 0xffffff00
	serverISN = 0x10000000
)

// NewSession returns a connection whose handshake is still to be sent. Both
// addresses are of one family.
func NewSession(client, server netip.AddrPort) *Session {
	return &Session{ends: [2]end{
		smtp.Client: {addr: client, next: clientISN},
		smtp.Server: {addr: server, next: serverISN},
	}}
}

// SYN returns the client's SYN or the server's SYN-ACK.
func (s *Session) SYN(side smtp.Side) []byte {
	return s.build(side, layers.TCP{SYN: true, ACK: side == smtp.Server}, nil)
}

// ACK returns a packet that only acknowledges.
func (s *Session) ACK(side smtp.Side) []byte { return s.build(side, layers.TCP{ACK: true}, nil) }

// FIN returns the packet that ends side's half of the connection.
func (s *Session) FIN(side smtp.Side) []byte {
	return s.build(side, layers.TCP{ACK: true, FIN: true}, nil)
}

// Data returns a packet with side's next bytes.
func (s *Session) Data(side smtp.Side, payload []byte) []byte {
	return s.build(side, layers.TCP{ACK: true, PSH: true}, payload)
}

// build returns the IP packet and moves the sender's sequence number on.
func (s *Session) build(side smtp.Side, tcp layers.TCP, payload []byte) []byte {
	from, to := &s.ends[side], s.ends[1-side]
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(from.addr.Port()), layers.TCPPort(to.addr.Port())
	tcp.Seq, tcp.Window = from.next, 65535
	if tcp.ACK {
		tcp.Ack = from.seen
	}
	from.next += uint32(len(payload))
	if tcp.SYN {
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{mss >> 8, mss & 255}}}
	}
	if tcp.SYN || tcp.FIN {
		from.next++
	}
	return serialize(from.addr, to.addr, &tcp, payload)
}

// serialize writes the packet with lengths and checksums.
func serialize(from, to netip.AddrPort, tcp *layers.TCP, payload []byte) []byte {
	var ip gopacket.SerializableLayer
	var network gopacket.NetworkLayer
	if from.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, Flags: layers.IPv4DontFragment,
			SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ip, network = v4, v4
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ip, network = v6, v6
	}
	buf := gopacket.NewSerializeBuffer()
	opt := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	err := tcp.SetNetworkLayerForChecksum(network)
	if err == nil {
		err = gopacket.SerializeLayers(buf, opt, ip, tcp, gopacket.Payload(payload))
	}
	if err != nil {
		panic("capture: " + err.Error()) // two addresses of one family and at most mss bytes always fit
	}
	return buf.Bytes()
}

// Deliver tells the session that a packet reached its receiver, which will
// acknowledge it. A packet that is not the next one in order changes nothing.
func (s *Session) Deliver(packet []byte) {
	t, ok := ParseTCP(packet)
	if !ok {
		return
	}
	for side := range s.ends {
		to := &s.ends[side]
		if to.addr != t.Dst || s.ends[1-side].addr != t.Src {
			continue
		}
		length := uint32(len(t.Payload))
		if t.Flags&(SYN|FIN) != 0 {
			length++
		}
		if t.Flags&SYN != 0 || t.Seq == to.seen {
			to.seen = t.Seq + length
		}
	}
}

// TCP flag bits (RFC 9293 3.1).
const (
	FIN uint8 = 1 << iota
	SYN
	RST
)

// TCP is what replay must know of a packet.
type TCP struct {
	Src, Dst netip.AddrPort
	Seq      uint32
	Flags    uint8
	Payload  []byte // aliases the packet
}

// ParseTCP reads the TCP header of an IP packet; false if it is not TCP, a
// fragment, or too short. IPv6 extension headers are not followed: the engine
// does not inspect such packets either.
func ParseTCP(ip []byte) (TCP, bool) {
	n, ok := ipLength(ip, len(ip))
	if !ok || n > len(ip) {
		return TCP{}, false
	}
	ip = ip[:n]
	var src, dst netip.Addr
	var segment []byte
	switch {
	case ip[0]>>4 == 6:
		if ip[6] != 6 {
			return TCP{}, false
		}
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		segment = ip[40:]
	case ip[9] != 6 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0: // not TCP, or a fragment
		return TCP{}, false
	default:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		segment = ip[int(ip[0]&15)*4:]
	}
	if len(segment) < 20 {
		return TCP{}, false
	}
	header := int(segment[12]>>4) * 4
	if header < 20 || header > len(segment) {
		return TCP{}, false
	}
	return TCP{
		Src:     netip.AddrPortFrom(src, binary.BigEndian.Uint16(segment)),
		Dst:     netip.AddrPortFrom(dst, binary.BigEndian.Uint16(segment[2:])),
		Seq:     binary.BigEndian.Uint32(segment[4:]),
		Flags:   segment[13],
		Payload: segment[header:],
	}, true
}
