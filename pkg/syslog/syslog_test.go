package syslog

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/audit"
)

// record is a record without a repeat key, so that the limiter lets it pass.
func record(body string) audit.Record {
	return audit.Record{ID: 302013, Severity: 6, Time: time.Date(2025, 11, 3, 13, 3, 1, 0, time.UTC), Key: audit.Key{Conn: 1}, Body: body}
}

// repeat is a record that repeats others with the same rule and client.
func repeat(rule, client, body string) audit.Record {
	return audit.Record{ID: 108004, Severity: 4, Time: time.Now(), Key: audit.Key{ID: 108004, Rule: rule, Client: netip.MustParseAddr(client)}, Body: body}
}

// daemon is a syslog daemon in memory.
type daemon struct {
	mu     sync.Mutex
	lines  []string
	dials  int
	down   error         // dialling fails
	broken error         // writing fails
	stuck  chan struct{} // writing blocks until it is closed; set before the Log is opened
}

// dial connects to d.
func (d *daemon) dial() (io.WriteCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.down != nil {
		return nil, d.down
	}
	return d, nil
}

// Write takes one datagram.
func (d *daemon) Write(b []byte) (int, error) {
	if d.stuck != nil {
		<-d.stuck
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return 0, d.broken
	}
	d.lines = append(d.lines, string(b))
	return len(b), nil
}

// fail makes writing fail.
func (d *daemon) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = err
}

// repair ends whatever is wrong with d.
func (d *daemon) repair() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down, d.broken = nil, nil
}

// dialled is how often somebody connected or tried to.
func (d *daemon) dialled() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dials
}

// bodies are the datagrams without their headers.
func (d *daemon) bodies() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]string, len(d.lines))
	for i, l := range d.lines {
		_, out[i], _ = strings.Cut(l, "]: ")
	}
	return out
}

// pass lets d go by on the bubble's clock, and then everybody come to rest.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// Close ends the connection.
func (d *daemon) Close() error { return nil }

// open opens a Log to d.
func (d *daemon) open(t *testing.T, report func(error)) *Log {
	t.Helper()
	l, err := Open("syslog", Options{PID: 812, Dial: d.dial, Report: report})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLocalFrame: the header that the C library writes, day padded by a space.
func TestLocalFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		l := d.open(t, nil)
		l.Write(record("%SMTPWALL-6-302013: Built"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		want := []string{"<166>Nov  3 13:03:01 smtpwall[812]: %SMTPWALL-6-302013: Built"}
		if diff := cmp.Diff(want, d.lines); diff != "" {
			t.Error(diff)
		}
	})
}

// TestReconnect: a daemon that is away loses nothing; it is asked again after
// 1, 2, 4 ... seconds; failure and recovery are each reported once.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		d := &daemon{down: refused}
		var reports []string
		l := d.open(t, func(err error) { reports = append(reports, fmt.Sprint(err)) })
		l.Write(record("one"))
		l.Write(record("two"))
		pass(7500 * time.Millisecond) // tries at 0, 1, 3 and 7 s
		if got := d.dialled(); got != 4 {
			t.Errorf("%d dials in 7.5 s, want 4", got)
		}
		d.repair()
		pass(8 * time.Second) // the next try is at 15 s
		if got := d.bodies(); !cmp.Equal(got, []string{"one", "two"}) {
			t.Errorf("delivered %q", got)
		}
		lost := "write audit records to syslog: refused; they wait here, at most 4096, until it works"
		want := []string{lost, "<nil>"}
		if diff := cmp.Diff(want, reports); diff != "" {
			t.Error(diff)
		}
		if got, want := l.Stats(), (Stats{Written: 2, Failures: 4}); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
		d.fail(refused) // the pauses begin anew
		l.Write(record("three"))
		pass(500 * time.Millisecond)
		d.repair()
		pass(time.Second)
		if got := d.bodies(); len(got) != 3 {
			t.Errorf("a second failure: delivered %q", got)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestWriteFails: a record whose write failed is written again on a new
// connection, once.
func TestWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{broken: errors.New("broken pipe")}
		l := d.open(t, nil)
		l.Write(record("one"))
		synctest.Wait()
		d.repair()
		pass(2 * time.Second)
		if got := d.bodies(); d.dialled() != 2 || !cmp.Equal(got, []string{"one"}) {
			t.Errorf("%d dials, delivered %q", d.dialled(), got)
		}
		l.Close()
	})
}

// TestBacklogBound: while the daemon is away the backlog fills, then records
// are lost and counted; the oldest are kept.
func TestBacklogBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{down: errors.New("down")}
		l := d.open(t, nil)
		for i := range backlogLength + 10 {
			l.Write(record(fmt.Sprint(i)))
			synctest.Wait() // the queue is empty again: only the backlog is tested
		}
		if got := l.Stats().Lost; got != 10 {
			t.Errorf("lost %d, want 10", got)
		}
		err := l.Close()
		if err == nil || !strings.Contains(err.Error(), "4096 records could not be delivered") {
			t.Errorf("close: %v", err)
		}
	})
}

// TestStuck: a daemon that takes nothing blocks neither Write nor Close, and
// what the queue cannot hold is counted.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{stuck: make(chan struct{})}
		l := d.open(t, nil)
		begin := time.Now()
		l.Write(record("stuck"))
		synctest.Wait() // the goroutine sits in Write
		for range queueLength + 7 {
			l.Write(record("more"))
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("writing took %v", took)
		}
		if got := l.Stats().Lost; got != 7 {
			t.Errorf("lost %d, want 7", got)
		}
		if err := l.Close(); err != errSlow || time.Since(begin) != closeTimeout {
			t.Errorf("close: %v after %v", err, time.Since(begin))
		}
		close(d.stuck)
	})
}

// TestRepeats: ten of a kind pass in ten seconds, the others become one record
// with their number; other clients, rules and connections' records are not
// touched.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		l := d.open(t, nil)
		for i := range 13 {
			l.Write(repeat("r", "192.0.2.1", fmt.Sprint("a", i)))
		}
		pass(time.Millisecond)
		for i := range 11 {
			l.Write(repeat("r", "192.0.2.2", fmt.Sprint("b", i)))
		}
		for i := range 12 {
			l.Write(record(fmt.Sprint("c", i)))
		}
		synctest.Wait()
		now := d.bodies()
		if got, want := strings.Join(now, " "), "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 b0 b1 b2 b3 b4 b5 b6 b7 b8 b9 c0 c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11"; got != want {
			t.Errorf("at once:\n got %s\nwant %s", got, want)
		}
		if got := l.Stats().Suppressed; got != 4 {
			t.Errorf("suppressed %d, want 4", got)
		}
		pass(11 * time.Second)
		if diff := cmp.Diff([]string{"a12 (repeated 2)", "b10"}, d.bodies()[len(now):]); diff != "" {
			t.Error(diff)
		}
		if got := l.Stats(); got.Suppressed != 2 || got.Written != 34 {
			t.Errorf("stats %+v, want 2 suppressed and 34 written", got)
		}
		l.Write(repeat("r", "192.0.2.1", "again")) // a new window
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if got := d.bodies(); got[len(got)-1] != "again" {
			t.Errorf("last is %q", got[len(got)-1])
		}
	})
}

// TestCloseCounts: what was suppressed when the Log is closed is written.
func TestCloseCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &daemon{}
		l := d.open(t, nil)
		for i := range 15 {
			l.Write(repeat("r", "192.0.2.1", fmt.Sprint(i)))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := d.bodies(); got[len(got)-1] != "14 (repeated 4)" {
			t.Errorf("last is %q", got[len(got)-1])
		}
	})
}

// TestLimiterBound: the table of keys stays bounded; beyond it, keys are
// counted together.
func TestLimiterBound(t *testing.T) {
	l := limiter{keys: make(map[audit.Key]*repeats)}
	now := time.Unix(0, 0)
	addr := netip.MustParseAddr("10.0.0.0")
	admitted := 0
	for range maxKeys + 100 {
		addr = addr.Next()
		if l.admit(now, repeat("r", addr.String(), "")) {
			admitted++
		}
	}
	if len(l.keys) != maxKeys+1 || admitted != maxKeys+burst {
		t.Errorf("%d keys, %d admitted, want %d and %d", len(l.keys), admitted, maxKeys+1, maxKeys+burst)
	}
	out := l.expired(now.Add(window))
	if len(out) != 1 || out[0].Body != " (repeated 89)" || len(l.keys) != 0 {
		t.Errorf("expired %+v, %d keys left", out, len(l.keys))
	}
}

// TestFile: appends whole lines, mode 0640, and goes on in a new file after
// Reopen, as logrotate wants it.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("old\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		l, err := Open("file:"+path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		l.Write(record("one"))
		synctest.Wait()
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		synctest.Wait()
		l.Write(record("two"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
	for name, want := range map[string]string{path + ".1": "old\none\n", path: "two\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o640 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// short takes half of the first line and then has no room, once.
type short struct {
	strings.Builder
	full bool
}

// Write takes half a line the first time.
func (s *short) Write(b []byte) (int, error) {
	if !s.full {
		s.full = true
		n, _ := s.Builder.Write(b[:len(b)/2])
		return n, errors.New("no space left on device")
	}
	return s.Builder.Write(b)
}

// TestTornLine: a line cut by a full disk does not swallow the next one.
func TestTornLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &short{}
		l, err := Open("stderr", Options{Stderr: s})
		if err != nil {
			t.Fatal(err)
		}
		l.Write(record("abc"))
		pass(2 * time.Second)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := s.String(); got != "ab\nabc\n" {
			t.Errorf("target holds %q", got)
		}
	})
}

// TestTargets: what is not a target of this version is a clear error.
func TestTargets(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no", "audit.log")
	tests := []struct{ target, want string }{
		{"udp://192.0.2.1:514", `unknown audit target "udp://192.0.2.1:514": this version knows syslog, stderr and file:PATH`},
		{"file:", `unknown audit target "file:": this version knows syslog, stderr and file:PATH`},
		{"", `unknown audit target "": this version knows syslog, stderr and file:PATH`},
		{"file:" + missing, `open audit target "file:` + missing + `": open ` + missing + `: no such file or directory; create its directory and let this user write there`},
	}
	for _, tt := range tests {
		l, err := Open(tt.target, Options{})
		if err == nil {
			l.Close()
			t.Errorf("%q opened", tt.target)
		} else if err.Error() != tt.want {
			t.Errorf("%q:\n got %s\nwant %s", tt.target, err, tt.want)
		}
	}
}

// TestDial sends to a real datagram socket.
func TestDial(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	server, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	l, err := Open("syslog", Options{PID: 1, Tag: "t", Dial: func() (io.WriteCloser, error) { return dial(path) }})
	if err != nil {
		t.Fatal(err)
	}
	l.Write(record("over a socket"))
	buf := make([]byte, 100)
	n, err := server.Read(buf)
	if got, want := string(buf[:n]), "<166>Nov  3 13:03:01 t[1]: over a socket"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := dial(path + "2"); err == nil || !strings.Contains(err.Error(), "is rsyslog, syslog-ng or journald running?") {
		t.Errorf("dial: %v", err)
	}
}
