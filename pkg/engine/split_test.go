package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// flight is what one side sends before the other speaks.
type flight struct {
	dir  flow.Dir
	data string
}

// readTranscript reads a dialogue of "C: " and "S: " lines.
func readTranscript(t *testing.T, file string) (fs []flight) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		dir, data := side(line), line[min(3, len(line)):]
		data = strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\0`, "\x00").Replace(data) + "\r\n"
		if n := len(fs); n > 0 && fs[n-1].dir == dir {
			fs[n-1].data += data
			continue
		}
		fs = append(fs, flight{dir, data})
	}
	return fs
}

// piece is a segment of a flight: octets [from, to).
type piece struct{ from, to int }

// play sends flights cut into pieces; every flight is acknowledged in the end.
func play(t *testing.T, fs []flight, cut func(n int) []piece) *wireTest {
	w := connect(t, Options{})
	for _, f := range fs {
		pos := w.sent[f.dir]
		for _, p := range cut(len(f.data)) {
			w.sent[f.dir] = max(w.sent[f.dir], pos+p.to)
			w.raw(f.dir, w.at(f.dir, pos+p.from, f.data[p.from:p.to]))
		}
		w.ack(f.dir)
	}
	w.done()
	return w
}

func inOne(n int) []piece { return []piece{{0, n}} }

func byByte(n int) (ps []piece) {
	for i := range n {
		ps = append(ps, piece{i, i + 1})
	}
	return ps
}

// again sends every seventh octet, then all of the flight so far once more: the
// borders of the repetition are others than those of the first time.
func again(n int) (ps []piece) {
	for i := 0; i < n; i += 7 {
		end := min(i+7, n)
		ps = append(ps, piece{i, end}, piece{max(0, i-10), end}, piece{0, min(end, i+3)})
	}
	return ps
}

// backwards sends the pieces of a flight in reverse order.
func backwards(n int) (ps []piece) {
	step := max(1, n/20)
	for i := (n - 1) / step * step; i >= 0; i -= step {
		ps = append(ps, piece{i, min(i+step, n)})
	}
	return ps
}

func TestSplitInvariance(t *testing.T) {
	files, _ := filepath.Glob("testdata/transcripts/*.txt")
	if len(files) < 5 {
		t.Fatalf("only %d transcripts", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			fs := readTranscript(t, file)
			want := play(t, fs, inOne)
			total := 0
			for _, f := range fs {
				total += len(f.data)
			}
			check := func(name string, cut func(int) []piece) {
				t.Helper()
				got := play(t, fs, cut)
				if diff := cmp.Diff(want.log(), got.log()); diff != "" {
					t.Fatalf("%s: events (-whole +split):\n%s", name, diff)
				}
				for dir := range got.got {
					compareDelivered(t, name, fs, flow.Dir(dir), string(want.got[dir].bytes), string(got.got[dir].bytes))
				}
			}
			check("byte by byte", byByte)
			check("with repetitions", again)
			check("backwards", backwards)
			for at := 1; at < total; at++ {
				rest := at
				check(fmt.Sprintf("cut at %d", at), func(n int) []piece {
					defer func() { rest -= n }()
					if 0 < rest && rest < n {
						return []piece{{0, rest}, {rest, n}}
					}
					return inOne(n)
				})
			}
		})
	}
}

// compareDelivered compares what a receiver got. Split, it may have got the
// first octets of a masked line before the line was known, and octets of the
// packet that ended the session.
func compareDelivered(t *testing.T, name string, fs []flight, dir flow.Dir, whole, split string) {
	t.Helper()
	sent := ""
	for _, f := range fs {
		if f.dir == dir {
			sent += f.data
		}
	}
	if len(split) < len(whole) || len(split) > len(sent) {
		t.Fatalf("%s: delivered %d octets, whole %d, sent %d", name, len(split), len(whole), len(sent))
	}
	for i := range whole {
		masked := whole[i] != sent[i]
		if split[i] != whole[i] && !(masked && (split[i] == sent[i] || split[i] == 'X')) {
			t.Fatalf("%s: octet %d is %q, whole %q, sent %q", name, i, split[i], whole[i], sent[i])
		}
	}
}
