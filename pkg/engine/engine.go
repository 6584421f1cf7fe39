package engine

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// Engine inspects the packets of one queue.
type Engine struct {
	opt Options
}

// New returns an engine without connections.
func New(opt Options) *Engine { return &Engine{opt: opt} }

// Process decides on p and on every held packet that p sets free. The slice is
// valid until the next call.
func (e *Engine) Process(p *Packet) []Decision { return nil }

// Tick decides what only time decides. Call it every 100 ms of packet time.
func (e *Engine) Tick(now time.Duration) []Decision { return nil }

// Forget ends a connection that conntrack no longer knows.
func (e *Engine) Forget(now time.Duration, k flow.Tuple) []Decision { return nil }

// TakeEvents returns the events since the last call; the slice is valid until
// the next call of any method.
func (e *Engine) TakeEvents() []Event { return nil }

// TakeKills returns the connections whose conntrack entries are to be deleted;
// valid until the next call of any method.
func (e *Engine) TakeKills() []flow.Tuple { return nil }

// Counters returns a copy.
func (e *Engine) Counters() Counters { return Counters{} }
