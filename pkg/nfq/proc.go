package nfq

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// procFile shows the queues of the calling thread's network namespace. /proc/net
// would show those of the program's first thread.
const procFile = "/proc/thread-self/net/netfilter/nfnetlink_queue"

// Status is what the kernel shows of a bound queue, a line of
// /proc/net/netfilter/nfnetlink_queue (seq_show in nfnetlink_queue.c).
type Status struct {
	Number      uint16
	PortID      uint32 // netlink port of the owner's socket, mostly its process id
	Waiting     uint32 // packets without a verdict
	CopyMode    uint8  // 2 is the whole packet
	CopyRange   uint32 // bytes of a packet that are copied at most
	Dropped     uint32 // packets dropped because the queue was full
	UserDropped uint32 // packets dropped because the receive buffer was full
	LastID      uint32 // id of the last packet that was queued
}

// copyPacket is Status.CopyMode of a queue that gives packets with their bytes.
const copyPacket = 2

// ParseStatus reads the text of /proc/net/netfilter/nfnetlink_queue. Columns
// that a later kernel adds at the end of a line are left alone.
func ParseStatus(text string) ([]Status, error) {
	var all []Status
	for n, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if line == "" {
			continue
		}
		s, err := parseStatusLine(line)
		if err != nil {
			return nil, fmt.Errorf("parse nfnetlink_queue line %d %q: %w", n+1, line, err)
		}
		all = append(all, s)
	}
	return all, nil
}

// statusBits is the width of each column of a Status line, in order.
var statusBits = [...]int{16, 32, 32, 8, 32, 32, 32, 32}

// parseStatusLine reads one line.
func parseStatusLine(line string) (Status, error) {
	fields := strings.Fields(line)
	if len(fields) < len(statusBits) {
		return Status{}, fmt.Errorf("%d columns, want at least %d", len(fields), len(statusBits))
	}
	var v [len(statusBits)]uint64
	for i, bits := range statusBits {
		n, err := strconv.ParseUint(fields[i], 10, bits)
		if err != nil {
			return Status{}, fmt.Errorf("column %d: %w", i+1, err)
		}
		v[i] = n
	}
	return Status{
		Number: uint16(v[0]), PortID: uint32(v[1]), Waiting: uint32(v[2]), CopyMode: uint8(v[3]),
		CopyRange: uint32(v[4]), Dropped: uint32(v[5]), UserDropped: uint32(v[6]), LastID: uint32(v[7]),
	}, nil
}

// errNotBound is a queue that nobody reads.
var errNotBound = errors.New("no program is bound to it")

// ReadAllStatus reads the kernel's lines about every bound queue. It fails with
// os.ErrNotExist on a kernel without nfnetlink_queue.
func ReadAllStatus() ([]Status, error) {
	text, err := os.ReadFile(procFile)
	if err != nil {
		return nil, fmt.Errorf("read queue status: %w", err)
	}
	return ParseStatus(string(text))
}

// ReadStatus reads the kernel's line about one queue, as ReadAllStatus does.
func ReadStatus(number uint16) (Status, error) {
	all, err := ReadAllStatus()
	if err != nil {
		return Status{}, err
	}
	for _, s := range all {
		if s.Number == number {
			return s, nil
		}
	}
	return Status{}, fmt.Errorf("queue %d: %w", number, errNotBound)
}
