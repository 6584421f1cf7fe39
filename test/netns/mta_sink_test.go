package netns

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// smtp-source sends 200 messages in 20 connections at once to smtp-sink, which
// keeps each in a file: all arrive, none is another.
func TestMTASourceSink(t *testing.T) {
	const sessions, messages, size = 20, 200, 500
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			before, address := len(w.allRecords(t)), net.JoinHostPort(f.server, "25")
			dir := sink(t, w.Lab, address)
			out, err := w.Command(lab.Client, "smtp-source", "-d", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(messages), "-l", fmt.Sprint(size),
				"-f", "alice@example.org", "-t", "bob@example.net", address).CombinedOutput()
			if err != nil {
				t.Fatalf("smtp-source: %v: %s", err, out)
			}
			checkSunk(t, dir, messages, size)
			count := func(text string) (n int) {
				for _, got := range lines(w.allRecords(t)[before:]) {
					if got == text {
						n++
					}
				}
				return n
			}
			// smtp-source ends a connection with a reset, behind QUIT and its reply.
			eventually(t, "all connections are torn down", func() bool { return count("teardown TCP Reset-O") == sessions })
			if all := len(w.allRecords(t)) - before; all != 2*sessions || count("built") != sessions {
				t.Errorf("%d audit records, %d of them built; want %d and %d", all, count("built"), 2*sessions, sessions)
			}
		})
	}
	w.checkCounts(t, counts{"mask-banner": 2 * sessions})
}

// sink starts smtp-sink on the lab's server, until the test ends, and returns
// the directory into which it writes messages. It listens when it answers a
// neighbour, that is one on this side of the firewall.
func sink(t *testing.T, l *lab.Lab, address string) string {
	t.Helper()
	dir := filepath.Join(openDir(t), "mail")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // it runs as nobody
		t.Fatal(err)
	}
	log := newLogBuffer("") // it says nothing
	program := l.Command(lab.Server, "smtp-sink", "-u", "nobody", "-d", dir+"/%s.", address, "100")
	program.Stdout, program.Stderr = log, log
	startProgram(t, program, log)
	eventually(t, "smtp-sink listens", func() bool {
		conn, err := l.Dial(lab.Server, address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return dir
}

// checkSunk compares the messages that smtp-sink has written: each one of its
// own, with the text that smtp-source makes of so many bytes.
func checkSunk(t *testing.T, dir string, messages, size int) {
	t.Helper()
	var want strings.Builder // lines of 80 bytes with their CR LF, which is LF here
	for i := range size / 80 {
		fmt.Fprintf(&want, "%d%s\n", i+1, strings.Repeat("X", 77))
	}
	want.WriteString(strings.Repeat("X", size%80) + "\n\n")
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != messages {
		t.Fatalf("%d messages arrived, want %d (%v)", len(files), messages, err)
	}
	ids := map[string]bool{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := strings.Cut(string(b), "\n\n")
		_, id, _ := strings.Cut(head, "Message-Id: ")
		ids[id] = true
		if body != want.String() {
			t.Fatalf("%s is\n%s\nwant as its text\n%s", name, b, &want)
		}
	}
	if len(ids) != messages {
		t.Errorf("%d messages are different, want %d", len(ids), messages)
	}
}
