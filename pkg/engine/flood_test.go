package engine

import (
	"flag"
	"runtime"
	"testing"
	"time"
)

// floodSYNs is how many half-open connections TestFlood begins.
var floodSYNs = flag.Int("flood", 200000, "half-open connections that TestFlood begins")

const (
	floodEstablished = 64    // sessions that are open before: clients 0 and on; the flood's follow
	floodLook        = 10000 // SYNs between two looks
)

// TestFlood begins half-open connections from ever new addresses, every third of
// them answered. The table stays within its bound and gives its memory back, and
// the sessions that were open go on and are inspected.
func TestFlood(t *testing.T) {
	for _, c := range []struct {
		name  string
		flows int
		every time.Duration // between two SYNs
	}{
		{"small table", 4096, time.Microsecond},
		{"small table, time-outs during the flood", 4096, time.Millisecond},
		{"default table", DefaultLimits.Flows, time.Microsecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flood{crowd: newCrowd(t, New(Options{Limits: Limits{Flows: c.flows}}))}
			f.start = measure(t)
			f.establish()
			for i := range *floodSYNs {
				if i%floodLook == 0 {
					f.look(c.flows)
				}
				f.halfOpen(floodEstablished+i, c.every)
			}
			f.look(c.flows)
			if min(*floodSYNs, c.flows) == c.flows && f.most != uint64(c.flows) {
				t.Errorf("up to %d flows were in the table: the flood of %d did not fill its %d places", f.most, *floodSYNs, c.flows)
			}
			peak := measure(t)
			f.over()
			f.account(c.flows, peak, measure(t))
			runtime.KeepAlive(f.e)
		})
	}
}

// flood is a flood of half-open connections.
type flood struct {
	*crowd
	start memory
	said  int    // commands of each established session so far
	most  uint64 // flows that were in the table at a time
}

// establish opens the sessions that must survive.
func (f *flood) establish() {
	for i := range floodEstablished {
		f.open(i)
	}
}

// open has client number n connect and be greeted.
func (f *flood) open(n int) {
	f.t.Helper()
	f.pass(n, crowdSYN, "")
	f.pass(n, crowdSYNACK, "")
	f.pass(n, crowdStep{dir: server, text: crowdGreeting}, f.masked(crowdGreeting))
}

// halfOpen has client number n send a SYN, which may be refused, and every third one be
// answered.
func (f *flood) halfOpen(n int, after time.Duration) {
	f.now += after
	if f.send(n, crowdSYN).Verdict == Accept && n%3 == 0 {
		f.pass(n, crowdSYNACK, "")
	}
}

// look lets every established session say something forbidden, and compares the
// table with its bound.
func (f *flood) look(flows int) {
	f.t.Helper()
	f.tick(0)
	for i := range floodEstablished {
		f.talk(i, f.said)
	}
	f.said++
	f.most = max(f.most, f.e.Counters().Flows)
	if f.most > uint64(flows) {
		f.t.Fatalf("%d flows in a table of %d", f.most, flows)
	}
}

// talk has client number who, which has said n commands, say one that may not
// pass.
func (f *flood) talk(who, n int) {
	f.t.Helper()
	const command, reply = "XFOO\r\n", "500 what?\r\n"
	c := crowdStep{dir: client, at: n * len(command), ack: len(crowdGreeting) + n*len(reply), text: command}
	s := crowdStep{dir: server, at: c.ack, ack: (n + 1) * len(command), text: reply}
	f.pass(who, c, "XXXX\r\n")
	f.pass(who, s, reply)
}

// over lets the half-open connections time out, and others come.
func (f *flood) over() {
	f.t.Helper()
	f.tick(6 * time.Minute) // timeouts[flow.Greeting]
	if got := f.e.Counters().Flows; got != floodEstablished {
		f.t.Errorf("%d flows are left of the flood, want the %d sessions", got, floodEstablished)
	}
	for i := range floodEstablished {
		f.talk(i, f.said)
	}
	for i := range 10 {
		next := floodEstablished + *floodSYNs + i
		f.open(next)
		f.talk(next, 0)
	}
}

// account compares the memory with what the table may take: a half-open
// connection is no more than an idle one.
func (f *flood) account(flows int, peak, after memory) {
	const own = 4 << 20 // of tcpassembly, events and buckets
	f.t.Logf("%d half-open connections, at most %d in the table:\n%-12s %12s %12s\n%-12s %12d %12d\n%-12s %12d %12d\n%-12s %12d %12d",
		*floodSYNs, flows, "octets of", "heap", "resident", "before", f.start.heap, f.start.resident,
		"at its end", peak.heap, peak.resident, "afterwards", after.heap, after.resident)
	if grown := peak.heap - f.start.heap; grown > int64(flows)*maxIdle+own {
		f.t.Errorf("the flood takes %d octets, want at most %d", grown, flows*maxIdle+own)
	}
	if kept := after.heap - f.start.heap; kept > own {
		f.t.Errorf("%d octets are left of the flood, want at most %d", kept, own)
	}
}

// A flood that has filled the table shuts nobody out whose greeting comes before
// the flood has filled it once more; one that is slower is.
func TestFloodLeavesRoom(t *testing.T) {
	const flows, full = 100, 36 // of which floodEstablished are sessions
	for _, c := range []struct {
		name string
		syns int // of the flood, between the SYN-ACK and the greeting
		mark Mark
	}{
		{"a fast server", full - 1, MarkNone},
		{"a server slower than the flood", full, MarkReset},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flood{crowd: newCrowd(t, New(Options{Limits: Limits{Flows: flows}}))}
			f.establish()
			next := floodEstablished
			for range 10 * flows {
				f.halfOpen(next, time.Microsecond)
				next++
			}
			who := next
			f.pass(who, crowdSYN, "")
			f.pass(who, crowdSYNACK, "")
			for i := range c.syns {
				f.halfOpen(who+1+i, time.Microsecond)
			}
			d := f.send(who, crowdStep{dir: server, text: crowdGreeting})
			if d.Verdict != Accept || d.Mark != c.mark {
				t.Errorf("the greeting: verdict %d, mark %d; want it accepted with mark %d", d.Verdict, d.Mark, c.mark)
			}
			f.look(flows)
		})
	}
}
