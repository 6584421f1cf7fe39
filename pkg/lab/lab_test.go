package lab

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseDivert(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []target
		err        string
	}{
		{"symhash", "add rule inet smtpwall divert queue to symhash mod 4\n", []target{{"divert", 0, 4, false}}, ""},
		{"offset", "add rule inet smtpwall divert queue to symhash mod 2 offset 8\n", []target{{"divert", 8, 2, false}}, ""},
		{"number", "add rule inet smtpwall divert_syn queue num 4\n", []target{{"divert_syn", 4, 1, false}}, ""},
		{"bypass", "add rule inet smtpwall divert queue flags bypass to symhash mod 4\nadd rule inet smtpwall divert_syn queue flags bypass to 4\n", []target{{"divert", 0, 4, true}, {"divert_syn", 4, 1, true}}, ""},
		{"comment", "# add rule inet smtpwall divert queue num 4\n", nil, "no queue statement"},
		{"too high", "add rule inet smtpwall divert queue num 65536\n", nil, "out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseDivert(c.text)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(target{})); d != "" {
				t.Errorf("want (-), got (+):\n%s", d)
			}
		})
	}
}

// The shipped files divert to the queues of the built-in policy.
func TestShippedDivert(t *testing.T) {
	for name, bypass := range map[string]bool{divertFile: false, openFile: true} {
		text, err := os.ReadFile("../../nft/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseDivert(string(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := []target{{"divert", 0, 4, bypass}, {"divert_syn", 4, 1, bypass}}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(target{})); d != "" {
			t.Errorf("%s: want (-), got (+):\n%s", name, d)
		}
	}
}

func TestParseQueues(t *testing.T) {
	got, err := parseQueues(strings.NewReader("    0  31337     2 2 65531     5     7      913  1\n65535 4294966263 0 2 0 0 0 0 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Queue{{ID: 0, Waiting: 2, Dropped: 5, UserDropped: 7, Packets: 913}, {ID: 65535}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
	if _, err := parseQueues(strings.NewReader("nonsense\n")); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestParseSNMP(t *testing.T) {
	const text = "Ip: A InCsumErrors\nIp: 1 2\nTcp: RtoMin MaxConn InCsumErrors\nTcp: 200 -1 17\n"
	if n, err := parseSNMP(strings.NewReader(text), "Tcp:", "InCsumErrors"); n != 17 || err != nil {
		t.Errorf("got %d, %v, want 17", n, err)
	}
	if _, err := parseSNMP(strings.NewReader(text), "Udp:", "InCsumErrors"); err == nil {
		t.Error("a missing value was accepted")
	}
}

// The client reaches the server through the firewall, at once and by both
// families; Close leaves nothing.
func TestLab(t *testing.T) {
	l, err := New("lab")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for h := range numHosts {
		names = append(names, l.Namespace(h))
	}
	for _, server := range []string{ServerIP4, ServerIP6} {
		if err := hello(l, server); err != nil {
			t.Errorf("%s: %v", server, err)
		}
	}
	if n, err := l.TCPChecksumErrors(Server); n != 0 || err != nil {
		t.Errorf("checksum errors: %d, %v", n, err)
	}
	if _, err := New("lab"); err == nil || !strings.Contains(err.Error(), "is a lab of this name running") {
		t.Errorf("a second lab of the same name: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for _, n := range names {
		if _, err := os.Stat("/run/netns/" + n); err == nil {
			t.Errorf("namespace %s is left", n)
		}
	}
	if _, err := os.Stat(l.dir); err == nil {
		t.Errorf("directory %s is left", l.dir)
	}
}

// hello sends a word from the client to the server.
func hello(l *Lab, server string) error {
	ln, err := l.Listen(Server, net.JoinHostPort(server, "0"))
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_, _ = io.WriteString(conn, "hello")
			_ = conn.Close()
		}
	}()
	conn, err := l.Dial(Client, ln.Addr().String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, 5))
	return err
}
