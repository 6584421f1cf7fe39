// Package nlmsg takes netlink datagrams of nfnetlink apart, without allocating: the
// kernel's queue and conntrack send more of them than a reader that allocates can
// take (linux/netlink.h, linux/netfilter/nfnetlink.h).
//
// It may be imported by nfq and ctnl. It must never know what a message is about.
package nlmsg

import "encoding/binary"

// Lengths of heads, in bytes.
const (
	HeaderLen = 16 // struct nlmsghdr
	FamilyLen = 4  // struct nfgenmsg, at the beginning of a body
	AttrLen   = 4  // struct nlattr
)

// Types of messages that are the same in all of netlink.
const (
	Error = 2 // NLMSG_ERROR: the answer to a request
	Done  = 3 // NLMSG_DONE: the end of a dump
)

// kindMask takes NLA_F_NESTED and NLA_F_NET_BYTEORDER off an attribute's type.
const kindMask = 0x3fff

// Message is one netlink message. Its body aliases the datagram.
type Message struct {
	Type uint16
	Body []byte // behind struct nlmsghdr
}

// Next takes the first message off a datagram. ok is false when there is no whole
// one.
func Next(b []byte) (m Message, rest []byte, ok bool) {
	if len(b) < HeaderLen {
		return Message{}, nil, false
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < HeaderLen || n > len(b) {
		return Message{}, nil, false
	}
	m = Message{binary.NativeEndian.Uint16(b[4:]), b[HeaderLen:n]}
	return m, b[min(Align(n), len(b)):], true
}

// Errno is the error number in a message of type Error or Done, 0 for none. ok is
// false if the message is too short for one.
func (m Message) Errno() (n int, ok bool) {
	if len(m.Body) < 4 {
		return 0, false
	}
	return -int(int32(binary.NativeEndian.Uint32(m.Body))), true
}

// Attrs are the attributes of the body.
func (m Message) Attrs() []byte { return m.Body[min(FamilyLen, len(m.Body)):] }

// NextAttr takes the first attribute off b. Its value aliases b. ok is false when
// there is no whole one.
func NextAttr(b []byte) (kind uint16, value, rest []byte, ok bool) {
	if len(b) < AttrLen {
		return 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < AttrLen || n > len(b) {
		return 0, nil, nil, false
	}
	return binary.NativeEndian.Uint16(b[2:]) & kindMask, b[AttrLen:n], b[min(Align(n), len(b)):], true
}

// Attr returns the value of the attribute that path leads to, one kind for each
// level of nesting; nil if there is none.
func Attr(b []byte, path ...uint16) []byte {
	for {
		kind, value, rest, ok := NextAttr(b)
		switch {
		case !ok:
			return nil
		case kind != path[0]:
			b = rest
		case len(path) == 1:
			return value
		default:
			b, path = value, path[1:]
		}
	}
}

// Align is n rounded up to where the next message or attribute begins.
func Align(n int) int { return (n + 3) &^ 3 }
