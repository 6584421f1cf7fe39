package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// TestShowConnLive lists a session in the middle of its life on a firewall between
// two hosts.
func TestShowConnLive(t *testing.T) {
	l := newLab(t, "show")
	dir := t.TempDir()
	socket := filepath.Join(dir, "control.sock")
	d := startDaemon(t, l, "run", "--control", socket, "--audit", "file:"+filepath.Join(dir, "audit"))
	show := func(args ...string) string {
		stdout, stderr, code := d.program(t, append([]string{"show", "conn", "--control", socket}, args...)...)
		if code != exitOK {
			t.Fatalf("show conn: exit code %d: %s", code, stderr)
		}
		return stdout
	}
	if got, want := show(), "0 in use, 0 most used\n"; got != want {
		t.Errorf("before: %q, want %q", got, want)
	}

	ln, err := l.Listen(lab.Server, lab.ServerIP4+":25")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go answer(ln, make(chan string, 10))
	c, err := l.Dial(lab.Client, lab.ServerIP4+":25", liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	passed := len(reply(t, r))
	want := func(flags string) {
		t.Helper()
		line := regexp.MustCompile(fmt.Sprintf(`^1 in use, 1 most used\nTCP outside %s inside %s:25, idle 0:00:0\d, bytes %d, flags %s\n$`,
			regexp.QuoteMeta(c.LocalAddr().String()), regexp.QuoteMeta(lab.ServerIP4), passed, flags))
		if got := show(); !line.MatchString(got) {
			t.Errorf("got\n%swant\n%s", got, line)
		}
	}
	want("UOB")
	const hello = "EHLO client.example.com\r\n"
	if _, err := io.WriteString(c, hello); err != nil {
		t.Fatal(err)
	}
	passed += len(hello) + len(reply(t, r))
	want("UIOBM")

	var table connTable
	if err := json.Unmarshal([]byte(show("--json")), &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Connections) != 1 || table.Connections[0].Connection == 0 || time.Since(table.Connections[0].Started).Abs() > liveTimeout {
		t.Errorf("JSON of one connection: %+v", table)
	}
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	reply(t, r)
	c.Close()
	for deadline := time.Now().Add(liveTimeout); show() != "0 in use, 1 most used\n"; {
		if time.Now().After(deadline) {
			t.Fatalf("after the end: %s", show())
		}
	}
	d.stop(t)
}
