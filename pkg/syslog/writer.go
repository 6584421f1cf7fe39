package syslog

import (
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// writer is the Log's goroutine: it alone touches the target.
type writer struct {
	log     *Log
	target  target
	report  func(error)
	limiter limiter
	backlog []audit.Record

	out    io.WriteCloser // nil while the target is closed
	logger *logrus.Logger
	hook   *hook

	retry  *time.Timer // nil unless a pause is running
	pause  time.Duration
	broken bool // Report was told of a failure
}

// newWriter builds the goroutine's state; run starts it.
func newWriter(l *Log, t target, opt Options) *writer {
	w := &writer{
		log: l, target: t, report: opt.Report,
		limiter: limiter{keys: make(map[audit.Key]*repeats)},
		hook:    &hook{}, pause: minPause,
	}
	if w.report == nil {
		w.report = func(error) {}
	}
	w.logger = newLogger(t.frame, w.hook)
	return w
}

// run serves the Log until Close.
func (w *writer) run() {
	defer close(w.log.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var retry <-chan time.Time
		if w.retry != nil {
			retry = w.retry.C
		}
		select {
		case r := <-w.log.in:
			w.take(r)
		case now := <-tick.C:
			w.expire(now)
		case <-retry:
			w.retry = nil
		case <-w.log.reopen:
			w.closeTarget()
			w.retry = nil
		case <-w.log.quit:
			w.finish()
			return
		}
		w.flush()
	}
}

// take puts a record into the backlog unless it repeats others.
func (w *writer) take(r audit.Record) {
	if !w.limiter.admit(time.Now(), r) {
		w.log.suppressed.Add(1)
		return
	}
	w.append(r)
}

// append adds to the backlog, which is bounded.
func (w *writer) append(r audit.Record) {
	if len(w.backlog) >= backlogLength {
		w.log.lost.Add(1)
		return
	}
	w.backlog = append(w.backlog, r)
}

// expire writes the counts of what was suppressed. The record that carries a
// count is itself no longer suppressed.
func (w *writer) expire(now time.Time) {
	for _, r := range w.limiter.expired(now) {
		w.log.suppressed.Add(^uint64(0))
		w.append(r)
	}
}

// flush writes the backlog, until the target fails.
func (w *writer) flush() {
	for len(w.backlog) > 0 && w.retry == nil {
		if err := w.deliver(w.backlog[0]); err != nil {
			w.fail(err)
			return
		}
		w.backlog = w.backlog[1:]
		w.log.written.Add(1)
		w.recover()
	}
}

// deliver writes one record, opening the target first if it is closed.
func (w *writer) deliver(r audit.Record) error {
	if w.out == nil {
		out, err := w.target.open()
		if err != nil {
			return err
		}
		w.out = out
	}
	return w.hook.send(w.logger, w.out, r)
}

// fail closes the target and sets the time of the next attempt.
func (w *writer) fail(err error) {
	w.log.failures.Add(1)
	w.closeTarget()
	w.retry = time.NewTimer(w.pause)
	w.pause = min(2*w.pause, maxPause)
	if !w.broken {
		w.broken = true
		w.report(fmt.Errorf("write audit records to %s: %w; they wait here, at most %d, until it works", w.target.name, err, backlogLength))
	}
}

// recover notes that a write worked.
func (w *writer) recover() {
	w.pause = minPause
	if w.broken {
		w.broken = false
		w.report(nil)
	}
}

// closeTarget closes the target; its error says nothing that a failed write did
// not say.
func (w *writer) closeTarget() {
	if w.out != nil {
		_ = w.out.Close()
		w.out = nil
	}
}

// finish writes what is still there; a target that was away gets one more try.
func (w *writer) finish() {
	for len(w.log.in) > 0 {
		w.take(<-w.log.in)
	}
	w.expire(time.Now().Add(window))
	w.retry = nil
	w.flush()
	w.log.left = len(w.backlog)
	w.log.lost.Add(uint64(w.log.left))
	w.closeTarget()
}
