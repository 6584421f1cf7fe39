package netns

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// root is the checkout, seen from this directory.
const root = "../.."

// liveTimeout bounds each step of a test with the daemon. The guest of test/vm
// is ten times slower than a machine.
const liveTimeout = 20 * time.Second

// program returns the path of smtpwall's binary. One that is older than its
// sources would test what nobody wrote.
func program(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(root, "bin", "smtpwall"))
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.Stat(path)
	if err != nil {
		t.Fatalf("%v: run `make build`", err)
	}
	for _, dir := range []string{"cmd", "pkg"} { // the guest of test/vm has neither
		_ = filepath.WalkDir(filepath.Join(root, dir), func(name string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			if source, err := entry.Info(); err == nil && source.ModTime().After(binary.ModTime()) {
				t.Fatalf("%s is older than %s: run `make build`", path, name)
			}
			return nil
		})
	}
	return path
}

// wall is a lab whose firewall runs smtpwall.
type wall struct {
	*lab.Lab
	exe     string
	dir     string // of the daemon's files
	args    []string
	process *exec.Cmd
	log     *logBuffer
	done    chan error // gives the process' end, once
}

// newWall builds a lab with the shipped ruleset and starts the daemon on its
// firewall. policy is the text of a policy file; empty is the built-in default.
// args are further flags of `run`.
// When the test ends, the daemon must end well and no packet have been lost.
func newWall(t *testing.T, opt lab.Options, policy string, args ...string) *wall {
	t.Helper()
	w := &wall{exe: program(t), dir: t.TempDir()}
	w.Lab = newLab(t, opt)
	w.args = append([]string{"run", "--control", w.control(), "--audit", "file:" + w.audit(), "--audit-format", "json"}, args...)
	if policy != "" {
		file := filepath.Join(w.dir, "policy.conf")
		if err := os.WriteFile(file, []byte(policy), 0o644); err != nil {
			t.Fatal(err)
		}
		w.args = append(w.args, "--policy", file)
	}
	w.start(t)
	t.Cleanup(func() {
		if w.process != nil {
			w.stop(t)
		}
		w.checkChecksums(t)
	})
	return w
}

// control is the path of the control socket.
func (w *wall) control() string { return filepath.Join(w.dir, "control.sock") }

// audit is the path of the audit records.
func (w *wall) audit() string { return filepath.Join(w.dir, "audit.json") }

// start runs the daemon until it is ready.
func (w *wall) start(t *testing.T) {
	t.Helper()
	w.process = w.Command(lab.Firewall, w.exe, w.args...)
	w.log = newLogBuffer("msg=ready")
	w.process.Stderr = w.log
	if err := w.process.Start(); err != nil {
		t.Fatal(err)
	}
	w.done = make(chan error, 1)
	go func(p *exec.Cmd, done chan<- error) { done <- p.Wait() }(w.process, w.done)
	select {
	case <-w.log.found:
	case err := <-w.done:
		w.process = nil
		t.Fatalf("the daemon ended: %v\n%s", err, w.log)
	case <-time.After(liveTimeout):
		w.kill(t)
		t.Fatalf("the daemon did not become ready:\n%s", w.log)
	}
}

// kill ends the daemon as no daemon wants it.
func (w *wall) kill(t *testing.T) {
	t.Helper()
	if err := w.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-w.done
	w.process = nil
}

// stop ends the daemon and checks what it leaves: all records written, no fault,
// and no packet that a queue had no room for.
func (w *wall) stop(t *testing.T) {
	t.Helper()
	w.checkQueues(t)
	if err := w.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-w.done:
		if err != nil {
			t.Errorf("the daemon ended with %v:\n%s", err, w.log)
		}
		w.process = nil
	case <-time.After(liveTimeout):
		w.kill(t)
		t.Fatalf("the daemon does not stop:\n%s", w.log)
	}
	if _, later, _ := strings.Cut(w.log.String(), "msg=ready"); strings.Contains(later, "level=error") || strings.Contains(later, "panic") {
		t.Errorf("an error in the daemon's log:\n%s", w.log)
	}
}

// checkQueues fails if the kernel dropped a packet for want of room.
func (w *wall) checkQueues(t *testing.T) {
	t.Helper()
	queues, err := w.Queues()
	if err != nil {
		t.Error(err)
	}
	for _, q := range queues {
		if q.Dropped+q.UserDropped > 0 {
			t.Errorf("queue %d: %d packets dropped because it was full, %d because its socket was", q.ID, q.Dropped, q.UserDropped)
		}
	}
}

// checkChecksums fails if an end host refused a segment for its checksum.
func (w *wall) checkChecksums(t *testing.T) {
	t.Helper()
	for _, h := range []lab.Host{lab.Client, lab.Server} {
		if n, err := w.TCPChecksumErrors(h); err != nil || n > 0 {
			t.Errorf("%s: %d segments with a wrong checksum, error %v", h, n, err)
		}
	}
}

// queued is how many packets have come to the queues since they were bound.
func (w *wall) queued(t *testing.T) (n uint64) {
	t.Helper()
	queues, err := w.Queues()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		n += q.Packets
	}
	return n
}

// tracked reports whether conntrack has an entry for the connection of a client.
func (w *wall) tracked(t *testing.T, client netip.AddrPort) bool {
	t.Helper()
	family := netlink.InetFamily(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	found := false
	err := w.Do(lab.Firewall, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range flows {
			found = found || f.Forward.SrcPort == client.Port() && f.Forward.SrcIP.Equal(client.Addr().AsSlice())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// counts is what `show service-policy --json` prints, by line. "packet", "drop"
// and "reset_drop" are the class' own.
type counts map[string]uint64

// show asks the daemon for its counters.
func (w *wall) show(t *testing.T) counts {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), w.exe, "show", "service-policy", "--json", "--control", w.control())
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("show service-policy: %v: %s", err, &stderr)
	}
	var answer struct {
		Classes []struct {
			Packet    uint64 `json:"packet"`
			Drop      uint64 `json:"drop"`
			ResetDrop uint64 `json:"reset_drop"`
			Lines     []struct {
				Line  string `json:"line"`
				Count uint64 `json:"count"`
			} `json:"lines"`
		} `json:"classes"`
	}
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.Classes) != 1 {
		t.Fatalf("show service-policy printed %s: %v", out, err)
	}
	class := answer.Classes[0]
	all := counts{"packet": class.Packet, "drop": class.Drop, "reset_drop": class.ResetDrop}
	for _, l := range class.Lines {
		all[l.Line] = l.Count
	}
	return all
}

// checkCounts compares every line's count with want, where a line that is not
// named is 0; the number of packets is the kernel's business.
func (w *wall) checkCounts(t *testing.T, want counts) {
	t.Helper()
	got := w.show(t)
	delete(got, "packet")
	for line, n := range want {
		if _, ok := got[line]; !ok {
			t.Errorf("show service-policy has no line %q", line)
		}
		if got[line] != n {
			t.Errorf("show service-policy: %s is %d, want %d", line, got[line], n)
		}
	}
	for line, n := range got {
		if _, named := want[line]; !named && n != 0 {
			t.Errorf("show service-policy: %s is %d, want 0", line, n)
		}
	}
}

// record is what the tests read of an audit record (see pkg/audit).
type record struct {
	ID              int    `json:"id"`
	Event           string `json:"event"`
	Client          string `json:"client"`
	ClientPort      uint16 `json:"client_port"`
	ClientInterface string `json:"client_interface"`
	Side            string `json:"side"`
	Action          string `json:"action"`
	Rule            string `json:"rule"`
	Text            string `json:"text"`
	Bytes           uint64 `json:"bytes"`
	Reason          string `json:"reason"`
	Global          string `json:"global"`
	Message         string `json:"message"`
}

// String is the record in one line: event, side, action, rule, text, reason.
func (r record) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %s %s", r.Event, r.Side, r.Action, r.Rule, r.Text, r.Reason)), " ")
}

// records returns the audit records that were written of a client's connection.
func (w *wall) records(t *testing.T, client netip.AddrPort) (list []record) {
	t.Helper()
	for _, r := range w.allRecords(t) {
		if r.Client == client.Addr().String() && r.ClientPort == client.Port() {
			list = append(list, r)
		}
	}
	return list
}

// allRecords returns every whole audit record that was written.
func (w *wall) allRecords(t *testing.T) (list []record) {
	t.Helper()
	text, err := os.ReadFile(w.audit())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("audit record %q: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}

// awaitRecord waits for the record of a client's connection that reads as text.
func (w *wall) awaitRecord(t *testing.T, client netip.AddrPort, text string) {
	t.Helper()
	eventually(t, "audit record: "+text, func() bool {
		return slices.Contains(lines(w.records(t, client)), text)
	})
}

// checkRecords compares the records of a client's connection, once there are as
// many, line by line.
func (w *wall) checkRecords(t *testing.T, client netip.AddrPort, want ...string) {
	t.Helper()
	compareRecords(t, want, func() []record { return w.records(t, client) })
}

// compareRecords waits until there are as many records as wanted and compares
// them.
func compareRecords(t *testing.T, want []string, read func() []record) {
	t.Helper()
	eventually(t, "audit record: "+want[len(want)-1], func() bool { return len(read()) >= len(want) })
	if diff := cmp.Diff(want, lines(read())); diff != "" {
		t.Errorf("audit records: want (-), got (+):\n%s", diff)
	}
}

// lines are records in a line each.
func lines(records []record) (text []string) {
	for _, r := range records {
		text = append(text, r.String())
	}
	return text
}
