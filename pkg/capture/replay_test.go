package capture

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// script is an Inspector that does what its functions say and writes down what
// it was asked, ticks in a row as one.
type script struct {
	asked   []string
	ticks   int
	process func(*engine.Packet) []engine.Decision
	tick    func(time.Duration) []engine.Decision
}

// Process notes and asks the script.
func (s *script) Process(p *engine.Packet) []engine.Decision {
	s.ticks = 0
	s.asked = append(s.asked, fmt.Sprintf("packet %d at %v, %d to %d", p.ID, p.Time, p.In, p.Out))
	return s.process(p)
}

// Tick notes and asks the script.
func (s *script) Tick(now time.Duration) []engine.Decision {
	if s.ticks++; s.ticks > 1 {
		s.asked = s.asked[:len(s.asked)-1]
	}
	s.asked = append(s.asked, fmt.Sprintf("%d ticks to %v", s.ticks, now))
	if s.tick == nil {
		return nil
	}
	return s.tick(now)
}

// accept accepts at once.
func accept(p *engine.Packet) []engine.Decision {
	return []engine.Decision{{ID: p.ID, Data: p.Data}}
}

// syn is a client's SYN between two ports.
func syn(from, to uint16) []byte {
	client, server := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("192.0.2.25")
	return NewSession(netip.AddrPortFrom(client, from), netip.AddrPortFrom(server, to)).SYN(smtp.Client)
}

// replay runs packets, each at its second, through s on ports 25 and 587.
func replay(t *testing.T, s *script, set func(*Replay), packets ...[]byte) (Tally, error) {
	t.Helper()
	var records [][]byte
	for i, p := range packets {
		records = append(records, rec(le, 1000+i, 0, p))
	}
	in, err := NewReader("t.pcap", bytes.NewReader(classic(le, 0xa1b2c3d4, int(Raw), records...)))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReplay(s)
	r.Ports = []uint16{25, 587}
	if set != nil {
		set(r)
	}
	return r.Run(in)
}

// TestReplaySelects: which frames reach the engine, by which interfaces, when,
// and that time passes between and after them.
func TestReplaySelects(t *testing.T) {
	udp := bytes.Clone(packet4)
	udp[9] = 17
	s := &script{process: accept}
	tally, err := replay(t, s, nil, udp, syn(41522, 25), syn(587, 41522), syn(25, 25), syn(41522, 80), packet4[:30], syn(41522, 25))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"packet 2 at 0s, 1 to 2", "10 ticks to 1s", "packet 3 at 1s, 2 to 1", "10 ticks to 2s", "packet 4 at 2s, 0 to 0",
		"30 ticks to 5s", "packet 7 at 5s, 1 to 2", "601 ticks to 1h0m5s",
	}
	if diff := cmp.Diff(want, s.asked); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Tally{Frames: 7, Packets: 4, OtherPort: 1, NotTCP: 1, Truncated: 1}, tally); diff != "" {
		t.Error(diff)
	}
}

// TestReplayForwards: accepted packets are forwarded as decided, at the time of
// the decision; dropped and rejected ones are not.
func TestReplayForwards(t *testing.T) {
	var held *engine.Packet
	s := &script{process: func(p *engine.Packet) []engine.Decision {
		d := engine.Decision{ID: p.ID, Data: p.Data}
		switch p.ID {
		case 1:
			held = p
			return nil
		case 2:
			d.Verdict = engine.Drop
		case 3:
			d.Mark = engine.MarkReset
		case 4:
			d.Data[8] = 63 // as the engine edits: in place
			return []engine.Decision{d, {ID: held.ID, Data: held.Data, Mark: engine.MarkOffload}}
		}
		return []engine.Decision{d}
	}}
	var got []string
	after := 0
	_, err := replay(t, s, func(r *Replay) {
		r.After = func() { after++ }
		r.Forward = func(at time.Time, from Frame, ip []byte) error {
			got = append(got, fmt.Sprintf("%d TTL %d, came %d", at.Unix(), ip[8], from.Time.Unix()))
			return nil
		}
	}, syn(1, 25), syn(2, 25), syn(3, 25), syn(4, 25))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1003 TTL 63, came 1003", "1003 TTL 64, came 1000"}, got); diff != "" {
		t.Error(diff)
	}
	if want := 4 + 3*10 + maxTicks + 1; after != want { // four packets, the ticks between and at the end
		t.Errorf("After was called %d times, want %d", after, want)
	}
}

// TestReplayFaults: an engine that breaks its contract is found out.
func TestReplayFaults(t *testing.T) {
	const prefix = "engine fault, please report it with the capture: "
	tests := []struct {
		name    string
		process func(*engine.Packet) []engine.Decision
		tick    func(time.Duration) []engine.Decision
		want    string // empty: no fault
	}{
		{"decided at once", accept, nil, ""},
		{"decided by the last tick", func(p *engine.Packet) []engine.Decision { return nil }, func(now time.Duration) []engine.Decision {
			if now < lastTick {
				return nil
			}
			return []engine.Decision{{ID: 1, Verdict: engine.Drop, Data: syn(1, 25)}, {ID: 2, Verdict: engine.Drop, Data: syn(1, 25)}}
		}, ""},
		{"never decided", func(p *engine.Packet) []engine.Decision { return nil }, nil, "2 packets without a decision, the first is frame 1 (1 faults in all)"},
		{"decided twice", func(p *engine.Packet) []engine.Decision { return append(accept(p), accept(p)...) }, nil,
			"a decision on frame 1, which waits for none (2 faults in all)"},
		{"never given", func(p *engine.Packet) []engine.Decision {
			return append(accept(p), engine.Decision{ID: 99})
		}, nil, "a decision on frame 99, which waits for none (2 faults in all)"},
		{"another length", func(p *engine.Packet) []engine.Decision {
			return []engine.Decision{{ID: p.ID, Data: p.Data[:43]}}
		}, nil, "frame 1 came with 44 bytes and was decided with 43 (2 faults in all)"},
	}
	for _, tt := range tests {
		_, err := replay(t, &script{process: tt.process, tick: tt.tick}, nil, syn(1, 25), syn(2, 25))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || err.Error() != prefix+tt.want):
			t.Errorf("%s:\n got %v\nwant %s%s", tt.name, err, prefix, tt.want)
		}
	}
}

// TestReplayErrors: what was read before a cut is decided all the same; the
// first error of Forward is the one that is told.
func TestReplayErrors(t *testing.T) {
	file := classic(le, 0xa1b2c3d4, int(Raw), rec(le, 1, 0, syn(1, 25)), rec(le, 2, 0, syn(2, 25)), []byte("cut"))
	in, err := NewReader("t.pcap", bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReplay(&script{process: accept})
	r.Ports = []uint16{25}
	calls := 0
	r.Forward = func(time.Time, Frame, []byte) error { calls++; return errors.New("disk full") }
	tally, err := r.Run(in)
	if tally.Packets != 2 || calls != 1 || err == nil || !strings.Contains(err.Error(), "offset 144: unexpected EOF") || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("%+v, %d calls, %v", tally, calls, err)
	}
}

// TestTallyAdd adds every field.
func TestTallyAdd(t *testing.T) {
	a := Tally{1, 2, 3, 4, 5, 6}
	a.Add(Tally{10, 20, 30, 40, 50, 60})
	if want := (Tally{11, 22, 33, 44, 55, 66}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
}
