package engine

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// ConnInfo is a connection for the operator. Arrays are by the direction that
// sent: flow.Original is the client's.
type ConnInfo struct {
	Conn
	Started time.Duration // when its SYN came
	Heard   time.Duration // when its last packet came; the client's bare ACKs, and what the kernel forwards of an offloaded one, are not seen
	Bytes   uint64        // payload octets forwarded, both directions; of an offloaded one up to then

	Answered  bool    // the SYN-ACK passed
	Up        bool    // octets or a FIN passed
	Data      [2]bool // octets of the dialogue passed
	FIN       [2]bool // the FIN passed
	FINAcked  [2]bool // and its receiver has acknowledged it, as far as is seen
	Offloaded bool    // it passes unjudged: encrypted, or --undecided open
}

// ended are the time-outs of connections that are over, but for packets that may
// still come: their teardown was told.
var ended = [...]flow.Timer{flow.Closing, flow.Draining, flow.Drained, flow.Tombstone}

// Open is the number of connections that Conns lists.
func (e *Engine) Open() int {
	n := e.table.Len()
	for _, class := range ended {
		n -= e.table.Waiting(class)
	}
	return n
}

// Conns lists connections: all that were built and not torn down. An offloaded
// one is listed until conntrack forgets it.
//
// It lists a slice of some listSlice of them and returns where the next begins, so
// that no packet waits for a long list. Begin at 0; 0 means that it was the last
// one. What comes or goes between two slices may be missing.
func (e *Engine) Conns(at uint64, yield func(*ConnInfo)) (next uint64) {
	var info ConnInfo
	for range listSlice {
		at = e.table.Walk(at, func(en *entry) {
			if over(en) {
				return
			}
			info.describe(en)
			yield(&info)
		})
		if at == 0 {
			break
		}
	}
	return at
}

// listSlice is how many buckets of the table a slice covers: a table holds up to
// one connection a bucket. It takes about a millisecond.
const listSlice = 1024

// over reports whether a connection has ended.
func over(en *entry) bool {
	for _, class := range ended {
		if en.Timer() == class {
			return true
		}
	}
	return false
}

// describe fills in c.
func (c *ConnInfo) describe(en *entry) {
	s := &en.Value
	*c = ConnInfo{
		Conn: connOf(en), Started: s.started, Heard: s.heard, Bytes: s.bytes,
		Answered: !s.tcb.Embryonic(), Up: s.tcb.Established(), Offloaded: s.phase == phaseBypass,
	}
	for dir := flow.Original; dir <= flow.Reply; dir++ {
		c.Data[dir] = s.dialogue.Offset(smtp.Side(dir)) > 0
		c.FIN[dir], c.FINAcked[dir] = s.tcb.Finished(dir)
		c.FIN[dir] = c.FIN[dir] || s.fins[dir]
	}
}
