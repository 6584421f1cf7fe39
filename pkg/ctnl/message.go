package ctnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/smtpwall/smtpwall/pkg/nlmsg"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// The netlink messages of conntrack, as linux/netfilter/nfnetlink_conntrack.h has
// them. ti-mo/conntrack reads them too, in 50 to 100 microseconds each, which is
// longer than the kernel takes to make them under a flood of connections; here it
// is less than one.
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
	attrSource4  = 1 // CTA_IP_V4_SRC
	attrSource6  = 3 // CTA_IP_V6_SRC
	attrProtoNum = 1 // CTA_PROTO_NUM
	attrPort     = 2 // CTA_PROTO_SRC_PORT
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
	e.Client, e.Server = source(nlmsg.Attr(b, attrOriginal)), source(nlmsg.Attr(b, attrReply))
	if !e.Client.IsValid() || !e.Server.IsValid() {
		return e, false, errUnreadable
	}
	return e, true, nil
}

// source is the source of a tuple, invalid if it cannot be read.
func source(tuple []byte) netip.AddrPort {
	ip := nlmsg.Attr(tuple, attrIP, attrSource4)
	if ip == nil {
		ip = nlmsg.Attr(tuple, attrIP, attrSource6)
	}
	addr, _ := netip.AddrFromSlice(ip)
	port := nlmsg.Attr(tuple, attrProto, attrPort)
	if len(port) != 2 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}
