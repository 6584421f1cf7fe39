package sim

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// Violation is an invariant that a schedule has broken.
type Violation struct {
	Seed      uint64
	Invariant string
	Class     string
	Policy    string
	Time      time.Duration // packet time
	Context   string
	Forged    []string // the last forgeries that the engine had accepted before
}

// String is the violation in words.
func (v *Violation) String() string {
	text := fmt.Sprintf("seed %d: %q violated at %v (%s, policy %q)\n%s", v.Seed, v.Invariant, v.Time, v.Class, v.Policy, v.Context)
	if len(v.Forged) > 0 {
		text += "\nforgeries that passed before: " + strings.Join(v.Forged, "; ")
	}
	return text
}

// fail notes the first violation of a schedule.
func (w *world) fail(invariant, format string, args ...any) {
	if w.fault == nil {
		w.fault = &Violation{w.seed, invariant, classNames[w.plan.class], rulebooks[w.plan.policy].name, w.now, fmt.Sprintf(format, args...),
			slices.Clone(w.taken[max(0, len(w.taken)-5):])}
	}
}

// failAt is fail about a packet.
func (w *world) failAt(p *packet, invariant, format string, args ...any) {
	if w.fault != nil {
		return
	}
	c := p.c
	w.fail(invariant, "packet %d of conn %d, direction %d, given at %v: flags %#x, seq %d (position %d), ack %d (position %d), in %d, forged %v %s, merged %v, %d octets %.120q\n%s",
		p.id, c.index, p.dir, p.given, p.flags(), p.seq(), c.position(p.dir, p.seq()), p.ack(), c.position(p.dir.Other(), p.acked()),
		p.in, p.forged, p.trick, p.merged, len(p.payload()), p.payload(), fmt.Sprintf(format, args...))
}

// Stats is what the schedules of a run have met: a simulator that meets nothing
// shows nothing.
type Stats struct {
	Packets, Lost, Late, Cut, Merged, Forged uint64
	KernelACKs                               uint64 // the client's pure ACKs that the kernel accepted
	Held, Early, Conflicts, Edited           uint64 // the engine's counters
	Resets, RSTs                             uint64 // MarkReset; packets made into RSTs
	Ended, Offloaded                         uint64
	Proxied                                  uint64 // connections behind a synproxy
	Replayed                                 uint64 // connections that were judged again
	Classes                                  [numClasses]uint64
	Drops                                    [engine.NumReasons]uint64
}

// count adds the engine's counters at the end of a schedule.
func (w *world) count() {
	c, s := w.eng.Counters(), w.stats
	s.Held += c.Held
	s.Early += c.Early
	s.Conflicts += c.Conflicts
	s.Edited += c.Edited
	s.Ended += c.EndedByDrop + c.EndedByRST
	s.Offloaded += c.Offloaded
}

// add adds the stats of another worker.
func (s *Stats) add(t *Stats) {
	for _, f := range [][2]*uint64{
		{&s.Packets, &t.Packets}, {&s.Lost, &t.Lost}, {&s.Late, &t.Late}, {&s.Cut, &t.Cut}, {&s.Merged, &t.Merged}, {&s.Forged, &t.Forged},
		{&s.KernelACKs, &t.KernelACKs}, {&s.Held, &t.Held}, {&s.Early, &t.Early}, {&s.Conflicts, &t.Conflicts}, {&s.Edited, &t.Edited},
		{&s.Resets, &t.Resets}, {&s.RSTs, &t.RSTs}, {&s.Ended, &t.Ended}, {&s.Offloaded, &t.Offloaded}, {&s.Replayed, &t.Replayed},
		{&s.Proxied, &t.Proxied},
	} {
		*f[0] += *f[1]
	}
	for i := range t.Classes {
		s.Classes[i] += t.Classes[i]
	}
	for i := range t.Drops {
		s.Drops[i] += t.Drops[i]
	}
}

// Write says what was met.
func (s *Stats) Write(out io.Writer) {
	for i, n := range s.Classes {
		fmt.Fprintf(out, "%s: %d schedules\n", classNames[i], n)
	}
	fmt.Fprintf(out, "packets %d, lost %d, late %d, cut %d, merged %d, forged %d, kernel-accepted ACKs %d\n", s.Packets, s.Lost, s.Late, s.Cut, s.Merged, s.Forged, s.KernelACKs)
	fmt.Fprintf(out, "held %d, early %d, conflicts %d, edited %d, sessions ended %d, offloaded %d, reset marks %d, RSTs made %d\n",
		s.Held, s.Early, s.Conflicts, s.Edited, s.Ended, s.Offloaded, s.Resets, s.RSTs)
	fmt.Fprintf(out, "connections behind a synproxy %d, judged again %d\ndropped:", s.Proxied, s.Replayed)
	for r, n := range s.Drops {
		if n > 0 {
			fmt.Fprintf(out, " %v %d", engine.Reason(r), n)
		}
	}
	fmt.Fprintln(out)
}

// tracePacket tells a packet that the engine is given.
func (w *world) tracePacket(p *packet) {
	if w.trace == nil {
		return
	}
	c, note := p.c, ""
	for _, n := range []struct {
		of   bool
		name string
	}{{p.forged, " forged: " + p.trick + ","}, {p.broken, " broken"}, {p.merged, " merged"}} {
		if n.of {
			note += n.name
		}
	}
	fmt.Fprintf(w.trace, "%12v  %4d  conn %d %c  in %d  %-6s seq %d ack %d wnd %d%s  %.200q\n", w.now, p.id, c.index, "CS"[p.dir], p.in, flagNames(p.flags()),
		c.position(p.dir, p.seq()), c.position(p.dir.Other(), p.acked()), p.window(), note, p.payload())
}

// traceDecision tells what became of it.
func (w *world) traceDecision(p *packet, d *engine.Decision) {
	if w.trace == nil {
		return
	}
	what := "dropped: " + d.Reason.String()
	if d.Verdict == engine.Accept {
		what = fmt.Sprintf("accepted, mark %d", d.Mark)
		if d.Edited {
			what += fmt.Sprintf(", edited: %.200q", p.payload())
		}
	}
	fmt.Fprintf(w.trace, "%12v  %4d  conn %d %c  %s\n", w.now, p.id, p.c.index, "CS"[p.dir], what)
}

// flagNames are the letters of the flags that are set.
func flagNames(f flow.Flags) string {
	var b []byte
	for i, c := range []byte("FSRPAU") {
		if f&(1<<i) != 0 {
			b = append(b, c)
		}
	}
	return string(b)
}

// epoch is when packet time begins in captures.
var epoch = time.Date(2026, time.November, 23, 13, 0, 0, 0, time.UTC)

// Capture plays the schedule of a seed once more and writes the packets that the
// engine is given, as `smtpwall replay` reads them. Each packet and what became
// of it is told to trace, if there is one.
func Capture(seed uint64, out, trace io.Writer) (*Violation, error) {
	w, err := newWorld()
	if err != nil {
		return nil, err
	}
	w.trace = trace
	pcap := capture.NewWriter(out)
	frame := capture.Frame{Link: capture.Raw}
	w.record = func(p *packet) {
		if e := pcap.Write(epoch.Add(w.now), frame, p.data); e != nil && err == nil {
			err = e
		}
	}
	v := w.run(seed)
	if e := pcap.Finish(); err == nil {
		err = e
	}
	return v, err
}

// newWorld returns a world for any number of schedules.
func newWorld() (*world, error) {
	maps, err := parseRulebooks()
	if err != nil {
		return nil, err
	}
	return &world{maps: maps, stats: &Stats{}, judges: map[int]*judge{}}, nil
}
