package syslog

import (
	"io"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// recordField is the entry's field that holds the audit.Record.
const recordField = "record"

// newLogger returns the logger of one target: our formatter, our hook, and no
// output but the hook's.
func newLogger(f frame, h *hook) *logrus.Logger {
	l := &logrus.Logger{
		Out: io.Discard, Formatter: f, Hooks: make(logrus.LevelHooks), Level: logrus.TraceLevel,
		// Nothing logs at a level that exits.
		ExitFunc: func(int) {},
	}
	l.Hooks.Add(h)
	return l
}

// hook writes formatted entries to the target of the moment.
type hook struct {
	out io.Writer // of the record being sent
	err error     // of the record being sent: logrus keeps a hook's error to itself
	cut bool      // the last write stopped within a line
}

// Levels returns all of them: an audit record's severity is not a reason to
// leave it out.
func (h *hook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire writes one entry. It returns no error, which logrus would print.
func (h *hook) Fire(e *logrus.Entry) error {
	line, err := e.Bytes()
	if err != nil {
		h.err = err
		return nil
	}
	if h.cut {
		line = append([]byte("\n"), line...)
	}
	n, err := h.out.Write(line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	h.cut = err != nil && (n > 0 || h.cut)
	h.err = err
	return nil
}

// send logs r to out and returns what became of it.
func (h *hook) send(l *logrus.Logger, out io.Writer, r audit.Record) error {
	h.out, h.err = out, nil
	l.WithTime(r.Time).WithField(recordField, r).Log(level(r.Severity), r.Body)
	return h.err
}

// level maps a severity to logrus's levels. Fatal and Panic, which would end the
// program, are not among them.
func level(s audit.Severity) logrus.Level {
	switch {
	case s <= 3:
		return logrus.ErrorLevel
	case s == 4:
		return logrus.WarnLevel
	case s <= 6:
		return logrus.InfoLevel
	}
	return logrus.DebugLevel
}
