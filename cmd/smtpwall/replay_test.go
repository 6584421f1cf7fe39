package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// call runs a command as a shell would and returns what it printed.
func call(cmd *cobra.Command, stdin string, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.Execute()
	return out.String(), errs.String(), err
}

// file writes a file for a test and returns its path.
func file(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dialogue is a session with a banner to mask, a keyword to mask and a command
// to mask.
const dialogue = `S: 220 mx.example.org ESMTP 20
C: EHLO client.example.com
S: 250-mx.example.org
S: 250 CHUNKING
C: BDAT 5 LAST
S: 500 unknown
C: QUIT
S: 221 bye
`

// pcap turns a dialogue into the capture of a network without an inspector,
// taken at 2025-11-23 13:03:00 UTC.
func pcap(t *testing.T, text string) []byte {
	t.Helper()
	tr, err := capture.ParseTranscript("dialogue", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := capture.NewWriter(&b)
	start := time.Date(2025, 11, 23, 13, 3, 0, 0, time.UTC)
	for _, p := range tr.Packets() {
		if err := w.Write(start.Add(p.Time), capture.Frame{Link: capture.Raw}, p.Data); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// payloads returns what each packet with payload of a capture carries.
func payloads(t *testing.T, path string) []string {
	t.Helper()
	r, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out []string
	for {
		f, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if tcp, ok := capture.ParseTCP(f.IP); ok && len(tcp.Payload) > 0 {
			out = append(out, string(tcp.Payload))
		}
	}
}

// TestReplayText: records with the capture's time, then the ASA's screen; the
// written capture holds what the receivers saw.
func TestReplayText(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out.pcap")
	in := file(t, "in.pcap", pcap(t, dialogue))
	stdout, stderr, err := call(newReplayCommand(), "", "--policy", defaultCopy(t), "--write", out, in)
	if err != nil || stderr != "" {
		t.Fatalf("%v, %s", err, stderr)
	}
	// 14 packets: 3 to open, 8 lines, 3 to close. The lines have 29, 25, 20, 14,
	// 13, 13, 6 and 9 bytes: 129. BDAT's line begins at 25 and is known for what it
	// is at its LF.
	lines := strings.Split(stdout, "\n")
	wantLines := []string{
		"<166>Nov 23 2025 13:03:00: %SMTPWALL-6-302013: Built inbound TCP connection 1 for outside:203.0.113.5/41522 (203.0.113.5/41522) to inside:192.0.2.25/25 (192.0.2.25/25)",
		"<164>Nov 23 2025 13:03:00: %SMTPWALL-4-108004: ESMTP Parameter: Masked header flags for ESMTP Request from outside:203.0.113.5/41522 to inside:192.0.2.25/25; unknown-command: BDAT 5 LAST (offset 37)",
		"<166>Nov 23 2025 13:03:00: %SMTPWALL-6-302014: Teardown TCP connection 1 for outside:203.0.113.5/41522 to inside:192.0.2.25/25 duration 0:00:00 bytes 129 TCP FINs",
		"Global policy:",
		"  Service-policy: global_policy",
		"    Class-map: inspection_default",
		"      Inspect: esmtp _default_esmtp_map, packet 14, drop 0, reset-drop 0",
		"        mask-banner, count 1",
		"        unknown-command, count 1",
	}
	if diff := cmp.Diff(wantLines, lines[:min(len(lines), len(wantLines))]); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(stdout, "        match ehlo-reply-parameter others\n          mask, packet 1\n") {
		t.Errorf("the end is not the last match line's counter:\n%s", stdout)
	}
	if diff := cmp.Diff([]string{
		"220 *********************20\r\n", "EHLO client.example.com\r\n", "250-mx.example.org\r\n", "250 XXXXXXXA\r\n",
		"XXXXXXXXXXX\r\n", "500 unknown\r\n", "QUIT\r\n", "221 bye\r\n"}, payloads(t, out)); diff != "" {
		t.Error(diff)
	}
}

// defaultCopy is a policy file that says what the built-in default says, so that
// a policy installed on this machine does not matter.
func defaultCopy(t *testing.T) string {
	t.Helper()
	return file(t, "policy.conf", []byte("policy-map global_policy\n class inspection_default\n  inspect esmtp\n"+
		"class-map inspection_default\n match queue 0-3\nservice-policy global_policy global\n"))
}

// TestReplayJSON: every line is an object, the last one the summary.
func TestReplayJSON(t *testing.T) {
	in := file(t, "in.pcap", pcap(t, dialogue))
	stdout, _, err := call(newReplayCommand(), "", "--policy", defaultCopy(t), "--json", in, in)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
	if len(lines) != 7 { // three records a file and the summary
		t.Fatalf("%d lines:\n%s", len(lines), stdout)
	}
	var got []int
	for _, l := range lines[:6] {
		var r struct{ ID int }
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r.ID)
	}
	if diff := cmp.Diff([]int{302013, 108004, 302014, 302013, 108004, 302014}, got); diff != "" {
		t.Error(diff)
	}
	var last struct{ Summary replaySummary }
	if err := json.Unmarshal([]byte(lines[6]), &last); err != nil {
		t.Fatal(err)
	}
	s := last.Summary
	if s.Files != 2 || s.Packets != 28 || s.Sessions != 2 || s.Accepted != 28 || s.Edited != 6 || s.Dropped != 0 || s.Undecided != 0 {
		t.Errorf("summary %+v", s)
	}
	counts := map[string]uint64{}
	for _, l := range s.Policy[0].Lines {
		counts[l.Line] = l.Count
	}
	if counts["mask-banner"] != 2 || counts["match ehlo-reply-parameter others"] != 2 || counts["unknown-command"] != 2 || len(counts) < 8 {
		t.Errorf("policy lines %v", counts)
	}
}

// TestReplaySummary: what the TCP side counted has its place in the summary.
func TestReplaySummary(t *testing.T) {
	var out bytes.Buffer
	r := replayer{out: bufio.NewWriter(&out), counters: engine.Counters{Held: 1, Early: 2, Conflicts: 3, UrgentCleared: 4, WindowLowered: 5}}
	r.counters.Drops[engine.ReasonReservedBits] = 6
	if err := errors.Join(r.finish(policy.Default(), true, 1), r.out.Flush()); err != nil {
		t.Fatal(err)
	}
	const want = `"held":1,"early":2,"dropped":6,"drops":{"reserved-bits":6},"conflicts":3,"urgent_cleared":4,"window_lowered":5,"ended":0`
	if !strings.Contains(out.String(), want) {
		t.Errorf("no %s in\n%s", want, out.String())
	}
}

// TestOffline: a class's tcp-map reaches the engine, whatever map --map chooses.
func TestOffline(t *testing.T) {
	conf := file(t, "policy.conf", []byte("tcp-map norm\npolicy-map p\n class a\n  inspect esmtp\n  set connection advanced-options norm\n"+
		"class-map a\n match queue 0\nservice-policy p global\npolicy-map type inspect esmtp other\n"))
	for flag, want := range map[string]string{"": "_default_esmtp_map norm", "other": "other norm"} {
		flags := policyFlags{path: conf, mapName: flag}
		cfg, err := flags.load()
		if err != nil {
			t.Fatal(err)
		}
		opt := offline(cfg.Classes[0])
		if got := opt.Map.Name + " " + opt.TCP.Name; got != want || opt.FirstConn != 1 {
			t.Errorf("--map %q: got %s, first connection %d, want %s, 1", flag, got, opt.FirstConn, want)
		}
	}
}

// TestReplayErrors: what is wrong, where, and what to do; the other files are
// replayed all the same.
func TestReplayErrors(t *testing.T) {
	good := file(t, "good.pcap", pcap(t, dialogue))
	cut := file(t, "cut.pcap", pcap(t, dialogue)[:100])
	conf := defaultCopy(t)
	tests := []struct {
		name string
		args []string
		want string // in the error
		out  string // in stdout
	}{
		{"a file that is not there", []string{"/nonexistent.pcap", good}, "open capture: open /nonexistent.pcap: no such file or directory", "packet 14,"},
		{"a cut file first", []string{cut, good}, "read capture " + cut + ": offset 84: unexpected EOF", "packet 15,"},
		{"a port that is none", []string{"--port", "25,65536", good}, "--port 65536: a port is a number from 1 to 65535", ""},
		{"a map that is not there", []string{"--map", "strict", good}, "--map strict: the policy has no such map; it has _default_esmtp_map", ""},
		{"the output is an input", []string{"--write", good, good}, "--write " + good + ": that file is to be replayed; name another", ""},
		{"an output that cannot be", []string{"--write", "/nonexistent/out.pcap", good}, "open --write file: open /nonexistent/out.pcap: no such file or directory", ""},
	}
	for _, tt := range tests {
		stdout, _, err := call(newReplayCommand(), "", append([]string{"--policy", conf}, tt.args...)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(stdout, tt.out) {
			t.Errorf("%s:\n%v\nwant %s and %q in:\n%s", tt.name, err, tt.want, tt.out, stdout)
		}
	}
}

// TestReplayPorts: other ports are skipped, counted, and told.
func TestReplayPorts(t *testing.T) {
	in := file(t, "in.pcap", pcap(t, dialogue))
	stdout, stderr, err := call(newReplayCommand(), "", "--policy", defaultCopy(t), "--port", "587,2525", in)
	if err != nil || !strings.Contains(stdout, "packet 0,") {
		t.Errorf("%v\n%s", err, stdout)
	}
	if want := in + ": 14 of 14 frames to and from other ports skipped (--port chooses)\n"; stderr != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
}
