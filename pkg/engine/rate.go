package engine

import (
	"time"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// window is when a match line with a rate-limit matched last in a session: as
// many times as may lie within a second.
type window struct {
	line  int             // index of the match line
	times []time.Duration // grows to the line's rate, at most policy.MaxRate; from then on a ring
	next  int             // index of the oldest, in the ring
}

// exceeds notes that a match line of the rate given matched at now, and reports
// whether that is one more than rate within a second. A second does not hold its
// own end: a steady rate of exactly that many a second passes.
func (s *session) exceeds(line int, rate uint64, now time.Duration) bool {
	w := s.window(line)
	if uint64(len(w.times)) < min(rate, policy.MaxRate) {
		w.times = append(w.times, now)
		return false
	}
	if len(w.times) == 0 || now-w.times[w.next] < time.Second {
		return true
	}
	w.times[w.next] = now
	w.next = (w.next + 1) % len(w.times)
	return false
}

// window returns the window of a match line, empty if it matches for the first
// time. A session has few: one for each line with a rate-limit that matched.
func (s *session) window(line int) *window {
	x := s.more()
	for i := range x.windows {
		if x.windows[i].line == line {
			return &x.windows[i]
		}
	}
	x.windows = append(x.windows, window{line: line})
	return &x.windows[len(x.windows)-1]
}
