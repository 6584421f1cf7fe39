package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// result is the outcome of one test in the guest.
type result struct {
	name    string
	outcome string // PASS, FAIL or SKIP
}

// What the guest's lines mean. With -test.v=test2json a test binary puts 0x16
// before each line of its own account, which a test's output cannot forge by
// accident.
var (
	reportLine  = regexp.MustCompile(`^ *\x16 *--- (PASS|FAIL|SKIP): (\S+) \(`)
	verdictLine = regexp.MustCompile(`^VM-RESULT (pass|fail) (\d+)$`)
	escapes     = regexp.MustCompile(`\x1b(c|\[[?0-9;]*[A-Za-z])`) // the BIOS clears the screen
)

// readConsole reads the serial console to its end, passing on each line and each
// result. It returns an error unless the guest's verdict is pass and the account
// bears it out.
func readConsole(console io.Reader, line func(string), each func(result)) error {
	var verdict []string
	var passed, failed, idle int
	var panicked string
	lines := bufio.NewScanner(console)
	for lines.Scan() {
		text := escapes.ReplaceAllString(strings.TrimRight(lines.Text(), "\r"), "")
		if m := reportLine.FindStringSubmatch(text); m != nil {
			each(result{m[2], m[1]})
			switch m[1] {
			case "PASS":
				passed++
			case "FAIL":
				failed++
			}
		}
		if m := verdictLine.FindStringSubmatch(text); m != nil {
			verdict = m
		}
		if strings.Contains(text, "testing: warning: no tests to run") {
			idle++
		}
		if strings.Contains(text, "Kernel panic") {
			panicked = text
		}
		if !strings.HasPrefix(text, "\x16=== NAME") { // says whose output follows; here it stands in order
			line(strings.ReplaceAll(text, "\x16", ""))
		}
	}
	switch err := lines.Err(); {
	case err != nil:
		return fmt.Errorf("read the guest's console: %w", err)
	case panicked != "":
		return errors.New("the guest's kernel panicked: " + panicked)
	case verdict == nil:
		return errors.New("the guest ended without VM-RESULT: it was stopped or did not boot")
	case verdict[1] != "pass":
		return fmt.Errorf("%s test binaries failed in the guest", verdict[2])
	case failed > 0:
		return fmt.Errorf("the guest's verdict is pass, but %d of its tests failed", failed)
	case passed == 0 || idle > 0:
		return errors.New("a test binary ran no test: the pattern of its suite matches nothing")
	}
	return nil
}

// TestReadConsole shows every way a guest can end.
func TestReadConsole(t *testing.T) {
	const pass = "\x16=== RUN   TestA\r\n\x16--- PASS: TestA (0.01s)\r\n"
	a := result{"TestA", "PASS"}
	tests := []struct {
		name    string
		console string
		results []result
		err     string // a part of it; empty is none
	}{
		{"pass", "\x1bc\x1b[?7l\x1b[2J\r\n" + pass + "VM-RESULT pass 0\r\n", []result{a}, ""},
		{"power-off message behind it", pass + "VM-RESULT pass 0\r\n[ 3.1] reboot: Power down\r\n", []result{a}, ""},
		{"subtests", "    \x16--- PASS: TestA/x (0.00s)\n" + pass + "VM-RESULT pass 0\n", []result{{"TestA/x", "PASS"}, a}, ""},
		{"a skip is no pass", "\x16--- SKIP: TestA (0.00s)\nVM-RESULT pass 0\n", []result{{"TestA", "SKIP"}}, "no test"},
		{"fail", pass + "\x16--- FAIL: TestB (0.10s)\nVM-RESULT fail 1\n", []result{a, {"TestB", "FAIL"}}, "1 test binaries failed"},
		{"failed without a report", pass + "panic: x\nVM-RESULT fail 1\n", []result{a}, "1 test binaries failed"},
		{"verdict against the account", pass + "\x16--- FAIL: TestB (0.10s)\nVM-RESULT pass 0\n", []result{a, {"TestB", "FAIL"}}, "1 of its tests failed"},
		{"output is no report", "--- FAIL: TestA (0.00s)\n" + pass + "VM-RESULT pass 0\n", []result{a}, ""},
		{"nothing ran", "VM-RESULT pass 0\n", nil, "no test"},
		{"one binary ran nothing", pass + "testing: warning: no tests to run\nVM-RESULT pass 0\n", []result{a}, "no test"},
		{"stopped", pass, []result{a}, "without VM-RESULT"},
		{"did not boot", "", nil, "without VM-RESULT"},
		{"verdict inside a line", pass + "say VM-RESULT pass 0\n", []result{a}, "without VM-RESULT"},
		{"panic", pass + "[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\n", []result{a}, "Attempted to kill init"},
		{"panic at power-off", pass + "VM-RESULT pass 0\n[ 1.0] Kernel panic - not syncing: Oops\n", []result{a}, "Oops"},
		{"endless line", strings.Repeat("x", 1<<17), nil, "too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var results []result
			err := readConsole(strings.NewReader(tt.console), func(line string) {
				if strings.ContainsAny(line, "\x16\x1b\r") {
					t.Errorf("line %q carries control bytes", line)
				}
			}, func(r result) { results = append(results, r) })
			if diff := cmp.Diff(tt.results, results, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if got := fmt.Sprint(err); tt.err == "" && err != nil || !strings.Contains(got, tt.err) {
				t.Errorf("error %q, want %q", got, tt.err)
			}
		})
	}
}
