package capture

import "encoding/binary"

// LinkType says what stands before the IP packet in a frame: a LINKTYPE_ value
// of the tcpdump.org registry.
type LinkType uint32

// The link types that are read.
const (
	Null      LinkType = 0   // BSD loopback: address family in the host's byte order
	Ethernet  LinkType = 1   // with any VLAN tags
	rawBSD    LinkType = 12  // DLT_RAW of most systems, written by mistake
	rawOpen   LinkType = 14  // DLT_RAW of OpenBSD, likewise
	Raw       LinkType = 101 // the IP packet alone
	Loop      LinkType = 108 // OpenBSD loopback
	LinuxSLL  LinkType = 113 // tcpdump -i any
	IPv4      LinkType = 228
	IPv6      LinkType = 229
	LinuxSLL2 LinkType = 276 // tcpdump -i any since libpcap 1.10
)

// maxTags is how many VLAN tags are skipped: two are in use (802.1ad).
const maxTags = 4

// ipOffset is where the IP packet begins in a frame, or -1 if there is none.
func (l LinkType) ipOffset(b []byte) int {
	switch l {
	case Raw, rawBSD, rawOpen, IPv4, IPv6:
		return 0
	case Null, Loop:
		return atLeast(b, 4)
	case Ethernet:
		return afterType(b, 12)
	case LinuxSLL:
		return afterType(b, 14)
	case LinuxSLL2:
		if len(b) < 20 || !isIP(binary.BigEndian.Uint16(b)) {
			return -1
		}
		return 20
	}
	return -1
}

// atLeast is n if b is that long, else -1.
func atLeast(b []byte, n int) int {
	if len(b) < n {
		return -1
	}
	return n
}

// afterType reads the EtherType at offset at, skips VLAN tags, and returns where
// an IP packet begins, or -1.
func afterType(b []byte, at int) int {
	for range maxTags + 1 {
		if len(b) < at+2 {
			return -1
		}
		t := binary.BigEndian.Uint16(b[at:])
		if isIP(t) {
			return at + 2
		}
		if t != 0x8100 && t != 0x88a8 && t != 0x9100 {
			return -1
		}
		at += 4
	}
	return -1
}

// isIP is true for the EtherTypes of IPv4 and IPv6.
func isIP(etherType uint16) bool { return etherType == 0x0800 || etherType == 0x86dd }

// ipLength is the length of the IP packet at the start of b by its header, and
// whether that header makes sense. A length of zero, as captures on the sending
// host show it when the card does the segmentation, means the rest of the frame
// as it was on the wire.
func ipLength(b []byte, wire int) (int, bool) {
	if len(b) == 0 {
		return 0, false
	}
	switch b[0] >> 4 {
	case 4:
		header := int(b[0]&15) * 4
		if len(b) < 20 || header < 20 {
			return 0, false
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n == 0 {
			n = wire
		}
		return n, n >= header
	case 6:
		if len(b) < 40 {
			return 0, false
		}
		n := 40 + int(binary.BigEndian.Uint16(b[4:]))
		if n == 40 {
			n = wire
		}
		return n, true
	}
	return 0, false
}
