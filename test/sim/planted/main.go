// Command planted shows that the simulator finds bugs: it plants one at a time
// into the engine and plays schedules until one of them breaks an invariant.
// `make planted`.
//
// The sources stay as they are: a changed file is laid over its original for one
// build (go build -overlay).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bug is a change of one place in a source file.
type bug struct {
	name, file string
	old, new   string // old stands in the file exactly once
}

func main() {
	n := flag.Int("n", 20000, "schedules for each bug")
	seed := flag.Int("seed", 1, "seed of the first")
	only := flag.String("only", "", "plant only bugs whose name holds this")
	flag.Parse()
	// What the engine does wrong by itself would pass for the planted bug.
	if found, err := plant(bug{}, *n, *seed); err != nil || found != "" {
		fmt.Fprintf(os.Stderr, "planted: without a bug, which must find nothing: %v %s\n", err, found)
		os.Exit(1)
	}
	missed := 0
	for _, b := range bugs {
		if !strings.Contains(b.name, *only) {
			continue
		}
		found, err := plant(b, *n, *seed)
		switch {
		case err != nil:
			missed++
			found = "NOT PLANTED: " + err.Error()
		case found == "":
			missed++
			found = "NOT FOUND"
		}
		fmt.Printf("%-45s %s\n", b.name, found)
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "planted: %d bugs not found, or not planted\n", missed)
		os.Exit(1)
	}
}

// plant plays schedules against an engine with the bug, if it has a file, and
// returns what was found first; nothing is the empty string.
func plant(b bug, n, seed int) (found string, err error) {
	dir, err := os.MkdirTemp("", "smtpwall-planted-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the changed file: %w", err)
	}
	defer os.RemoveAll(dir)
	overlay := ""
	if b.file != "" {
		if overlay, err = lay(b, dir); err != nil {
			return "", err
		}
	}
	program := filepath.Join(dir, "simulate")
	if out, err := exec.Command("go", "build", "-overlay", overlay, "-o", program, "./test/sim/simulate").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with the bug: %w\n%s", err, out)
	}
	out, err := exec.Command(program, "-n", fmt.Sprint(n), "-seed", fmt.Sprint(seed), "-first").CombinedOutput()
	if err == nil {
		return "", nil
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "seed ") || strings.HasPrefix(line, "panic: ") {
			return strings.TrimSpace(line), nil
		}
	}
	return "", fmt.Errorf("play schedules: %w\n%s", err, out)
}

// lay writes the changed file and the overlay that puts it over its original.
func lay(b bug, dir string) (overlay string, err error) {
	text, err := os.ReadFile(b.file)
	if err != nil {
		return "", fmt.Errorf("%w; run it in the module's directory", err)
	}
	if n := strings.Count(string(text), b.old); n != 1 {
		return "", fmt.Errorf("the place stands %d times in %s: adapt test/sim/planted/bugs.go", n, b.file)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), b.old, b.new, 1)), 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(b.file)
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o600)
}
