package nfq

import (
	"fmt"
	"sync"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// marks remembers the packet marks that packets came with: the mark of a
// verdict replaces the whole mark, and other programs own its other bits. Only
// marks that are not zero are kept, and at most as many as packets wait in the
// queue, for each leaves with its verdict.
type marks struct {
	sync.Mutex
	byID map[uint32]uint32
}

// put remembers a packet's mark.
func (m *marks) put(id, mark uint32) {
	if mark == 0 {
		return
	}
	m.Lock()
	defer m.Unlock()
	m.byID[id] = mark
}

// take forgets and returns a packet's mark.
func (m *marks) take(id uint32) uint32 {
	m.Lock()
	defer m.Unlock()
	mark := m.byID[id]
	delete(m.byID, id)
	return mark
}

// with returns the packet mark old with the bits of want instead of ours.
func (m Marks) with(old uint32, want engine.Mark) uint32 {
	mark := old &^ (m.Offload | m.Reset)
	if want&engine.MarkOffload != 0 {
		mark |= m.Offload
	}
	if want&engine.MarkReset != 0 {
		mark |= m.Reset
	}
	return mark
}

// Verdict tells the kernel what becomes of a packet. Its error says that the
// verdict could not be sent; that the kernel refused one comes later and is
// counted only. An accepted packet whose verdict cannot be sent is dropped. After
// Close there is nothing to tell: the kernel dropped what waited.
func (q *Queue) Verdict(d engine.Decision) error {
	old := q.marks.take(d.ID)
	if d.Verdict == engine.Drop {
		return q.send(verdict{id: d.ID, verdict: verdictDrop})
	}
	v := verdict{id: d.ID, verdict: verdictAccept}
	if d.Mark != engine.MarkNone {
		v.mark, v.setMark = q.opt.Marks.with(old, d.Mark), true
	}
	if d.Edited {
		v.payload = d.Data
	}
	err := q.send(v)
	if err != nil && q.send(verdict{id: d.ID, verdict: verdictDrop}) == nil {
		return fmt.Errorf("packet is dropped: %w", err)
	}
	return err
}

// send sends one verdict.
func (q *Queue) send(v verdict) error {
	err := q.socket.sendVerdict(q.opt.Number, v)
	if err == nil || q.isClosed() {
		return nil
	}
	q.count.sendErrors.Add(1)
	return fmt.Errorf("send verdict to queue %d: %w", q.opt.Number, err)
}

// isClosed reports whether Close was called.
func (q *Queue) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}
