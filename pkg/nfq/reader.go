package nfq

import (
	"errors"
	"fmt"
	"syscall"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/mdlayher/netlink"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/nlmsg"
)

// reader is the Queue as its reading goroutine sees it. That goroutine is
// go-nfqueue's, which binds the queue and waits for the first packet; from then
// on it reads here.
type reader struct{ *Queue }

// first is called by go-nfqueue with the first packet that it has parsed. It
// returns when the queue is closed or broken.
func (r reader) first(a nfqueue.Attribute) int {
	select {
	case <-r.running:
	case <-r.closed:
		return 1
	}
	p := packet{id: value(a.PacketID), hasID: a.PacketID != nil, mark: value(a.Mark), in: value(a.InDev), out: value(a.OutDev), capLen: value(a.CapLen)}
	if a.Payload != nil {
		p.payload = *a.Payload
	}
	if a.SkbInfo != nil {
		p.info = word(*a.SkbInfo)
	}
	r.packet(&p)
	r.loop()
	return 1
}

// value is an attribute's value, 0 if it is absent.
func value(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}

// firstFailed is called by go-nfqueue with an error before the first packet. Not
// zero ends its reader.
func (r reader) firstFailed(err error) int {
	if r.isClosed() {
		return 1
	}
	var refused syscall.Errno
	var op *netlink.OpError
	if errors.As(err, &op) {
		// A bare number is the kernel's answer to a verdict; an error of the
		// socket itself comes wrapped in os.SyscallError.
		refused, _ = op.Err.(syscall.Errno)
	}
	if refused != 0 {
		r.count.refuse(refused)
		return 0
	}
	if r.failure(err) {
		return 1
	}
	return 0
}

// Errorf is go-nfqueue's log: the one thing that it says about a packet that it
// could not parse, which would wait for ever.
func (r reader) Errorf(string, ...any) { r.gap.suspect = true }

// Debugf is go-nfqueue's log; nothing in it concerns us.
func (reader) Debugf(string, ...any) {}

// loop reads packets until the queue is closed or broken.
func (r reader) loop() {
	for {
		b, err := r.socket.read()
		if errors.Is(err, errClosed) || r.isClosed() {
			return
		}
		if err != nil {
			if r.failure(err) {
				return
			}
			continue
		}
		r.datagram(b)
	}
}

// datagram takes the messages of one datagram.
func (r reader) datagram(b []byte) {
	r.failures = 0
	for len(b) > 0 {
		m, rest, ok := nlmsg.Next(b)
		if !ok {
			r.gap.suspect = true // it may have been a packet
			return
		}
		switch m.Type {
		case typePacket:
			p := parsePacket(m.Attrs())
			p.payload = append([]byte(nil), p.payload...) // the engine owns it
			r.packet(&p)
		case nlmsg.Error:
			if e, _ := m.Errno(); e != 0 {
				r.count.refuse(syscall.Errno(e))
			}
		}
		b = rest
	}
}

// packet gives a packet to the callback, or decides on one that cannot be read.
func (r reader) packet(p *packet) {
	if !p.hasID {
		r.gap.suspect = true
		return
	}
	r.settle(p.id)
	switch {
	case len(p.payload) == 0:
		r.giveUp(p.id)
	case p.truncated():
		// Edited or not, its verdict could only be about a part of it.
		r.count.truncated.Add(1)
		r.send(verdict{id: p.id, verdict: verdictDrop})
	default:
		r.count.packets.Add(1)
		r.marks.put(p.id, p.mark)
		r.handle(engine.Packet{ID: p.id, In: p.in, Out: p.out, Checksum: p.checksum(), Merged: p.merged(), Data: p.payload})
	}
}

// settle gives a verdict to packets before id that could not be read.
func (r reader) settle(id uint32) {
	missing, waiting := r.gap.next(id, r.opt.MaxLen)
	r.count.lost.Add(uint64(missing - waiting))
	for n := waiting; n > 0; n-- {
		r.giveUp(id - n)
	}
}

// giveUp decides on a packet that cannot be inspected.
func (r reader) giveUp(id uint32) {
	r.count.unreadable.Add(1)
	v := verdict{id: id, verdict: verdictDrop}
	if r.opt.FailOpen {
		v.verdict = verdictAccept
	}
	r.send(v)
}

// failure takes a receive error and reports whether it ends the reader.
func (r reader) failure(err error) (end bool) {
	r.count.receiveErrors.Add(1)
	r.gap.suspect = true // it may have been a packet
	if r.failures++; r.failures < maxFailures && !errors.Is(err, syscall.EBADF) {
		return false
	}
	r.failed <- fmt.Errorf("%w: %w", errStopped, err)
	return true
}
