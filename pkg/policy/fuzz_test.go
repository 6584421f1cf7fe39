package policy

import (
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzPrintParse: a file gives a Config or errors that point into it, never
// both; a Config that was printed and parsed is the same.
func FuzzPrintParse(f *testing.F) {
	seeds, err := filepath.Glob("testdata/bad/*.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(seeds, "testdata/design-default.conf") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(several + frame("")))
	f.Add([]byte(defaultText))
	f.Add([]byte(limited("  set connection conn-max 50 embryonic-conn-max 100\n", "  set connection per-client-max 5\n  set connection per-client-embryonic-max 0\n")))
	f.Add([]byte(limited("  set connection conn-max 1\n  set connection conn-max 2000000\n", "  set connection conn-max 0 timeout\n")))
	for seed := range int64(5) {
		f.Add([]byte(generate(rand.New(rand.NewSource(seed))).String()))
	}
	f.Add([]byte(frame(" description  a  b\t\n parameters\n  allow-tls action log\n  bare-newline mask log\n  pipelining allow\n  tls-injection reset\n  auth-line-length 1\n")))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("fuzz.conf", text)
		if err != nil {
			checkErrors(t, c, err.(Errors), text)
			return
		}
		printed := c.String()
		again, err := Parse("printed.conf", []byte(printed))
		if err != nil {
			t.Fatalf("parse what String printed:\n%v\n%s", err, printed)
		}
		if diff := cmp.Diff(c, again, sameConfig); diff != "" {
			t.Errorf("parsed again (-first +second):\n%s", diff)
		}
		c.Warnings()
		for _, m := range c.Maps {
			for measure, limits := range m.Rules().Limits {
				if !slices.IsSorted(limits) || len(slices.Compact(limits)) != len(m.index.bounds[measure]) {
					t.Errorf("map %s, measure %d: limits %v are not ascending and unique", m.Name, measure, limits)
				}
			}
		}
	})
}

// checkErrors wants errors that stand in the file, in order.
func checkErrors(t *testing.T, c *Config, errs Errors, text []byte) {
	t.Helper()
	if c != nil || len(errs) == 0 {
		t.Fatalf("config %v and %d errors", c, len(errs))
	}
	lines := 1
	for _, b := range text {
		if b == '\n' {
			lines++
		}
	}
	for i, e := range errs {
		if e.Line > lines || (e.Line == 0) != (e.Col == 0) || e.Word == "" || e.Problem == "" {
			t.Errorf("error %d of a file of %d lines: %+v", i, lines, e)
		}
		if i > 0 && e.Line != 0 && e.Line < errs[i-1].Line {
			t.Errorf("line %d is reported behind line %d", e.Line, errs[i-1].Line)
		}
	}
}
