// Package syslog delivers audit records to a target: the box's syslog daemon,
// standard error or a file.
//
// It may be imported from level 5 up. It must never block or slow down whoever
// hands it a record: a record that cannot wait is lost and counted. It knows
// nothing of packets; what a record says is pkg/audit's.
//
// # The way of a record
//
//	Log.Write -> queue -> repeats left out -> backlog -> logrus logger -> hook -> target
//
// One goroutine does all of it behind the queue. A target that fails is closed
// and opened again after a pause that doubles from one second to thirty; until
// then records wait in the backlog.
//
// Records that repeat each other (audit.Key: same message, rule and client) pass
// ten times in ten seconds; of the others the last one is written when the ten
// seconds are over, with the number of those left out before it. Records about
// a connection itself (built, teardown, TLS) are never left out.
//
// # Framing
//
// Files and standard error get audit.Record's line. The syslog daemon gets the
// form that the C library's syslog writes to /dev/log (RFC 3164 without a host
// name), whose header every daemon reads:
//
//	<164>Nov 23 13:03:01 smtpwall[812]: %SMTPWALL-4-108004: text
//
// Records go through a logrus.Logger; the stock syslog hook would put a header of
// its own before ours and knows no facility per record.
package syslog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// Bounds. A peer can make records as fast as it sends lines, so everything
// between it and the disk has one.
const (
	// queueLength is how many records may wait while one is being written: a
	// second's worth on a busy box. Overflow: the new record is lost, counted.
	queueLength = 4096
	// backlogLength is how many wait while the target is away, at most a few
	// megabytes. Overflow: the new record is lost, counted.
	backlogLength = 4096
	// writeTimeout is how long a syslog daemon may take for one record.
	writeTimeout = time.Second
	// closeTimeout is how long Close waits for what is still queued.
	closeTimeout = 2 * time.Second
	// minPause and maxPause bound the wait before a failed target is tried again.
	minPause, maxPause = time.Second, 30 * time.Second
)

// Options is what a Log needs besides its target. The zero value is ready.
type Options struct {
	Tag string // of the syslog header; "smtpwall" if empty
	PID int    // of the syslog header; this process if 0
	// Dial connects to the syslog daemon; /dev/log if nil.
	Dial func() (io.WriteCloser, error)
	// Stderr is where the target stderr writes; os.Stderr if nil.
	Stderr io.Writer
	// Report is told once when the target fails, with the reason, and once when
	// it works again, with nil. It is called by the Log's goroutine.
	Report func(error)
}

// Stats are what a Log has done since it was opened.
type Stats struct {
	Written    uint64 // records given to the target
	Suppressed uint64 // repeats left out
	Lost       uint64 // records that found the queue or the backlog full
	Failures   uint64 // attempts to open the target or to write that failed
}

// Log delivers records to one target. Its methods may be called from any
// goroutine.
type Log struct {
	in     chan audit.Record
	reopen chan struct{}
	quit   chan struct{}
	done   chan struct{}
	once   sync.Once
	left   int // records that finish could not deliver; set before done is closed

	written, suppressed, lost, failures atomic.Uint64
}

// Open starts delivery to target: "syslog", "stderr" or "file:PATH". A file
// that cannot be opened is an error; a syslog daemon that is not there yet is
// only reported, because it may start after us.
func Open(target string, opt Options) (*Log, error) {
	if opt.PID == 0 {
		opt.PID = os.Getpid()
	}
	if opt.Tag == "" {
		opt.Tag = "smtpwall"
	}
	t, err := parseTarget(target, opt)
	if err != nil {
		return nil, err
	}
	l := &Log{
		in:     make(chan audit.Record, queueLength),
		reopen: make(chan struct{}, 1),
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	w := newWriter(l, t, opt)
	if t.mustOpen {
		if w.out, err = t.open(); err != nil {
			return nil, fmt.Errorf("open audit target %q: %w; create its directory and let this user write there", target, err)
		}
	}
	go w.run()
	return l, nil
}

// target is a parsed --audit value.
type target struct {
	name     string // for messages
	open     func() (io.WriteCloser, error)
	frame    frame
	mustOpen bool // failing at the start is the operator's mistake
}

// parseTarget reads a target's name.
func parseTarget(s string, opt Options) (target, error) {
	path, isFile := strings.CutPrefix(s, "file:")
	switch {
	case s == "syslog":
		t := target{name: s, open: opt.Dial, frame: localFrame(opt.Tag, opt.PID)}
		if t.open == nil {
			t.open = func() (io.WriteCloser, error) { return dial(devLog) }
		}
		return t, nil
	case s == "stderr":
		out := opt.Stderr
		if out == nil {
			out = os.Stderr
		}
		return target{name: s, open: func() (io.WriteCloser, error) { return keepOpen{out}, nil }, frame: lineFrame}, nil
	case isFile && path != "":
		return target{name: path, open: func() (io.WriteCloser, error) { return openFile(path) }, frame: lineFrame, mustOpen: true}, nil
	}
	return target{}, fmt.Errorf("unknown audit target %q: this version knows syslog, stderr and file:PATH", s)
}

// Write hands over a record. It never blocks: if the queue is full the record
// is lost and counted.
func (l *Log) Write(r audit.Record) {
	select {
	case l.in <- r:
	default:
		l.lost.Add(1)
	}
}

// Reopen makes the Log open its target again before the next record, as after
// logrotate moved the file away. It does not wait for it.
func (l *Log) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default: // one is already asked for
	}
}

// Stats returns what was done so far.
func (l *Log) Stats() Stats {
	return Stats{
		Written:    l.written.Load(),
		Suppressed: l.suppressed.Load(),
		Lost:       l.lost.Load(),
		Failures:   l.failures.Load(),
	}
}

// errSlow is Close's error if the target takes too long.
var errSlow = errors.New("close audit target: it did not take the last records in time")

// Close delivers what is queued, closes the target and ends the goroutine. It
// waits two seconds at most. Records written after Close are lost.
func (l *Log) Close() error {
	l.once.Do(func() { close(l.quit) })
	select {
	case <-l.done:
	case <-time.After(closeTimeout):
		return errSlow
	}
	if l.left > 0 {
		return fmt.Errorf("close audit target: %d records could not be delivered", l.left)
	}
	return nil
}
