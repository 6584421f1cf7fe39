package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/tcp.md names exists, and it names every test of a TCP
// trick and each case T1-T27 once.
func TestTCPDocs(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(filepath.Join(root, "docs", "tcp.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllStringSubmatch(string(text), -1) {
			declared[m[1]] = true
		}
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`Test\w+`).FindAllString(string(doc), -1) {
		named[name] = true
		if !declared[name] {
			t.Errorf("docs/tcp.md names %s, which does not exist", name)
		}
	}
	for name := range declared {
		if strings.HasPrefix(name, "TestTCP") && name != "TestTCPDocs" && !named[name] {
			t.Errorf("docs/tcp.md does not name %s", name)
		}
	}
	for n := 1; n <= 27; n++ {
		row := regexp.MustCompile(fmt.Sprintf(`(?m)^\| T%d .*\| TestTCP%02d\w+ \|`, n, n))
		if rows := row.FindAll(doc, -1); len(rows) != 1 {
			t.Errorf("docs/tcp.md has %d rows of T%d with its test, want 1", len(rows), n)
		}
	}
	if n := strings.Count(string(doc), "\n"); n > 120 {
		t.Errorf("docs/tcp.md has %d lines, want 120 at most", n)
	}
}
