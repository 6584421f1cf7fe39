package ctnl

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/nlmsg"
	"github.com/smtpwall/smtpwall/pkg/static"
)

const (
	// receiveBuffer is an event socket's buffer in bytes. An event occupies about
	// 1 KB, and the kernel doubles the value: 32,000 events fit, those of a second
	// in which 8,000 connections open and close, which is longer than a dump takes.
	// Overflow: the kernel drops events and says so, and a dump makes up for them.
	receiveBuffer = 16 << 20

	// datagramLen is room for the longest datagram: an event has some 200 bytes,
	// and a dump comes in pieces of at most 32 KB (net/netlink/af_netlink.c).
	datagramLen = 64 << 10

	// maxBatch is how many events are handed over at once, at most: enough to make
	// the change of goroutines cheap.
	maxBatch = 256
)

// socket is a netlink socket. It belongs to one goroutine at a time, but for
// interrupt.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	buf  []byte
}

// newSocket opens a socket in the network namespace of the calling thread.
func newSocket() (*socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &socket{conn: conn, raw: raw, buf: make([]byte, datagramLen)}, nil
}

// batch waits for events and returns those that are there, at most about
// maxBatch. Those before an error come with it. The caller owns them.
func (s *socket) batch() (events []event, err error) {
	waitErr := s.raw.Read(func(fd uintptr) bool {
		for err == nil && len(events) < maxBatch {
			var n int
			switch n, err = unix.Read(int(fd), s.buf); err {
			case nil:
				events, err = appendEvents(events, s.buf[:n])
			case unix.EINTR:
				err = nil
			case unix.EAGAIN:
				err = nil
				return len(events) > 0
			default:
				err = os.NewSyscallError("read", err)
			}
		}
		return true
	})
	if err == nil {
		err = waitErr
	}
	return events, err
}

// interrupt makes batch return.
func (s *socket) interrupt() { s.conn.SetReadDeadline(time.Unix(1, 0)) }

// group is one of conntrack's multicast groups (enum nfnetlink_groups).
type group uint32

// The groups.
const (
	groupNew     group = 1
	groupUpdate  group = 2
	groupDestroy group = 3
)

// subscribe makes s receive the events of groups, with a buffer of so many
// bytes.
func (s *socket) subscribe(buffer int, groups []group) error {
	if err := s.conn.SetReadBuffer(buffer); err != nil {
		return err
	}
	filter, err := bpf.Assemble(onlyTCP())
	if err != nil {
		return err
	}
	if err := s.conn.SetBPF(filter); err != nil {
		return err
	}
	for _, g := range groups {
		if err := s.conn.JoinGroup(uint32(g)); err != nil {
			return err
		}
	}
	return nil
}

// onlyTCP is a socket filter that keeps events of other protocols out of the
// buffer. The protocol's number is in the first attribute, the original tuple,
// behind its addresses. Were it not, the message would pass: appendEvents looks
// again.
func onlyTCP() []bpf.Instruction {
	const (
		family = nlmsg.HeaderLen
		tuple  = nlmsg.HeaderLen + nlmsg.FamilyLen + nlmsg.AttrLen // the addresses' attribute
		num4   = tuple + nlmsg.AttrLen + 2*(nlmsg.AttrLen+4) + nlmsg.AttrLen
		num6   = tuple + nlmsg.AttrLen + 2*(nlmsg.AttrLen+16) + nlmsg.AttrLen
	)
	head := binary.NativeEndian.AppendUint16(nil, nlmsg.AttrLen+1)
	head = binary.NativeEndian.AppendUint16(head, attrProtoNum)
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: family, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_INET6, SkipTrue: 2},
		bpf.LoadConstant{Dst: bpf.RegX, Val: num4},
		bpf.Jump{Skip: 1},
		bpf.LoadConstant{Dst: bpf.RegX, Val: num6},
		bpf.LoadIndirect{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: binary.BigEndian.Uint32(head), SkipTrue: 2},
		bpf.LoadIndirect{Off: nlmsg.AttrLen, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 1},
		bpf.RetConstant{Val: datagramLen},
		bpf.RetConstant{Val: 0},
	}
}

// dump returns conntrack's TCP entries. It does not stop the world: an entry that
// comes or goes meanwhile may be in it or not, and there is an event of it.
func dump() ([]static.Entry, error) {
	s, err := newSocket()
	if err != nil {
		return nil, fmt.Errorf("list conntrack's entries: %w", remedy(err))
	}
	defer s.conn.Close()
	request := netlink.Message{
		Header: netlink.Header{Type: typeGet, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, nlmsg.FamilyLen), // of any family
	}
	if _, err := s.conn.Send(request); err != nil {
		return nil, fmt.Errorf("list conntrack's entries: %w", remedy(err))
	}
	var all []static.Entry
	for {
		events, err := s.batch()
		for i := range events {
			all = append(all, events[i].Entry)
		}
		if err == errDone {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list conntrack's entries: %w", remedy(err))
		}
	}
}
