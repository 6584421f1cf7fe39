package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/nlmsg"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// The netlink messages of conntrack, as linux/netfilter/nfnetlink_conntrack.h has
// them. ti-mo/conntrack knows them too: it reads one in 50 to 100 microseconds,
// which is longer than the kernel takes to make it under a flood of connections, and
// here it is less than one; and its deletions do not name the entry's id.
const (
	typeNew    = 1<<8 + 0 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW: an entry that is new, has changed, or is dumped
	typeGet    = 1<<8 + 1 // IPCTNL_MSG_CT_GET
	typeDelete = 1<<8 + 2 // IPCTNL_MSG_CT_DELETE

	attrOriginal  = 1 // CTA_TUPLE_ORIG
	attrReply     = 2 // CTA_TUPLE_REPLY
	attrProtoInfo = 4 // CTA_PROTOINFO
	attrID        = 12

	attrIP       = 1 // CTA_TUPLE_IP
	attrProto    = 2 // CTA_TUPLE_PROTO
	attrSource4  = 1 // CTA_IP_V4_SRC; _DST is the next one
	attrSource6  = 3 // CTA_IP_V6_SRC; likewise
	attrProtoNum = 1 // CTA_PROTO_NUM
	attrPort     = 2 // CTA_PROTO_SRC_PORT; likewise
	attrTCP      = 1 // CTA_PROTOINFO_TCP
	attrState    = 1 // CTA_PROTOINFO_TCP_STATE
)

// event is what a message says of a TCP connection.
type event struct {
	static.Entry
	gone bool // conntrack has removed the entry
}

// errUnreadable is a message that says nothing, though it may have been of a TCP
// connection: as bad as one that was lost.
var errUnreadable = errors.New("unreadable message")

// errDone is the end of a dump.
var errDone = errors.New("done")

// appendEvents appends what a datagram says of TCP connections. Behind an error
// nothing more is to be read.
func appendEvents(to []event, datagram []byte) ([]event, error) {
	for b := datagram; len(b) > 0; {
		m, rest, ok := nlmsg.Next(b)
		if !ok {
			return to, errUnreadable
		}
		switch m.Type {
		case typeNew, typeDelete:
			e, tcp, err := parseEntry(m.Attrs())
			if err != nil {
				return to, err
			}
			if tcp {
				to = append(to, event{e, m.Type == typeDelete})
			}
		case nlmsg.Error, nlmsg.Done:
			return to, result(m)
		default:
			return to, fmt.Errorf("%w: type %#x", errUnreadable, m.Type)
		}
		b = rest
	}
	return to, nil
}

// result is what the kernel says at the end of a request.
func result(m nlmsg.Message) error {
	n, ok := m.Errno()
	switch {
	case !ok:
		return errUnreadable
	case n > 0:
		return syscall.Errno(n)
	}
	return errDone
}

// parseEntry reads the attributes of an entry; tcp is false if it is not one of a
// TCP connection.
// State is 0 where the message does not tell it: an event tells what has changed.
func parseEntry(b []byte) (e static.Entry, tcp bool, err error) {
	proto := nlmsg.Attr(b, attrOriginal, attrProto, attrProtoNum)
	if len(proto) != 1 {
		return e, false, errUnreadable
	}
	if proto[0] != syscall.IPPROTO_TCP {
		return e, false, nil
	}
	if id := nlmsg.Attr(b, attrID); len(id) == 4 {
		e.ID = binary.BigEndian.Uint32(id)
	}
	if state := nlmsg.Attr(b, attrProtoInfo, attrTCP, attrState); len(state) == 1 {
		e.State = static.State(state[0])
	}
	e.Client, e.Original = end(nlmsg.Attr(b, attrOriginal), source), end(nlmsg.Attr(b, attrOriginal), destination)
	e.Server = end(nlmsg.Attr(b, attrReply), source)
	if !e.Client.IsValid() || !e.Original.IsValid() || !e.Server.IsValid() {
		return e, false, errUnreadable
	}
	return e, true, nil
}

// The ends of a tuple: what stands behind the attributes of its source.
const source, destination = 0, 1

// end is one of the ends of a tuple, invalid if it cannot be read.
func end(tuple []byte, which uint16) netip.AddrPort {
	ip := nlmsg.Attr(tuple, attrIP, attrSource4+which)
	if ip == nil {
		ip = nlmsg.Attr(tuple, attrIP, attrSource6+which)
	}
	addr, _ := netip.AddrFromSlice(ip)
	port := nlmsg.Attr(tuple, attrProto, attrPort+which)
	if len(port) != 2 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}

// deletion asks for the entry that has this tuple in one of its directions; an id
// other than 0 must be the entry's. The kernel searches both directions for the
// tuple named original (ctnetlink_del_conntrack).
func deletion(t flow.Tuple, id uint32) netlink.Message {
	family, addr := byte(unix.AF_INET), uint16(attrSource4)
	if t.Client.Addr().Is6() {
		family, addr = unix.AF_INET6, attrSource6
	}
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.Nested(attrOriginal, func(e *netlink.AttributeEncoder) error {
		e.Nested(attrIP, func(e *netlink.AttributeEncoder) error {
			e.Bytes(addr, t.Client.Addr().AsSlice())
			e.Bytes(addr+destination, t.Server.Addr().AsSlice())
			return nil
		})
		e.Nested(attrProto, func(e *netlink.AttributeEncoder) error {
			e.Uint8(attrProtoNum, syscall.IPPROTO_TCP)
			e.Uint16(attrPort, t.Client.Port())
			e.Uint16(attrPort+destination, t.Server.Port())
			return nil
		})
		return nil
	})
	if id != 0 {
		e.Uint32(attrID, id)
	}
	attrs, err := e.Encode()
	if err != nil {
		panic(err) // an attribute is longer than 64 KiB
	}
	return netlink.Message{
		Header: netlink.Header{Type: typeDelete, Flags: netlink.Request | netlink.Acknowledge},
		Data:   append([]byte{family, 0, 0, 0}, attrs...),
	}
}
