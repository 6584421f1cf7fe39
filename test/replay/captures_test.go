package replay

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// The public captures are not part of the project. SMTPWALL_CAPTURES names their
// directory; else they are looked for beside the checkout.
const (
	capturesVariable = "SMTPWALL_CAPTURES"
	capturesBeside   = "../../../shared/captures"
)

// capturePorts are the ports that mail servers have in the captures.
var capturePorts = []uint16{25, 587, 2525, 10025}

// summaryFile holds a line for each capture, of one of the shipped maps.
func summaryFile(mapName string) string { return "captures/summary-" + mapName + ".tsv" }

// columns of a summaryFile.
var columns = []string{"file", "packets", "sessions", "accepted", "edited", "held", "drops", "ended", "lines"}

// TestCaptures replays every public capture under both shipped maps. What holds
// for all is checked in replay; what became of each is compared with its line of
// the map's summary, and of those with a folder in captures/ the audit records
// are. captures/REVIEW.md says what to think of it.
func TestCaptures(t *testing.T) {
	files := captureFiles(t)
	for mapName, cfg := range shippedMaps() {
		t.Run(mapName, func(t *testing.T) { runCaptures(t, files, mapName, cfg) })
	}
}

// runCaptures replays the captures under one map.
func runCaptures(t *testing.T, files []string, mapName string, cfg *policy.Config) {
	want := readSummary(t, summaryFile(mapName))
	var got [][]string
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".pcap")
		t.Run(name, func(t *testing.T) {
			row, events := runCapture(t, path, cfg)
			got = append(got, row)
			if dir := filepath.Join("captures", name); exists(t, dir) {
				golden(t, filepath.Join(dir, "events-"+mapName+".txt"), events)
			}
			known, ok := want[row[0]]
			switch {
			case *update:
			case !ok:
				t.Logf("no line in %s: only what holds for every capture was checked (-update adds it)", summaryFile(mapName))
			default:
				if diff := gocmp.Diff(labelled(known), labelled(row)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", summaryFile(mapName), diff)
				}
			}
		})
	}
	if *update {
		for _, row := range got {
			want[row[0]] = row
		}
		writeSummary(t, summaryFile(mapName), want)
	}
}

// captureFiles lists the captures. That they are absent is no failure: they
// cannot be shipped.
func captureFiles(t *testing.T) []string {
	t.Helper()
	dir, named := os.LookupEnv(capturesVariable)
	switch {
	case !named:
		dir = capturesBeside
	case !filepath.IsAbs(dir):
		dir = filepath.Join("../..", dir)
	}
	if !named && !exists(t, dir) {
		t.Skipf("the public captures are not there: %s names no directory, and %s does not exist", capturesVariable, dir)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("%s holds no *.pcap (%s is an absolute path, or one from the top of the checkout)", dir, capturesVariable)
	}
	return files
}

// exists reports whether there is such a file or directory.
func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// runCapture replays one capture and returns its line of the summary.
func runCapture(t *testing.T, path string, cfg *policy.Config) (row []string, events string) {
	t.Helper()
	pcap, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := replay(filepath.Base(path), bytes.NewReader(pcap), cfg, capturePorts)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range out.faults {
		t.Error(f)
	}
	c := &out.counters
	number := func(n uint64) string { return fmt.Sprint(n) }
	return []string{
		filepath.Base(path), number(c.Packets), number(c.Sessions), number(c.Accepted), number(c.Edited), number(c.Held),
		drops(c), number(c.EndedByDrop + c.EndedByRST), lines(cfg, c),
	}, out.events.String()
}

// drops lists the reasons of drops with their counts.
func drops(c *engine.Counters) string {
	var list []string
	for reason, n := range c.Drops {
		if n > 0 {
			list = append(list, fmt.Sprintf("%s %d", engine.Reason(reason), n))
		}
	}
	return cmp.Or(strings.Join(list, ", "), "-")
}

// lines lists the policy lines that counted something.
func lines(cfg *policy.Config, c *engine.Counters) string {
	var list []string
	for _, l := range audit.Report(cfg, []engine.Counters{*c})[0].Lines {
		if l.Count > 0 {
			list = append(list, fmt.Sprintf("%s: %d", l.Line, l.Count))
		}
	}
	return cmp.Or(strings.Join(list, ", "), "-")
}

// labelled names the fields of a row.
func labelled(row []string) map[string]string {
	m := map[string]string{}
	for i, c := range columns {
		m[c] = row[i]
	}
	return m
}

// readSummary reads a summaryFile, by file name.
func readSummary(t *testing.T, path string) map[string][]string {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && *update {
		return map[string][]string{}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = '\t'
	r.FieldsPerRecord = len(columns)
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	byFile := map[string][]string{}
	for _, row := range rows[1:] {
		byFile[row[0]] = row
	}
	return byFile
}

// writeSummary writes a summaryFile.
func writeSummary(t *testing.T, path string, rows map[string][]string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(columns, "\t"))
	for _, file := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprintln(&b, strings.Join(rows[file], "\t"))
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
