package syslog

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// frame writes a record the way a target wants it. It is a logrus.Formatter.
type frame func(audit.Record) []byte

// Format frames the entry's record.
func (f frame) Format(e *logrus.Entry) ([]byte, error) {
	r, ok := e.Data[recordField].(audit.Record)
	if !ok {
		return nil, errors.New("format audit entry: it has no record")
	}
	return f(r), nil
}

// lineFrame is one record a line.
func lineFrame(r audit.Record) []byte { return append([]byte(r.Line()), '\n') }

// localFrame is what the C library's syslog sends: RFC 3164 4.1 without a host
// name, which the daemon adds.
func localFrame(tag string, pid int) frame {
	return func(r audit.Record) []byte {
		return fmt.Appendf(nil, "<%d>%s %s[%s]: %s", r.Severity.PRI(), r.Time.Format(time.Stamp), tag, strconv.Itoa(pid), r.Body)
	}
}

// devLog is where a syslog daemon or journald listens.
const devLog = "/dev/log"

// dial connects to the syslog daemon's datagram socket.
func dial(path string) (io.WriteCloser, error) {
	c, err := net.Dial("unixgram", path)
	if err != nil {
		return nil, fmt.Errorf("%w (is rsyslog, syslog-ng or journald running?)", err)
	}
	return deadline{c}, nil
}

// deadline gives each write its time: a datagram socket blocks while the
// daemon's queue is full.
type deadline struct{ net.Conn }

// Write writes one datagram.
func (d deadline) Write(b []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return d.Conn.Write(b)
}

// openFile opens a file for appending. Only its owner and group may read it:
// records hold mail addresses.
func openFile(path string) (io.WriteCloser, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// keepOpen is standard error: it is not ours to close.
type keepOpen struct{ io.Writer }

// Close does nothing.
func (keepOpen) Close() error { return nil }
