package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// TestRate: match N+1 within a second ends the session. A second does not hold
// its own end, so that N a second, evenly spaced, may go on for ever.
func TestRate(t *testing.T) {
	ms := func(times ...int) (out []time.Duration) {
		for _, n := range times {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	tests := []struct {
		name  string
		rate  uint64
		times []time.Duration
		ended int // index of the match that is one too many, -1 if none is
	}{
		{"just under", 3, ms(0, 1), -1},
		{"at", 3, ms(0, 1, 2), -1},
		{"just over", 3, ms(0, 1, 2, 3), 3},
		{"all at once", 3, ms(5, 5, 5, 5), 3},
		{"the first is a second ago", 3, ms(0, 1, 2, 1000), -1},
		{"the first is just within the second", 3, ms(0, 1, 2, 999), 3},
		{"two bursts across the border of a second of the clock", 3, ms(990, 995, 1005, 1010), 3},
		{"two bursts that are a second apart", 3, ms(0, 0, 0, 1000, 1000, 1000), -1},
		{"the second burst is one too many", 3, ms(0, 0, 0, 1000, 1000, 1000, 1999), 6},
		{"the window slides with each match", 3, ms(0, 400, 800, 1000, 1400, 1799), 5},
		{"and lets pass what is just behind it", 3, ms(0, 400, 800, 1000, 1400, 1800), -1},
		{"one a second", 1, ms(0, 1000, 2000, 2999), 3},
		{"a rest does not save up matches", 2, ms(0, 9000, 9001, 9002), 3},
	}
	for _, tt := range tests {
		var s session
		ended := -1
		for i, at := range tt.times {
			if s.exceeds(7, tt.rate, at) {
				ended = i
				break
			}
		}
		if ended != tt.ended {
			t.Errorf("%s: ended with match %d, want %d", tt.name, ended, tt.ended)
		}
	}
}

// TestRateBruteForce compares the ring with the definition, on times that a
// simple generator gives.
func TestRateBruteForce(t *testing.T) {
	seed := uint64(1)
	for round := range 200 {
		rate := uint64(round%17 + 1)
		var s session
		var all []time.Duration
		now := time.Duration(0)
		for range 300 {
			seed = seed*6364136223846793005 + 1442695040888963407
			now += time.Duration(seed>>33) % (2 * time.Second / time.Duration(rate))
			lately := 1
			for _, earlier := range slices.Backward(all) {
				if now-earlier >= time.Second {
					break
				}
				lately++
			}
			if got, want := s.exceeds(0, rate, now), lately > int(rate); got != want {
				t.Fatalf("rate %d: %d matches within the second before %v, exceeds is %v", rate, lately, now, got)
			} else if want {
				break
			}
			all = append(all, now)
		}
	}
}

// TestRateMemory: a session keeps nothing before a line matches, at most its
// rate per line, and lines do not count for each other.
func TestRateMemory(t *testing.T) {
	var s session
	if s.extra != nil {
		t.Error("memory without a match")
	}
	for i := range 5 {
		for line := range 2 {
			if s.exceeds(line, 5, 0) {
				t.Errorf("match %d of line %d ended the session", i+1, line)
			}
		}
	}
	for i := range 5000 {
		s.exceeds(9, 1<<40, time.Duration(i))
	}
	if n := len(s.extra.windows[2].times); n != policy.MaxRate {
		t.Errorf("%d times kept, want %d", n, policy.MaxRate)
	}
	if n := testing.AllocsPerRun(100, func() { s.exceeds(0, 5, time.Hour) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRateLimit: the engine's clock is that of the packets, each session counts
// for itself, and a session that ends keeps nothing.
func TestRateLimit(t *testing.T) {
	for _, tt := range []struct {
		name string
		wait time.Duration // before the third NOOP; a packet comes each millisecond
		ends bool
	}{
		{"within the second", 995 * time.Millisecond, true},   // the first came at 5 ms, the third at 1004
		{"a second and later", 996 * time.Millisecond, false}, // at 1005
	} {
		e := New(Options{Map: criteriaMap(t, "cmd verb NOOP", "rate-limit 2")})
		w := connectOn(t, e)
		w.talk("S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP\nS: 250 ok")
		w.now += tt.wait
		w.talk("C: NOOP")
		if got := len(w.drops) == 1; got != tt.ends {
			t.Errorf("%s: ended is %v, want %v", tt.name, got, tt.ends)
		}
		want := "NOOP\nNOOP\n"
		if !tt.ends {
			want += "NOOP\n"
		}
		w.want(client, want)
		if n := e.Counters().Matches[0]; n != 3 {
			t.Errorf("%s: counted %d, want 3", tt.name, n)
		}
		for _, ev := range w.events {
			if ev.Kind == EventMatch && (ev.Limit != 2 || ev.Value != 3 || ev.Do != dropAndLog) {
				t.Errorf("%s: event %+v", tt.name, ev)
			}
		}
		other := connectOn(t, e)
		other.talk("S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP\nS: 250 ok")
		other.want(client, "NOOP\nNOOP\n")
	}
}
