package nfq

import (
	"encoding/binary"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/nlmsg"
)

// The netlink messages of nfnetlink_queue, as
// linux/netfilter/nfnetlink_queue.h has them.
// go-nfqueue reads and writes them too, with dozens of allocations a packet,
// which cost more than the inspection itself.
const (
	typePacket  = 3<<8 + 0 // NFNL_SUBSYS_QUEUE, NFQNL_MSG_PACKET
	typeVerdict = 3<<8 + 1 // NFQNL_MSG_VERDICT
	flagRequest = 1

	attrPacketHeader  = 1 // NFQA_PACKET_HDR
	attrVerdictHeader = 2 // NFQA_VERDICT_HDR
	attrMark          = 3 // NFQA_MARK
	attrInDev         = 5 // NFQA_IFINDEX_INDEV
	attrOutDev        = 6 // NFQA_IFINDEX_OUTDEV
	attrPayload       = 10
	attrCapLen        = 13 // the length before the copy range cut it
	attrInfo          = 14 // NFQA_SKB_INFO: the flags below

	infoNotReady    = 1 << 0 // NFQA_SKB_CSUMNOTREADY
	infoMerged      = 1 << 1 // NFQA_SKB_GSO
	infoNotVerified = 1 << 2 // NFQA_SKB_CSUM_NOTVERIFIED

	verdictDrop   = 0 // NF_DROP
	verdictAccept = 1 // NF_ACCEPT
)

// packet is what the kernel tells of a packet. payload aliases the message.
type packet struct {
	id, mark, in, out uint32
	capLen            uint32 // 0: the packet is whole
	info              uint32 // flags; the kernel leaves them out where none is set
	payload           []byte
	hasID             bool
}

// checksum is what the kernel knows of the packet's TCP checksum. At the hooks up
// to forward it flags what nobody has verified, and what is not computed yet
// (linux/net/netfilter/nfnetlink_queue.c, nfqnl_put_packet_info): a packet
// without a flag has been verified, by the network card or by conntrack
// (nf_conntrack_checksum=1). The engine may take that for granted: it verifies
// the others.
func (p *packet) checksum() engine.Checksum {
	switch {
	case p.info&infoNotReady != 0:
		return engine.ChecksumPartial
	case p.info&infoNotVerified != 0:
		return engine.ChecksumUnverified
	}
	return engine.ChecksumGood
}

// merged reports whether the packet holds several of the wire.
func (p *packet) merged() bool { return p.info&infoMerged != 0 }

// truncated reports whether the kernel copied a part of the packet only;
// NFQA_CAP_LEN is there only then, or with the same length.
func (p *packet) truncated() bool { return int(p.capLen) > len(p.payload) }

// parsePacket reads the attributes of a packet message. What it cannot read it
// leaves zero: the caller decides on a packet without id or payload.
func parsePacket(b []byte) (p packet) {
	for {
		kind, value, rest, ok := nlmsg.NextAttr(b)
		if !ok {
			return p
		}
		switch kind {
		case attrPacketHeader:
			p.hasID = len(value) >= 4
			p.id = word(value)
		case attrMark:
			p.mark = word(value)
		case attrInDev:
			p.in = word(value)
		case attrOutDev:
			p.out = word(value)
		case attrCapLen:
			p.capLen = word(value)
		case attrInfo:
			p.info = word(value)
		case attrPayload:
			p.payload = value
		}
		b = rest
	}
}

// word is a number in network order, 0 if it is cut.
func word(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// verdict is what is to become of a packet.
type verdict struct {
	id, verdict uint32
	mark        uint32
	setMark     bool
	payload     []byte // nil: as it is
}

// appendVerdict writes a verdict message for a queue.
func appendVerdict(b []byte, queue uint16, v verdict) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0) // length, set below
	b = binary.NativeEndian.AppendUint16(b, typeVerdict)
	b = binary.NativeEndian.AppendUint16(b, flagRequest)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port: no answer is wanted
	b = append(b, 0, 0)                   // family and version
	b = binary.BigEndian.AppendUint16(b, queue)
	b = appendAttr(b, attrVerdictHeader, 8)
	b = binary.BigEndian.AppendUint32(b, v.verdict)
	b = binary.BigEndian.AppendUint32(b, v.id)
	if v.setMark {
		b = appendAttr(b, attrMark, 4)
		b = binary.BigEndian.AppendUint32(b, v.mark)
	}
	if v.payload != nil {
		b = appendAttr(b, attrPayload, len(v.payload))
		b = append(b, v.payload...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	binary.NativeEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendAttr writes the head of an attribute of n bytes.
func appendAttr(b []byte, kind uint16, n int) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(nlmsg.AttrLen+n))
	return binary.NativeEndian.AppendUint16(b, kind)
}
