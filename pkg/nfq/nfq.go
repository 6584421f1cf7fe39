package nfq

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	nfqueue "github.com/florianl/go-nfqueue/v2"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// Queue is one bound NFQUEUE. Run belongs to one goroutine; Verdict may be
// called from another.
type Queue struct {
	opt    Options
	nf     *nfqueue.Nfqueue
	socket *socket
	inUse  Values

	handle  func(engine.Packet)
	running chan struct{} // closed by Run: handle is set
	closed  chan struct{} // closed by Close
	failed  chan error    // the reader ended by itself; room for one
	cancel  context.CancelFunc
	once    sync.Once

	gap      gap // of the reader goroutine
	failures int // receive errors in a row; of the reader goroutine
	marks    marks
	count    counters
}

// maxFailures is how many receive errors in a row end the reader: a socket that
// gives nothing else is broken, and reading on would spin.
const maxFailures = 1000

// Open binds a queue. Packets wait in the kernel until Run. The caller must
// Run or Close it.
func Open(opt Options) (*Queue, error) {
	q := newQueue(opt.withDefaults())
	nf, err := nfqueue.Open(q.opt.library(reader{q}))
	if err != nil {
		return nil, explain(opt.Number, err, lookAround(opt.Number))
	}
	q.nf = nf
	if err := q.bind(); err != nil {
		why := lookAround(opt.Number)
		if why.owner.port == nf.Con.PID() {
			why.owner = owner{}
		}
		q.Close()
		return nil, explain(opt.Number, err, why)
	}
	return q, nil
}

// newQueue makes a Queue without its socket.
func newQueue(opt Options) *Queue {
	return &Queue{
		opt:     opt,
		running: make(chan struct{}),
		closed:  make(chan struct{}),
		failed:  make(chan error, 1),
		cancel:  func() {},
		gap:     gap{suspect: true}, // onlyReplies may have taken the first packets
		marks:   marks{byID: map[uint32]uint32{}},
	}
}

// bind configures the socket and the queue and starts the reader.
func (q *Queue) bind() error {
	if err := prepare(q.nf.Con, q.opt); err != nil {
		return err
	}
	raw, err := q.nf.Con.SyscallConn()
	if err != nil {
		return fmt.Errorf("get socket: %w", err)
	}
	q.socket = newSocket(raw)
	if err := q.register(); err != nil {
		return err
	}
	if err := q.nf.Con.RemoveBPF(); err != nil {
		return fmt.Errorf("remove socket filter: %w", err)
	}
	q.inUse, err = q.values()
	return err
}

// register binds the queue and starts go-nfqueue's reader goroutine.
func (q *Queue) register() error {
	ctx, cancel := context.WithCancel(context.Background())
	q.cancel = cancel
	return q.nf.RegisterWithErrorFunc(ctx, reader{q}.first, reader{q}.firstFailed)
}

// Values are the settings in force, read back when the queue was opened.
func (q *Queue) Values() Values { return q.inUse }

// String is Values for the log.
func (q *Queue) String() string { return q.inUse.String() }

// Run gives each packet to handle, on one goroutine, until ctx ends or the
// socket fails; then it closes the queue, and the kernel drops what waits in it.
// handle owns the packet's bytes and must return soon after ctx has ended.
func (q *Queue) Run(ctx context.Context, handle func(engine.Packet)) error {
	q.handle = handle
	close(q.running)
	defer q.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-q.closed:
		return nil
	case err := <-q.failed:
		return fmt.Errorf("read queue %d: %w", q.opt.Number, err)
	}
}

// Close unbinds the queue; the kernel drops what waits in it. It returns when
// the reader has ended. Closing twice is harmless.
func (q *Queue) Close() error {
	var err error
	q.once.Do(func() {
		close(q.closed)
		q.cancel()
		err = q.nf.Close()
	})
	return err
}

// counters are what a Queue has done. They are written on the reader and the
// verdict goroutine.
type counters struct {
	packets, truncated, unreadable, lost          atomic.Uint64
	receiveErrors, sendErrors                     atomic.Uint64
	refusedUnknown, refusedForeign, refusedOthers atomic.Uint64
}

// refuse counts a verdict that the kernel did not take.
func (c *counters) refuse(e syscall.Errno) {
	switch e {
	case syscall.ENOENT:
		c.refusedUnknown.Add(1)
	case syscall.EPERM:
		c.refusedForeign.Add(1)
	default:
		c.refusedOthers.Add(1)
	}
}

// Counters are what a queue has done since it was opened. They only grow.
type Counters struct {
	Packets        uint64 // given to handle
	Truncated      uint64 // dropped: longer than what the kernel copies
	Unreadable     uint64 // decided by fail-open: no payload, or not parsed
	Lost           uint64 // never arrived: the receive buffer was full
	ReceiveErrors  uint64 // of the socket
	SendErrors     uint64 // verdicts that could not be sent
	RefusedUnknown uint64 // verdicts for packets that the kernel has no more, as after a flush
	RefusedForeign uint64 // verdicts for a queue that is not ours
	RefusedOthers  uint64 // verdicts refused for another reason, as want of memory
}

// Counters returns a copy.
func (q *Queue) Counters() Counters {
	c := &q.count
	return Counters{
		Packets: c.packets.Load(), Truncated: c.truncated.Load(), Unreadable: c.unreadable.Load(), Lost: c.lost.Load(),
		ReceiveErrors: c.receiveErrors.Load(), SendErrors: c.sendErrors.Load(),
		RefusedUnknown: c.refusedUnknown.Load(), RefusedForeign: c.refusedForeign.Load(), RefusedOthers: c.refusedOthers.Load(),
	}
}
