package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/net/bpf"
)

const (
	// DefaultMaxLen is how many packets may wait for a verdict: twice what the
	// engine holds at most, so that held packets never fill the queue.
	DefaultMaxLen = 8192

	// DefaultReceiveBuffer is the socket's buffer in bytes. A GSO packet of
	// 64 KB occupies about 68 KB of it and a small one 2 KB; the kernel doubles
	// the value, so that 1,900 of the first or 60,000 of the second kind fit.
	// What does not fit is dropped and shown as Status.UserDropped.
	DefaultReceiveBuffer = 64 << 20

	// copyRange asks for whole packets; the kernel gives at most 65531 bytes.
	copyRange = 0xffff
)

// Marks are the packet-mark bits of the engine's marks, as nft/site.nft has them.
type Marks struct {
	Offload, Reset uint32
}

// DefaultMarks are the bits of the shipped site.nft.
var DefaultMarks = Marks{Offload: 0x00010000, Reset: 0x00020000}

// Options is how a queue is opened.
type Options struct {
	Number        uint16
	MaxLen        uint32 // packets; 0 means DefaultMaxLen
	ReceiveBuffer int    // bytes; 0 means DefaultReceiveBuffer
	FailOpen      bool   // a packet that cannot be queued or read passes
	Marks         Marks  // zero means DefaultMarks
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	if o.MaxLen == 0 {
		o.MaxLen = DefaultMaxLen
	}
	if o.ReceiveBuffer == 0 {
		o.ReceiveBuffer = DefaultReceiveBuffer
	}
	if o.Marks == (Marks{}) {
		o.Marks = DefaultMarks
	}
	return o
}

// library is o in the words of go-nfqueue.
func (o Options) library(log nfqueue.Logger) *nfqueue.Config {
	flags := uint32(nfqueue.NfQaCfgFlagGSO)
	if o.FailOpen {
		flags |= nfqueue.NfQaCfgFlagFailOpen
	}
	return &nfqueue.Config{
		NfQueue: o.Number, MaxQueueLen: o.MaxLen, MaxPacketLen: copyRange,
		Copymode: nfqueue.NfQnlCopyPacket, Flags: flags, Logger: log,
	}
}

// Values are a queue's settings in force, for the log.
type Values struct {
	Status
	MaxLen        uint32 // as asked and acknowledged; the kernel does not show it
	FailOpen      bool   // the same
	ReceiveBuffer int    // bytes, as the kernel counts them: twice what was asked
	Unread        bool   // Status could not be read back: it is what was asked
}

// String is the line for the log.
func (v Values) String() string {
	onOff := map[bool]string{true: "on", false: "off"}
	s := fmt.Sprintf("queue %d: max length %d, copy range %d, gso on, fail-open %s, receive buffer %d bytes",
		v.Number, v.MaxLen, v.CopyRange, onOff[v.FailOpen], v.ReceiveBuffer)
	if v.Unread {
		s += ", as asked: only user or group root may read back what is in force"
	}
	return s
}

// values reads the settings in force back from the kernel. Its file is root's; a
// program of another user with CAP_NET_ADMIN does without.
func (q *Queue) values() (Values, error) {
	st, err := ReadStatus(q.opt.Number)
	unread := errors.Is(err, fs.ErrPermission)
	switch {
	case unread:
		st = Status{Number: q.opt.Number, CopyMode: copyPacket, CopyRange: copyRange}
	case err != nil:
		return Values{}, err
	}
	if st.CopyMode != copyPacket {
		return Values{}, fmt.Errorf("queue %d: the kernel set copy mode %d, not %d", q.opt.Number, st.CopyMode, copyPacket)
	}
	buffer, err := q.nf.Con.ReadBuffer()
	if err != nil {
		return Values{}, fmt.Errorf("read back receive buffer: %w", err)
	}
	return Values{Status: st, MaxLen: q.opt.MaxLen, FailOpen: q.opt.FailOpen, ReceiveBuffer: buffer, Unread: unread}, nil
}

// prepare sets the socket up before the queue is bound.
func prepare(c *netlink.Conn, opt Options) error {
	// Without NO_ENOBUFS one packet that does not fit blocks the socket for
	// all others until it has been read empty.
	if err := c.SetOption(netlink.NoENOBUFS, true); err != nil {
		return fmt.Errorf("set NETLINK_NO_ENOBUFS: %w", err)
	}
	if err := c.SetReadBuffer(opt.ReceiveBuffer); err != nil {
		return fmt.Errorf("set receive buffer of %d bytes: %w", opt.ReceiveBuffer, err)
	}
	if err := c.SetBPF(onlyReplies); err != nil {
		return fmt.Errorf("set socket filter: %w", err)
	}
	return nil
}

// onlyReplies is a socket filter that passes the kernel's replies and no
// packets. go-nfqueue configures the queue in five steps, and takes the next
// message for the reply to each; a queue that carries traffic gives packets
// before the last step, which would end the set-up with "mismatched sequence".
// Packets taken by the filter wait for a verdict; gap finds them.
var onlyReplies = func() []bpf.RawInstruction {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], uint16(netlink.Error)) // acknowledgements are errors of number 0
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 4, Size: 2}, // nlmsg_type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(binary.BigEndian.Uint16(b[:])), SkipFalse: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	})
	return must(raw, err)
}()

// must is for programs that are constants.
func must(raw []bpf.RawInstruction, err error) []bpf.RawInstruction {
	if err != nil {
		panic("nfq: " + err.Error())
	}
	return raw
}

// errStopped is a reader that ended by itself.
var errStopped = errors.New("the socket does not receive any more")
