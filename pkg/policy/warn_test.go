package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWarnings compares the warnings of each testdata/warnings/NAME.conf with
// NAME.txt; -update rewrites these.
func TestWarnings(t *testing.T) {
	files, err := filepath.Glob("testdata/warnings/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		compareGolden(t, strings.TrimSuffix(file, ".conf")+".txt", warnings(mustParse(t, string(text))))
	}
}

// TestWarningsOfShipped: the ASA's map has some, the modern one none.
func TestWarningsOfShipped(t *testing.T) {
	compareGolden(t, "testdata/warnings/default.txt", warnings(Default()))
	c := Default()
	c.Classes[0].Map = c.Map("modern_esmtp_map")
	if got := warnings(c); got != "" {
		t.Errorf("the modern map has warnings:\n%s", got)
	}
}

// warnings are those of a policy, a line each.
func warnings(c *Config) string {
	var b strings.Builder
	for _, w := range c.Warnings() {
		b.WriteString(w + "\n")
	}
	return b.String()
}
