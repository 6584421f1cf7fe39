package engine

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// Offsets in a TCP header (RFC 9293 section 3.1).
const (
	tcpSeq     = 4
	tcpOffset  = 12 // with the reserved bits
	tcpFlags   = 13
	tcpWindow  = 14
	tcpUrgent  = 18
	flagFIN    = 1 << 0
	flagRST    = 1 << 2
	flagACK    = 1 << 4
	flagURG    = 1 << 5
	flagsOfRST = flagRST | flagACK
)

// decoder reads packets into layers that are reused.
type decoder struct {
	ip4 layers.IPv4
	ip6 layers.IPv6
	ext layers.IPv6ExtensionSkipper
	tcp layers.TCP

	src, dst netip.AddrPort
	net      gopacket.Flow
	seg      flow.Segment
	header   int // offset of the TCP header
	payload  int // offset of the payload
}

// decode reads an IP packet. It reports false for what is no whole TCP packet:
// other protocols, fragments (the kernel has reassembled what it could), and
// lengths that contradict each other.
func (d *decoder) decode(data []byte) bool {
	if len(data) == 0 {
		return false
	}
	var segment []byte
	var ok bool
	switch data[0] >> 4 {
	case 4:
		segment, ok = d.decode4(data)
	case 6:
		segment, ok = d.decode6(data)
	}
	if !ok || d.tcp.DecodeFromBytes(segment, gopacket.NilDecodeFeedback) != nil {
		return false
	}
	d.header = len(data) - len(segment)
	d.payload = len(data) - len(d.tcp.Payload)
	d.src = netip.AddrPortFrom(d.src.Addr(), uint16(d.tcp.SrcPort))
	d.dst = netip.AddrPortFrom(d.dst.Addr(), uint16(d.tcp.DstPort))
	d.seg = flow.Segment{
		Seq:   wire.Seq(d.tcp.Seq),
		Ack:   wire.Seq(d.tcp.Ack),
		Flags: flow.Flags(data[d.header+tcpFlags]), // RFC 9293 and flow.Flags agree on the bits
		Len:   len(d.tcp.Payload),

		Window:  d.tcp.Window,
		Options: options(d.tcp.Options),
	}
	return true
}

// options picks those that the control block follows. A second one of a kind
// counts for nothing.
func options(list []layers.TCPOption) (o flow.Options) {
	for i := range list {
		switch data := list[i].OptionData; list[i].OptionType {
		case layers.TCPOptionKindMSS:
			if o.MSS == 0 && len(data) == 2 {
				o.MSS = binary.BigEndian.Uint16(data)
			}
		case layers.TCPOptionKindWindowScale:
			if !o.HasScale && len(data) == 1 {
				o.HasScale, o.Scale = true, data[0]
			}
		case layers.TCPOptionKindTimestamps:
			if !o.HasStamp && len(data) == 8 {
				o.HasStamp, o.Stamp = true, binary.BigEndian.Uint32(data)
			}
		}
	}
	return o
}

func (d *decoder) decode4(data []byte) (segment []byte, ok bool) {
	ip := &d.ip4
	if ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil ||
		int(ip.Length) != len(data) || ip.Protocol != layers.IPProtocolTCP ||
		ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 {
		return nil, false
	}
	d.setAddrs(data[12:16], data[16:20])
	d.net = ip.NetworkFlow()
	return ip.Payload, true
}

// maxExtensions bounds the extension headers of an IPv6 packet; each may stand
// there once (RFC 8200 section 4.1).
const maxExtensions = 8

func (d *decoder) decode6(data []byte) (segment []byte, ok bool) {
	ip := &d.ip6
	if ip.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil || int(ip.Length) != len(data)-40 {
		return nil, false
	}
	d.setAddrs(data[8:24], data[24:40])
	if d.src.Addr().Is4In6() || d.dst.Addr().Is4In6() {
		return nil, false // never on a wire (RFC 4038 section 3), and the key of an IPv4 connection
	}
	d.net = ip.NetworkFlow()
	next, payload := ip.NextHeader, data[40:]
	for range maxExtensions {
		switch next {
		case layers.IPProtocolTCP:
			return payload, true
		case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Destination:
			if d.ext.DecodeFromBytes(payload, gopacket.NilDecodeFeedback) != nil {
				return nil, false
			}
			next, payload = d.ext.NextHeader, d.ext.Payload
		default:
			return nil, false
		}
	}
	return nil, false
}

func (d *decoder) setAddrs(src, dst []byte) {
	s, _ := netip.AddrFromSlice(src)
	t, _ := netip.AddrFromSlice(dst)
	d.src, d.dst = netip.AddrPortFrom(s, 0), netip.AddrPortFrom(t, 0)
}

// clearUrgent takes the URG flag and pointer off the packet and reports whether
// there was one: with it, the receiver would leave an octet out of its stream
// that the inspection has read (the ASA's default, `urgent-flag clear`).
func (d *decoder) clearUrgent(data []byte) bool {
	tcp := data[d.header:]
	if tcp[tcpFlags]&flagURG == 0 && tcp[tcpUrgent] == 0 && tcp[tcpUrgent+1] == 0 {
		return false
	}
	tcp[tcpFlags] &^= flagURG
	tcp[tcpUrgent], tcp[tcpUrgent+1] = 0, 0
	return true
}

// reserved are the bits of RFC 9293 section 3.1 that have no meaning.
const reserved = 0x0f

// clearReserved clears the reserved bits and reports whether one was set.
func (d *decoder) clearReserved(data []byte) bool {
	at := &data[d.header+tcpOffset]
	set := *at&reserved != 0
	*at &^= reserved
	return set
}

// setWindow writes the window.
func (d *decoder) setWindow(data []byte, window uint16) {
	binary.BigEndian.PutUint16(data[d.header+tcpWindow:], window)
	d.seg.Window = window
}

// makeRST turns the packet into a RST of the same length that its receiver
// accepts: at next, the octet it expects (RFC 5961 section 3.2). The payload is
// zeroed; a packet cut short would vanish if it is a GSO packet.
func (d *decoder) makeRST(data []byte, next wire.Seq) {
	tcp := data[d.header:]
	binary.BigEndian.PutUint32(tcp[tcpSeq:], uint32(next))
	tcp[tcpFlags] = flagsOfRST
	tcp[tcpUrgent], tcp[tcpUrgent+1] = 0, 0
	clear(data[d.payload:])
}

// Ends returns source and destination of a TCP packet, and false for anything
// else.
func Ends(data []byte) (src, dst netip.AddrPort, ok bool) {
	var d decoder
	ok = d.decode(data)
	return d.src, d.dst, ok
}
