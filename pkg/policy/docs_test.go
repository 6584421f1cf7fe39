package policy

import (
	"os"
	"strings"
	"testing"
)

// docs/policy.md names every line of the language.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	docs := string(text)
	for _, c := range commands {
		if !strings.Contains(docs, c.word) {
			t.Errorf("docs/policy.md does not know %q", c.word)
		}
	}
	for _, c := range criteria {
		// "length" and "line length" of one thing share a row.
		thing, what, _ := strings.Cut(c.words, " ")
		if !strings.Contains(docs, "`"+thing+" ") || !strings.Contains(docs, what) {
			t.Errorf("docs/policy.md does not know %q", c.words)
		}
	}
	for _, words := range [][]string{keywords, encodings, connectionWords} {
		for _, w := range words {
			if !strings.Contains(docs, w) {
				t.Errorf("docs/policy.md does not know %q", w)
			}
		}
	}
}
