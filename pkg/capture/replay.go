package capture

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// Inspector is what a capture is replayed through: an engine.Engine.
type Inspector interface {
	Process(*engine.Packet) []engine.Decision
	Tick(time.Duration) []engine.Decision
}

// tickEvery is how often the live adapter ticks (design.md section 6).
const tickEvery = 100 * time.Millisecond

// maxTicks bounds the ticks in a gap between packets: a minute of them, in which
// all time-outs short enough for their time to matter run out. A longer gap ends
// with one more tick.
const maxTicks = 600

// lastTick is how long after the last packet the engine is ticked once more:
// far beyond every timeout, so that no packet still waits.
const lastTick = time.Hour

// Tally says what became of a capture's frames.
type Tally struct {
	Frames    uint64 `json:"frames"`     // read from the file
	Packets   uint64 `json:"packets"`    // given to the engine
	OtherPort uint64 `json:"other_port"` // skipped: TCP, but to and from no inspected port
	NotTCP    uint64 `json:"not_tcp"`    // skipped: anything else, fragments included
	Truncated uint64 `json:"truncated"`  // skipped: cut by the capture's snapshot length
	Clamped   uint64 `json:"clamped"`    // read with a time before the frame before
}

// Add adds another capture's numbers.
func (t *Tally) Add(o Tally) {
	t.Frames += o.Frames
	t.Packets += o.Packets
	t.OtherPort += o.OtherPort
	t.NotTCP += o.NotTCP
	t.Truncated += o.Truncated
	t.Clamped += o.Clamped
}

// Replay drives one engine over one capture, as the live queue would.
type Replay struct {
	Ports []uint16 // inspected; packets of others are not given to the engine
	// After is called after every call of the inspector, to take its events.
	After func()
	// Forward gets each packet that passed, as it was decided: the frame it came
	// in and its bytes now. nil: nobody asks. An error ends the forwarding and
	// is returned by Run.
	Forward func(t time.Time, from Frame, ip []byte) error

	inspector Inspector
	start     time.Time // of the first packet: Packet.Time zero
	now       time.Duration
	ticked    time.Duration
	waiting   map[uint32]Frame // packets without a decision, by ID
	id        uint32           // of the last packet: the frame's number in its file
	tally     Tally
	faults    []error
	forward   error // the first error of Forward
}

// NewReplay returns a Replay through a fresh inspector.
func NewReplay(i Inspector) *Replay {
	return &Replay{After: func() {}, inspector: i, waiting: make(map[uint32]Frame)}
}

// Wall is the wall time of packet time d. Before the first packet it means
// nothing.
func (r *Replay) Wall(d time.Duration) time.Time { return r.start.Add(d) }

// Run replays the capture to its end, or to what is wrong with it. It then lets
// time pass until nothing can wait, and returns an error unless every packet had
// exactly one decision.
func (r *Replay) Run(in *Reader) (Tally, error) {
	var broken error
	for {
		f, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			broken = err
			break
		}
		r.frame(f)
	}
	r.passUntil(r.now + lastTick)
	r.tally.Clamped = in.Clamped()
	return r.tally, errors.Join(broken, r.forward, r.fault())
}

// frame gives one frame to the engine, if it is one to inspect.
func (r *Replay) frame(f Frame) {
	r.tally.Frames++
	r.id++
	tcp, ok := ParseTCP(f.IP)
	switch {
	case f.Truncated:
		r.tally.Truncated++
		return
	case !ok:
		r.tally.NotTCP++
		return
	}
	p := engine.Packet{ID: r.id, Data: f.IP}
	p.In, p.Out = r.interfaces(tcp)
	if p.In == notInspected {
		r.tally.OtherPort++
		return
	}
	if r.tally.Packets == 0 {
		r.start = f.Time
	}
	r.tally.Packets++
	p.Time = f.Time.Sub(r.start)
	r.passUntil(p.Time)
	r.waiting[p.ID] = f
	r.decide(r.inspector.Process(&p))
	r.After()
}

// notInspected is no interface.
const notInspected = ^uint32(0)

// interfaces makes up what a capture does not tell: servers are inside, clients
// outside. Between two inspected ports nobody knows, and both are 0.
func (r *Replay) interfaces(t TCP) (in, out uint32) {
	to, from := slices.Contains(r.Ports, t.Dst.Port()), slices.Contains(r.Ports, t.Src.Port())
	switch {
	case to && from:
		return 0, 0
	case to:
		return OutsideIndex, InsideIndex
	case from:
		return InsideIndex, OutsideIndex
	}
	return notInspected, notInspected
}

// passUntil lets time pass: the engine decides what becomes due.
func (r *Replay) passUntil(t time.Duration) {
	for range maxTicks {
		if t-r.ticked < tickEvery {
			break
		}
		r.tick(r.ticked + tickEvery)
	}
	if t-r.ticked >= tickEvery {
		r.tick(t)
	}
	r.now = t
}

// tick ticks the engine.
func (r *Replay) tick(t time.Duration) {
	r.now, r.ticked = t, t
	r.decide(r.inspector.Tick(t))
	r.After()
}

// decide takes decisions and passes on what was accepted.
func (r *Replay) decide(decisions []engine.Decision) {
	for _, d := range decisions {
		f, ok := r.waiting[d.ID]
		if !ok {
			r.faults = append(r.faults, fmt.Errorf("a decision on frame %d, which waits for none", d.ID))
			continue
		}
		delete(r.waiting, d.ID)
		if len(d.Data) != len(f.IP) {
			r.faults = append(r.faults, fmt.Errorf("frame %d came with %d bytes and was decided with %d", d.ID, len(f.IP), len(d.Data)))
			continue
		}
		// A packet with the reset mark is answered by the ruleset, not sent on.
		if d.Verdict == engine.Accept && d.Mark&engine.MarkReset == 0 && r.Forward != nil && r.forward == nil {
			r.forward = r.Forward(r.Wall(r.now), f, d.Data)
		}
	}
}

// fault is the engine's breach of its contract: every packet exactly one
// decision, of the length it came with.
func (r *Replay) fault() error {
	if n := len(r.waiting); n > 0 {
		first := ^uint32(0)
		for id := range r.waiting {
			first = min(first, id)
		}
		r.faults = append(r.faults, fmt.Errorf("%d packets without a decision, the first is frame %d", n, first))
	}
	if len(r.faults) == 0 {
		return nil
	}
	return fmt.Errorf("engine fault, please report it with the capture: %w (%d faults in all)", r.faults[0], len(r.faults))
}
