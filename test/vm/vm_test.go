// Package vm runs the namespace tests once more on a stock Debian kernel in
// QEMU, where the shipped nft files load unchanged: native `queue` statements,
// conntrack glue and netem (design.md section 9).
//
// It holds tests only: nothing may import it. It must never need a privilege or
// KVM, and must never touch the host's network: the guest has no device but its
// serial console.
package vm

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// root is the checkout, seen from this directory.
const root = "../.."

// limit is how long the guest of TestVM may take. It emulates every instruction: measured,
// computing is four times slower than on the host, and a connection nine times.
const limit = 11 * time.Minute

// suite is a Go test binary that runs in the guest.
type suite struct {
	dir     string // package directory in the checkout, and working directory below /smtpwall in the guest
	tags    string // build tags
	run     string // what -test.run selects
	timeout time.Duration
	flags   string // of the package's own
}

// TestVM runs what belongs to `make test`.
func TestVM(t *testing.T) {
	boot(t, limit,
		suite{dir: "test/vm", tags: "guest", run: "^TestGuest", timeout: 3 * time.Minute},
		suite{dir: "test/netns", run: "^Test(NFT|Live|Limit)", timeout: 9 * time.Minute})
}

// boot starts the guest, which runs the suites in their order, and reports each of
// its tests as a subtest. The whole console is the log of t, each line with the
// seconds since power-on.
func boot(t *testing.T, limit time.Duration, suites ...suite) {
	tree, out := t.TempDir(), t.TempDir()
	readSources(t)
	fillTree(t, tree, suites)
	run(t, root, "scripts/vm-image.sh", tree, out)

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	runtime.LockOSThread() // Pdeathsig is sent when the starting thread ends
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", qemuArgs(out)...)
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no guest outlives a killed test
	console, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	qemu.Stderr = qemu.Stdout
	start := time.Now()
	if err := qemu.Start(); err != nil {
		t.Fatalf("start QEMU: %v (apt-get install the packages of scripts/vm-packages.txt)", err)
	}
	err = readConsole(console, func(line string) {
		fmt.Fprintf(t.Output(), "vm %6.2f| %s\n", time.Since(start).Seconds(), line)
	}, func(r result) { report(t, r) })
	if err != nil {
		t.Error(err)
	}
	if ctx.Err() != nil {
		t.Errorf("the guest was stopped after %v", limit)
	}
	if err := qemu.Wait(); err != nil {
		t.Errorf("QEMU: %v", err)
	}
}

// report makes a subtest of a guest test's result.
func report(t *testing.T, r result) {
	t.Run(r.name, func(t *testing.T) {
		switch r.outcome {
		case "FAIL":
			t.Error("failed in the guest: its output is in the log of the guest")
		case "SKIP":
			t.Skip("skipped in the guest: the reason is in the log of the guest")
		}
	})
}

// qemuArgs boots the image in dir. -no-reboot with panic=-1 makes a panic end
// QEMU at once; loglevel keeps kernel messages out of the tests' lines (a panic
// and an oops are printed whatever it says).
func qemuArgs(dir string) []string {
	return []string{
		"-accel", "tcg", "-smp", "2", "-m", "1024M", "-nic", "none", "-nographic", "-no-reboot",
		"-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"),
		"-append", "console=ttyS0 quiet loglevel=1 panic=-1 oops=panic",
	}
}

// fillTree writes what the guest has besides the system: the checkout's files at
// the same relative paths below /smtpwall, the nft files where the package
// installs them, and the list of test binaries that scripts/vm-init.sh reads.
func fillTree(t *testing.T, tree string, suites []suite) {
	home := filepath.Join(tree, "smtpwall")
	build(t, "build", "-o", filepath.Join(home, "bin/smtpwall"), "./cmd/smtpwall")
	copyDir(t, filepath.Join(root, "nft"), filepath.Join(home, "nft"))
	copyDir(t, filepath.Join(root, "nft"), filepath.Join(tree, "etc/smtpwall"))
	var list strings.Builder
	for _, s := range suites {
		dir := filepath.Join(home, s.dir)
		build(t, "test", "-c", "-tags", s.tags, "-o", filepath.Join(dir, "go.test"), "./"+s.dir)
		if data := filepath.Join(root, s.dir, "testdata"); exists(data) {
			copyDir(t, data, filepath.Join(dir, "testdata"))
		}
		fmt.Fprintf(&list, "/smtpwall/%s %s %s %s\n", s.dir, s.run, s.timeout, s.flags)
	}
	if err := os.WriteFile(filepath.Join(tree, "tests"), []byte(list.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readSources looks at every file that the guest depends on: the go command
// caches a success until a file changes that this process looked at, and sees
// nothing of what its children read.
func readSources(t *testing.T) {
	for _, dir := range []string{"cmd", "nft", "pkg", "scripts", "test"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatalf("walk the sources: %v", err)
		}
	}
	if !exists(filepath.Join(root, "go.mod")) {
		t.Fatal("no go.mod: run the test in its checkout")
	}
}

// build runs the go command for a static binary, which needs nothing of the guest.
func build(t *testing.T, args ...string) {
	t.Helper()
	run(t, root, "env", append([]string{"CGO_ENABLED=0", "go"}, args...)...)
}

// run runs a command in dir; its failure ends the test with its output.
func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("run %s: %v\n%s", cmd, err, out)
	}
}

// copyDir copies a directory that is not there yet.
func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatalf("copy %s into the guest: %v", from, err)
	}
}

// exists tells whether there is a file at path.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
