package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/nftset"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// TestEngineOptions follows --undecided and --midstream to the engine.
func TestEngineOptions(t *testing.T) {
	tests := []struct {
		args      []string
		undecided engine.Undecided
		midstream engine.Midstream
	}{
		{nil, engine.UndecidedClosed, engine.MidstreamReset},
		{[]string{"--undecided", "closed"}, engine.UndecidedClosed, engine.MidstreamReset},
		{[]string{"--undecided", "open"}, engine.UndecidedOpen, engine.MidstreamBypass},
		{[]string{"--undecided", "open", "--midstream", "reset"}, engine.UndecidedOpen, engine.MidstreamReset},
		{[]string{"--undecided", "open", "--midstream", "drop"}, engine.UndecidedOpen, engine.MidstreamDrop},
		{[]string{"--midstream", "bypass"}, engine.UndecidedClosed, engine.MidstreamBypass},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			opt, cmd := newRunOptions()
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			c := &policy.Class{Map: &policy.Map{}, TCP: &policy.TCPMap{}}
			got := opt.engineOptions(c)
			if got.Map != c.Map || got.TCP != c.TCP || got.Undecided != tt.undecided || got.Midstream != tt.midstream {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestInspections(t *testing.T) {
	var opt runOptions
	a, b := &policy.Map{Name: "a"}, &policy.Map{Name: "b"}
	tcp := &policy.TCPMap{Name: "t"}
	cfg := &policy.Config{Classes: []policy.Class{{First: 4, Last: 5, Map: a, TCP: tcp}, {First: 0, Last: 0, Map: b, TCP: policy.DefaultTCPMap()}}}
	all, err := opt.inspections(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range all {
		got = append(got, string(rune('0'+in.Queue))+in.Engine.Map.Name+in.Engine.TCP.Name)
	}
	if want := []string{"0b", "4at", "5at"}; !slices.Equal(got, want) {
		t.Errorf("queues, maps and tcp-maps %v, want %v", got, want)
	}
	if _, err := opt.inspections(&policy.Config{}); err == nil || !strings.Contains(err.Error(), "match queue") {
		t.Errorf("a policy without classes: %v", err)
	}
}

// TestAuditTrail writes an event to two files, in the ASA's format.
func TestAuditTrail(t *testing.T) {
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	log := logrus.New()
	log.SetOutput(io.Discard)
	opt, cmd := newRunOptions()
	if err := cmd.ParseFlags([]string{"--audit", "file:" + files[0], "--audit", "file:" + files[1], "--audit-tag", "ASA"}); err != nil {
		t.Fatal(err)
	}
	trail, err := opt.audit.open(log, map[string]string{"lo": "inside"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	trail.write(&engine.Event{Kind: engine.EventBuilt, Conn: engine.Conn{
		ID:     7,
		Client: engine.Endpoint{AddrPort: netip.MustParseAddrPort("192.0.2.1:4000"), Interface: 1 << 30},
		Server: engine.Endpoint{AddrPort: netip.MustParseAddrPort("192.0.2.2:25"), Interface: 1},
	}})
	if err := trail.close(); err != nil {
		t.Fatal(err)
	}
	const want = ": %ASA-6-302013: Built inbound TCP connection 7 for unknown:192.0.2.1/4000 (192.0.2.1/4000) to inside:192.0.2.2/25 (192.0.2.2/25)\n"
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(string(text), want) {
			t.Errorf("%s holds %q, want %q at its end", name, text, want)
		}
	}
}

// TestAuditTargetFails opens none if one cannot be opened.
func TestAuditTargetFails(t *testing.T) {
	a := auditFlags{targets: []string{"stderr", "file:/nonexistent/audit.log"}, format: choice{value: "asa"}}
	_, err := a.open(logrus.New(), nil, time.Now())
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/audit.log") {
		t.Errorf("got %v", err)
	}
}

// TestReopen moves an audit file away, as logrotate does, and sends SIGHUP.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := auditFlags{targets: []string{"file:" + path}, format: choice{value: "asa"}}
	trail, err := a.open(logrus.New(), nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer trail.close()
	task := trail.reopener()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- task.Run(ctx) }()
	<-task.Ready()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	tick, late := time.NewTicker(time.Millisecond), time.After(liveTimeout)
	defer tick.Stop()
	for id := uint64(1); ; id++ {
		trail.write(&engine.Event{Kind: engine.EventBuilt, Conn: engine.Conn{ID: id}})
		if _, err := os.Stat(path); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the file is not opened again")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWall(t *testing.T) {
	now := time.Date(2026, 11, 23, 13, 3, 1, 0, time.UTC)
	if got, want := wall(now, 90*time.Second, 60*time.Second), now.Add(-30*time.Second); !got.Equal(want) {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestInterfaceNames(t *testing.T) {
	tests := []struct {
		name  string
		names interfaceNames
		index uint32
		want  string
	}{
		{"the policy's", interfaceNames{nameif: map[string]string{"lo": "dmz"}}, 1, "dmz"},
		{"the kernel's", interfaceNames{nameif: map[string]string{"eth7": "dmz"}}, 1, "lo"},
		{"none", interfaceNames{}, 1 << 30, ""},
		{"remembered", interfaceNames{known: map[uint32]knownInterface{1: {"old", time.Now()}}}, 1, "old"},
		{"remembered too long", interfaceNames{known: map[uint32]knownInterface{1: {"old", time.Now().Add(-2 * nameLife)}}}, 1, "lo"},
		{"gone since", interfaceNames{known: map[uint32]knownInterface{1 << 30: {"old", time.Now().Add(-2 * nameLife)}}}, 1 << 30, "old"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.names.known == nil {
				tt.names.known = map[uint32]knownInterface{}
			}
			if got := tt.names.name(tt.index); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Of very many warnings some are told, and how many there are; when one of the others
// is new, nothing else is said to be over.
func TestTellMany(t *testing.T) {
	var out strings.Builder
	log := newLog(&out)
	many := func(n int) (all []nftset.Warning) {
		for i := range n {
			all = append(all, nftset.Warning{Kind: nftset.StaticMaps, Text: fmt.Sprintf("element %d", i)})
		}
		return all
	}
	told := tellChanges(log, nil, many(5000), false)
	if got := out.String(); strings.Count(got, "\n") != 20 || !strings.Contains(got, "4981 more such warnings") || !strings.Contains(got, "element 18\"") {
		t.Errorf("said %s", got)
	}
	out.Reset()
	told = tellChanges(log, told, append([]nftset.Warning{{Kind: nftset.StaticMaps, Text: "another"}}, told...), true)
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "another") {
		t.Errorf("said %s", got)
	}
	out.Reset()
	tellChanges(log, told, nil, true)
	if got := out.String(); strings.Count(got, "\n") != 20 || !strings.Contains(got, "no longer so: 4982 more of those warnings") {
		t.Errorf("said %s", got)
	}
}

// A warning is told once, and once more when it is over.
func TestTellChanges(t *testing.T) {
	var out strings.Builder
	log := newLog(&out)
	gone := nftset.Warning{Kind: nftset.NoTable, Text: "table is missing"}
	broken := nftset.Warning{Kind: nftset.UnboundQueue, Text: "queue 4 is bound by nobody"}
	var told []nftset.Warning
	started := false
	for _, c := range []struct {
		now  []nftset.Warning
		want []string
	}{
		{[]nftset.Warning{gone}, []string{"level=warning", gone.Text}},
		{[]nftset.Warning{gone, broken}, []string{"error", broken.Text}},
		{[]nftset.Warning{broken}, []string{"info", "no longer so: " + gone.Text}},
		{[]nftset.Warning{broken}, nil},
		{[]nftset.Warning{broken, gone}, []string{"level=error", gone.Text}}, // it was there
	} {
		out.Reset()
		told = tellChanges(log, told, c.now, started)
		started = true
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("said %q, want %q", out.String(), want)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != min(1, len(c.want)) {
			t.Errorf("%d lines for %v: %q", n, c.now, out.String())
		}
	}
}
