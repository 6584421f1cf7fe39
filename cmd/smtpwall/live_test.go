package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// liveTimeout bounds each step of TestRunLive.
const liveTimeout = 20 * time.Second

// newLab is a lab of that name with the shipped ruleset, until the test ends.
func newLab(t *testing.T, name string) *lab.Lab {
	t.Helper()
	l, err := lab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := l.LoadRuleset("../../nft", lab.Options{}); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestRunLive runs the program on a firewall between two hosts: a session is
// edited on its way, recorded and counted.
func TestRunLive(t *testing.T) {
	l := newLab(t, "run")
	dir := t.TempDir()
	socket, records := filepath.Join(dir, "control.sock"), filepath.Join(dir, "audit.json")
	args := []string{"run", "--control", socket, "--audit", "file:" + records, "--audit-format", "json"}
	d := startDaemon(t, l, args...)

	got := session(t, l, "EHLO client.example.com\r\n", "XFOO bar\r\n", "QUIT\r\n")
	want := "220 **2*************0***\r\n" + // of "mx2.example.org 0 hi" 2 and 0 stay
		"> EHLO client.example.com\r\n250-mx\r\n250 XXXXXXXA\r\n" +
		"> XXXXXXXX\r\n500 what\r\n" +
		"> QUIT\r\n221 bye\r\n"
	if got != want {
		t.Errorf("the session was\n%q\nwant\n%q", got, want)
	}

	if _, stderr, code := d.program(t, args...); code != exitFailed || !strings.Contains(stderr, "another smtpwall answers there") {
		t.Errorf("a second daemon: exit code %d, %s", code, stderr)
	}
	_, stderr, code := d.program(t, "run", "--control", socket+"2", "--audit", "file:"+records)
	if code != exitFailed || !strings.Contains(stderr, "is already bound by another program (netlink port") {
		t.Errorf("a second daemon with a socket of its own: exit code %d, %s", code, stderr)
	}
	checkCounters(t, d, socket)
	d.stop(t)
	checkRecords(t, records)
	if n := strings.Count(d.log.String(), "STARTTLS does not pass"); n != 1 {
		t.Errorf("the log warns %d times that the policy strips STARTTLS, want once:\n%s", n, d.log.String())
	}
}

// daemonProcess is a running `smtpwall run`.
type daemonProcess struct {
	lab  *lab.Lab
	cmd  *exec.Cmd
	log  bytes.Buffer // complete when done was received
	done chan error
}

// command prepares this program on the firewall.
func (d *daemonProcess) command(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := d.lab.Command(lab.Firewall, self, args...)
	cmd.Env = append(os.Environ(), asSmtpwall+"=1")
	return cmd
}

// startDaemon starts `smtpwall run` and waits until it is ready.
func startDaemon(t *testing.T, l *lab.Lab, args ...string) *daemonProcess {
	t.Helper()
	d := &daemonProcess{lab: l, done: make(chan error, 1)}
	d.cmd = d.command(args...)
	read, write := io.Pipe()
	d.cmd.Stderr = write
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(end)
		lines := bufio.NewScanner(io.TeeReader(read, &d.log))
		for lines.Scan() {
			if strings.Contains(lines.Text(), "msg=ready") {
				close(ready)
			}
		}
	}()
	go func() {
		err := d.cmd.Wait()
		write.Close()
		<-end
		d.done <- err
	}()
	t.Cleanup(func() { d.cmd.Process.Kill() })
	select {
	case <-ready:
	case err := <-d.done:
		t.Fatalf("the daemon ended: %v", err)
	case <-time.After(liveTimeout):
		t.Fatal("the daemon is not ready")
	}
	return d
}

// stop sends SIGTERM, which ends the daemon with exit code 0.
func (d *daemonProcess) stop(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("the daemon ended with %v: %s", err, &d.log)
		}
	case <-time.After(liveTimeout):
		t.Fatal("the daemon does not stop")
	}
	for _, word := range []string{"level=error msg=\"fault", "panic", "timeout"} {
		if strings.Contains(d.log.String(), word) {
			t.Errorf("%q in the daemon's log:\n%s", word, &d.log)
		}
	}
}

// program runs this program on the firewall to its end.
func (d *daemonProcess) program(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := d.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(liveTimeout, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// session sends lines from the client to the server, each when the reply to the
// one before has come, and writes down what arrived where: replies as they are,
// the server's lines behind "> ".
func session(t *testing.T, l *lab.Lab, lines ...string) string {
	t.Helper()
	ln, err := l.Listen(lab.Server, lab.ServerIP4+":25")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	arrived := make(chan string, 2*len(lines))
	go answer(ln, arrived)
	c, err := l.Dial(lab.Client, lab.ServerIP4+":25", liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	all := reply(t, r)
	for _, line := range lines {
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		text := reply(t, r)
		all += "> " + <-arrived + text
	}
	return all
}

// reply reads one reply of one or several lines.
func reply(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var all string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("reading a reply: %v after %q", err, all+line)
		}
		all += line
		if len(line) < 4 || line[3] != '-' {
			return all
		}
	}
}

// answer is a server for one session.
func answer(ln net.Listener, arrived chan<- string) {
	c, err := ln.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(c, "220 mx2.example.org 0 hi\r\n")
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		arrived <- line
		switch line[:4] {
		case "EHLO":
			fmt.Fprint(c, "250-mx\r\n250 CHUNKING\r\n")
		case "QUIT":
			fmt.Fprint(c, "221 bye\r\n")
			return
		default:
			fmt.Fprint(c, "500 what\r\n")
		}
	}
}

// checkCounters asks the daemon for its counters.
func checkCounters(t *testing.T, d *daemonProcess, socket string) {
	t.Helper()
	stdout, stderr, code := d.program(t, "show", "service-policy", "--json", "--control", socket)
	if code != exitOK {
		t.Fatalf("show service-policy: exit code %d: %s", code, stderr)
	}
	var answer servicePolicy
	if err := json.Unmarshal([]byte(stdout), &answer); err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"mask-banner": 1, "unknown-command": 1, "match ehlo-reply-parameter others": 1}
	for _, line := range answer.Classes[0].Lines {
		if line.Count != want[line.Line] {
			t.Errorf("%s counted %d, want %d", line.Line, line.Count, want[line.Line])
		}
		delete(want, line.Line)
	}
	if len(want) > 0 {
		t.Errorf("no lines for %v", want)
	}
	if answer.Classes[0].Packet < 10 {
		t.Errorf("%d packets inspected in a session", answer.Classes[0].Packet)
	}
}

// checkRecords reads the audit records of the session.
func checkRecords(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var r struct {
			Event           string `json:"event"`
			ClientInterface string `json:"client_interface"`
			Text            string `json:"text"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("record %q: %v", line, err)
		}
		if r.ClientInterface != "outside" {
			t.Errorf("record %s: the client's interface is not outside", line)
		}
		seen[r.Event] = true
	}
	for _, want := range []string{"built", "unknown-command"} {
		if !seen[want] {
			t.Errorf("no record of %s in\n%s", want, text)
		}
	}
}
