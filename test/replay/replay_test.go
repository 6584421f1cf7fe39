// Package replay is the replay tier of the tests: cases, one folder each, and the
// public captures, both through capture.Replay, engine and audit as `smtpwall
// replay` joins them. Nothing imports it. It must never use a network, a
// privilege or a clock.
//
// A folder in cases/ holds the input and what must come of it:
//
//	README.md     what it shows, and what went wrong there once
//	in.txt        a dialogue, as `smtpwall explain` reads it; or
//	in.packets    single packets (see script); or
//	in.pcap       a capture
//	policy.conf   the policy, if it is not the built-in default
//	events.txt    the audit records, in order
//	client.txt    what the client's TCP delivered (see transcript)
//	server.txt    what the server's TCP delivered
//	summary.txt   the counters that are not zero
//
// A case that shows the shipped maps has the last four in folders classic/ and
// modern/ instead, or in one of them, and there an input of its own where the two do not meet the
// same dialogue, or a policy where the shipped map must be extended.
//
// `go test ./test/replay -run 'TestCases/NAME' -update` rewrites the last four.
// Read them against design.md before they are committed: a golden file says what
// the program does, not that it is right.
package replay

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

var update = flag.Bool("update", false, "rewrite the expected files with what came")

func TestCases(t *testing.T) {
	cases, err := os.ReadDir("cases")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name(), func(t *testing.T) {
			dir := filepath.Join("cases", c.Name())
			checkFiles(t, dir)
			single := true
			for name, cfg := range shippedMaps() {
				if !exists(t, filepath.Join(dir, name)) {
					continue
				}
				single = false
				t.Run(name, func(t *testing.T) {
					expected := filepath.Join(dir, name)
					if exists(t, filepath.Join(expected, "policy.conf")) {
						cfg = casePolicy(t, expected)
					}
					runCase(t, dir, expected, cfg)
				})
			}
			if single {
				runCase(t, dir, dir, casePolicy(t, dir))
			}
		})
	}
}

// shippedMaps are the built-in policy with either of its maps in use, by the
// names of the folders.
func shippedMaps() map[string]*policy.Config {
	classic, modern := policy.Default(), policy.Default()
	modern.Classes[0].Map = modern.Map("modern_esmtp_map")
	return map[string]*policy.Config{"classic": classic, "modern": modern}
}

// casePorts are the server's in a case.
var casePorts = []uint16{25}

// caseFiles are the files that a case can have.
var caseFiles = []string{"README.md", "in.txt", "in.packets", "in.pcap", "policy.conf", "events.txt", "client.txt", "server.txt", "summary.txt"}

// checkFiles wants nothing in the folder of a case that no test reads.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		known := slices.Contains(caseFiles, f.Name())
		if f.IsDir() {
			_, known = shippedMaps()[f.Name()]
		}
		if !known {
			t.Errorf("%s/%s is no file of a case; want %s", dir, f.Name(), strings.Join(caseFiles, ", "))
		}
	}
	if strings.TrimSpace(string(read(t, dir, "README.md"))) == "" {
		t.Errorf("%s/README.md is missing or empty: say what the case shows", dir)
	}
}

// runCase replays the case in dir, whose expected files stand in expected, and
// compares all that came of it.
func runCase(t *testing.T, dir, expected string, cfg *policy.Config) {
	pcap, played := input(t, expected, cfg)
	if pcap == nil {
		pcap, played = input(t, dir, cfg)
	}
	if pcap == nil {
		t.Fatalf("%s has neither in.txt nor in.packets nor in.pcap", dir)
	}
	out, err := replay(dir, bytes.NewReader(pcap), cfg, casePorts)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range out.faults {
		t.Error(f)
	}
	received := out.network.transcript()
	if played != nil {
		if diff := cmp.Diff(*played, received); diff != "" {
			t.Errorf("the capture of what was played came out differently (-played +replayed):\n%s", diff)
		}
	}
	golden(t, filepath.Join(expected, "events.txt"), out.events.String())
	golden(t, filepath.Join(expected, "client.txt"), received[smtp.Client])
	golden(t, filepath.Join(expected, "server.txt"), received[smtp.Server])
	golden(t, filepath.Join(expected, "summary.txt"), summary(cfg, &out.counters))
}

// read returns a file of a case, nil if there is none.
func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return b
}

// casePolicy is the case's policy: that of its first class.
func casePolicy(t *testing.T, dir string) *policy.Config {
	t.Helper()
	text := read(t, dir, "policy.conf")
	if text == nil {
		return policy.Default()
	}
	cfg, err := policy.Parse(filepath.Join(dir, "policy.conf"), text)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// input returns the case's packets as a capture file. A dialogue and single
// packets are played through an engine first, because either end answers only
// what it got; played is what that was.
func input(t *testing.T, dir string, cfg *policy.Config) (pcap []byte, played *[2]string) {
	t.Helper()
	if text := read(t, dir, "in.txt"); text != nil {
		turns, err := capture.ParseTranscript(filepath.Join(dir, "in.txt"), text)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlayer(cfg)
		turns.Play(func(_ int, packet *engine.Packet) []engine.Decision { return p.inspect(packet) })
		return p.finish(t)
	}
	if text := read(t, dir, "in.packets"); text != nil {
		s, err := parseScript(filepath.Join(dir, "in.packets"), text)
		if err != nil {
			t.Fatal(err)
		}
		p := newPlayer(cfg)
		p.frame = s.frame
		s.play(p)
		return p.finish(t)
	}
	return read(t, dir, "in.pcap"), nil
}

// golden compares got with the file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./test/replay -run '%s' -update writes it)", err, t.Name())
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// outcome is what came of a replay.
type outcome struct {
	events   strings.Builder // audit records, one a line
	network  network
	tally    capture.Tally
	counters engine.Counters
	faults   []string // breaches of what holds for every packet
}

// replay runs a capture through an engine as `smtpwall replay` does.
func replay(name string, pcap io.Reader, cfg *policy.Config, ports []uint16) (*outcome, error) {
	in, err := capture.NewReader(name, pcap)
	if err != nil {
		return nil, err
	}
	eng := engine.New(engine.Options{Map: cfg.Classes[0].Map, TCP: cfg.Classes[0].TCP, FirstConn: 1})
	w := &watcher{Engine: eng, came: map[uint32][]byte{}}
	run := capture.NewReplay(w)
	run.Ports = ports
	out := &outcome{network: network{ports: ports, conns: map[flow.Key]*ends{}}}
	run.Forward = func(_ time.Time, _ capture.Frame, ip []byte) error {
		out.network.deliver(ip)
		return nil
	}
	records := audit.New(audit.Options{Interface: sideName, Wall: run.Wall})
	run.After = func() {
		for _, e := range eng.TakeEvents() {
			for _, r := range records.Records(&e) {
				fmt.Fprintln(&out.events, r.Line())
			}
		}
		eng.TakeKills()
	}
	if out.tally, err = run.Run(in); err != nil {
		return nil, fmt.Errorf("replay %s: %w", name, err)
	}
	out.counters = eng.Counters()
	out.faults = append(append(w.faults, out.network.faults...), sums(&out.counters)...)
	return out, nil
}

// sideName names the interfaces that capture makes up.
func sideName(index uint32) string {
	return map[uint32]string{capture.OutsideIndex: "outside", capture.InsideIndex: "inside"}[index]
}

// sums says which counters do not add up when all packets are decided.
func sums(c *engine.Counters) (faults []string) {
	if c.Packets != c.Accepted+c.DropTotal() {
		faults = append(faults, fmt.Sprintf("%d packets came, %d were accepted and %d dropped", c.Packets, c.Accepted, c.DropTotal()))
	}
	if c.HeldNow != 0 || c.EventsLost != 0 {
		faults = append(faults, fmt.Sprintf("%d packets are still held, %d events were lost", c.HeldNow, c.EventsLost))
	}
	return faults
}

// summary lists the counters that are not zero, the map's lines last.
func summary(cfg *policy.Config, c *engine.Counters) string {
	var b strings.Builder
	line := func(name string, n uint64) {
		if n > 0 {
			fmt.Fprintf(&b, "%s: %d\n", name, n)
		}
	}
	line("packets", c.Packets)
	line("accepted", c.Accepted)
	line("edited", c.Edited)
	line("held", c.Held)
	for reason, n := range c.Drops {
		line("dropped, "+engine.Reason(reason).String(), n)
	}
	line("sessions", c.Sessions)
	line("sessions ended by drop-connection", c.EndedByDrop)
	line("sessions ended by reset", c.EndedByRST)
	line("sessions offloaded", c.Offloaded)
	for _, l := range audit.Report(cfg, []engine.Counters{*c})[0].Lines {
		line(l.Line, l.Count)
	}
	return b.String()
}
