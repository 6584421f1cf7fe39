package nfq

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferLen is room for the longest packet message: the kernel copies at most
// 65531 bytes, and the other attributes are short.
const bufferLen = 128 << 10

// socket is the netlink socket of a bound queue. One goroutine receives; any may
// send. Nothing is allocated a message.
type socket struct {
	raw syscall.RawConn

	in      []byte
	n       int
	inErr   error
	receive func(fd uintptr) bool // made once

	mu      sync.Mutex // guards what is below
	out     []byte
	outErr  error
	outFunc func(fd uintptr) bool
}

// newSocket makes a socket of an open non-blocking one.
func newSocket(raw syscall.RawConn) *socket {
	s := &socket{raw: raw, in: make([]byte, bufferLen)}
	s.receive = func(fd uintptr) bool {
		s.n, s.inErr = transfer(unix.SYS_READ, fd, s.in)
		return s.inErr != unix.EAGAIN
	}
	s.outFunc = func(fd uintptr) bool {
		_, s.outErr = transfer(unix.SYS_WRITE, fd, s.out)
		return s.outErr != unix.EAGAIN
	}
	return s
}

// transfer reads or writes one datagram; b is not empty. The socket never
// blocks, so the scheduler is not told of the call: a verdict carries the packet
// through the rest of the network stack, and for a call of that length the
// scheduler would start another thread each time.
func transfer(call, fd uintptr, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// read returns the next datagram; it is valid until the next call. A passed read
// deadline, which is how the socket is closed, is errClosed.
func (s *socket) read() ([]byte, error) {
	if err := s.raw.Read(s.receive); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed) {
			return nil, errClosed
		}
		return nil, err
	}
	if s.inErr != nil {
		return nil, os.NewSyscallError("read", s.inErr)
	}
	return s.in[:s.n], nil
}

// sendVerdict sends one verdict for a queue.
func (s *socket) sendVerdict(queue uint16, v verdict) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = appendVerdict(s.out[:0], queue, v)
	if err := s.raw.Write(s.outFunc); err != nil {
		return err
	}
	return os.NewSyscallError("write", s.outErr)
}

// errClosed is a read that Close has ended.
var errClosed = errors.New("closed")
