package syslog

import (
	"slices"
	"time"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// Bounds of the limiter.
const (
	// window is the time over which repeats are counted.
	window = 10 * time.Second
	// burst is how many records of one key pass in a window.
	burst = 10
	// maxKeys bounds the table; a peer makes keys by using many addresses.
	// Overflow: new keys are counted together, by message number.
	maxKeys = 4096
)

// limiter leaves out records that repeat each other.
type limiter struct {
	keys map[audit.Key]*repeats
}

// repeats is what one key had in its window.
type repeats struct {
	since      time.Time
	passed     int
	suppressed uint64
	last       audit.Record // the last one suppressed
}

// admit reports whether r is to be written now. A record it refuses comes back
// from expired, or is counted by a later one that does.
func (l *limiter) admit(now time.Time, r audit.Record) bool {
	if r.Key.Conn != 0 {
		return true
	}
	seen := l.find(now, r.Key)
	if seen.passed < burst {
		seen.passed++
		return true
	}
	seen.suppressed++
	seen.last = r
	return false
}

// find returns the entry that counts records of key k.
func (l *limiter) find(now time.Time, k audit.Key) *repeats {
	if seen := l.keys[k]; seen != nil {
		return seen
	}
	if len(l.keys) >= maxKeys {
		k = audit.Key{ID: k.ID}
		if seen := l.keys[k]; seen != nil {
			return seen
		}
	}
	seen := &repeats{since: now}
	l.keys[k] = seen
	return seen
}

// expired forgets the keys whose window is over at now and returns the last
// suppressed record of each, saying how many were left out before it, oldest
// first.
func (l *limiter) expired(now time.Time) []audit.Record {
	var out []audit.Record
	for k, seen := range l.keys {
		if now.Sub(seen.since) < window {
			continue
		}
		delete(l.keys, k)
		switch seen.suppressed {
		case 0:
		case 1:
			out = append(out, seen.last)
		default:
			out = append(out, seen.last.Repeat(seen.suppressed-1))
		}
	}
	slices.SortStableFunc(out, func(a, b audit.Record) int { return a.Time.Compare(b.Time) })
	return out
}
