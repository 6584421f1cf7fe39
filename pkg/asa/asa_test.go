package asa

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// TestGolden imports each testdata/NAME.cfg. NAME.golden has what the files hold
// behind the shipped text, without the default map, and what is listed.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".cfg")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := Import(name+".cfg", text)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(dump(r)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), dump(r)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// dump prints a result for a golden file.
func dump(r *Result) string {
	var b strings.Builder
	b.WriteString("== exempt.nft" + strings.TrimPrefix(r.ExemptNFT(), exemptFile))
	b.WriteString("== static.nft" + strings.TrimPrefix(r.StaticNFT(), staticFile))
	b.WriteString("== policy.conf\n" + strings.Replace(r.PolicyConf(), r.Policy.Map(policy.DefaultMapName).String(), "(default map)\n", 1))
	for _, part := range []struct {
		title    string
		findings []Finding
	}{{"warnings", r.Warnings}, {"lost", r.Lost}} {
		fmt.Fprintf(&b, "== %s\n", part.title)
		for _, f := range part.findings {
			fmt.Fprintf(&b, "%d: %s: %s\n", f.Line, f.Text, f.Reason)
		}
	}
	b.WriteString("== others\n")
	for _, o := range r.Others {
		fmt.Fprintf(&b, "%d: %s: %d\n", o.First, o.Word, o.Count)
	}
	return b.String()
}

// TestShippedFiles: what an import writes can take the place of the shipped
// files.
func TestShippedFiles(t *testing.T) {
	for name, text := range map[string]string{"exempt.nft": exemptFile, "static.nft": staticFile} {
		shipped, err := os.ReadFile("../../nft/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(shipped), text); diff != "" {
			t.Errorf("copy nft/%s to pkg/asa (-nft +pkg/asa):\n%s", name, diff)
		}
	}
}
