package netns

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite testdata/lab.txt")

// unsteady is what differs from run to run of `smtpwall lab`, and what stands
// for it in the golden file.
var unsteady = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`diverted by the .*`), "diverted by WAY"},
	{regexp.MustCompile(`10\.9\.1\.2/\d+`), "10.9.1.2/PORT"},
	{regexp.MustCompile(`connection \d+ for`), "connection N for"},
	{regexp.MustCompile(`duration \d:\d\d:\d\d`), "duration TIME"},
	{regexp.MustCompile(`, packet \d+, drop`), ", packet N, drop"},
	{regexp.MustCompile(` +\n`), "\n"},
}

// The demonstration shows what it is for, to the letter: the reader of the
// golden file is the judge.
func TestLabCommand(t *testing.T) {
	const golden = "testdata/lab.txt"
	out, err := exec.Command(program(t), "lab", "--nft", "../../nft").CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, u := range unsteady {
		out = u.pattern.ReplaceAll(out, []byte(u.instead))
	}
	if *update {
		if err := os.WriteFile(golden, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(out)); diff != "" {
		t.Errorf("the output (-want +got):\n%s", diff)
	}
}
