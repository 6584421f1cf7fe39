package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// TestCheckPolicy: a summary of a good file, every error of a bad one.
func TestCheckPolicy(t *testing.T) {
	good := defaultCopy(t)
	stdout, stderr, err := call(newCheckCommand(), "", "--policy", good)
	want := "policy " + good + ": OK, 1 map: _default_esmtp_map\n  class inspection_default: queues 0-3 inspected by _default_esmtp_map, 7 match lines\n"
	stdout, _, _ = strings.Cut(stdout, "warning: ")
	if err != nil || stderr != "" || stdout != want {
		t.Errorf("%v, %s\n got %s\nwant %s", err, stderr, stdout, want)
	}

	tcp := file(t, "tcp.conf", []byte("tcp-map norm\npolicy-map p\n class a\n  inspect esmtp\n  set connection advanced-options norm\n class b\n  inspect esmtp\n"+
		"class-map a\n match queue 0-3\nclass-map b\n match queue 4\nservice-policy p global\n"))
	stdout, _, err = call(newCheckCommand(), "", "--policy", tcp)
	want = "policy " + tcp + ": OK, 1 map: _default_esmtp_map\n  class a: queues 0-3 inspected by _default_esmtp_map, 7 match lines, tcp-map norm\n" +
		"  class b: queues 4-4 inspected by _default_esmtp_map, 7 match lines\n"
	stdout, _, _ = strings.Cut(stdout, "warning: ")
	if err != nil || stdout != want {
		t.Errorf("%v\n got %s\nwant %s", err, stdout, want)
	}

	limits := file(t, "limits.conf", []byte("policy-map p\n class a\n  set connection per-client-max 5 conn-max 50\n class b\n  inspect esmtp\n  set connection conn-max 50\n"+
		"class-map a\n match queue 4\nclass-map b\n match queue 0-3\nservice-policy p global\n"))
	stdout, _, err = call(newCheckCommand(), "", "--policy", limits)
	want = "policy " + limits + ": OK, 1 map: _default_esmtp_map\n  class a: inspects nothing, conn-max 50 per-client-max 5\n" +
		"  class b: queues 0-3 inspected by _default_esmtp_map, 7 match lines, conn-max 50\n"
	stdout, _, _ = strings.Cut(stdout, "warning: ")
	if err != nil || stdout != want {
		t.Errorf("%v\n got %s\nwant %s", err, stdout, want)
	}

	bad := file(t, "bad.conf", []byte("policy-map type inspect esmtp m\n parameters\n  mask-banners\n match cmd line length gt 0\n  log\n"))
	stdout, stderr, err = call(newCheckCommand(), "", "--policy", bad)
	if err == nil || !strings.HasPrefix(err.Error(), "check policy "+bad+": ") || !strings.HasSuffix(err.Error(), " errors") || stdout != "" {
		t.Errorf("%v\n%s", err, stdout)
	}
	for _, place := range []string{bad + ":3:3: ", bad + ":4:27: "} {
		if !strings.Contains(stderr, place) {
			t.Errorf("no error at %s in:\n%s", place, stderr)
		}
	}

	if _, _, err = call(newCheckCommand(), "", "--policy", "/nonexistent.conf"); err == nil || err.Error() != "read policy: open /nonexistent.conf: no such file or directory" {
		t.Errorf("a named file that is missing: %v", err)
	}
}

// TestCheckWarnings: what will hurt stands behind the summary, and is no error;
// of a map that nothing inspects with nothing is said.
func TestCheckWarnings(t *testing.T) {
	for _, tt := range []struct {
		name, conf string
		warns      bool
	}{
		{"the default map hides banner and STARTTLS", "", true},
		{"a map that hides nothing", "policy-map type inspect esmtp m\n parameters\n  allow-tls\n", false},
	} {
		text, inspect := tt.conf, "m"
		if text == "" {
			inspect = ""
		}
		text += "policy-map global_policy\n class c\n  inspect esmtp " + inspect + "\nclass-map c\n match queue 0\nservice-policy global_policy global\n"
		cfg, err := policy.Parse("test", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var want string
		for _, w := range cfg.Warnings() {
			want += "warning: " + w + "\n"
		}
		if (want != "") != tt.warns {
			t.Errorf("%s: the policy's warnings are %q", tt.name, want)
		}
		stdout, stderr, err := call(newCheckCommand(), "", "--policy", file(t, "policy.conf", []byte(text)))
		_, classes, _ := strings.Cut(stdout, "\n")
		_, got, _ := strings.Cut(classes, "\n")
		if err != nil || stderr != "" || got != want {
			t.Errorf("%s: %v, %s\n got %s\nwant %s", tt.name, err, stderr, got, want)
		}
	}
}

// TestIncludesFrom: the includes of the directory in hand, line by line.
func TestIncludesFrom(t *testing.T) {
	const text = "table inet t {}\ninclude \"smtpwall/site.nft\"\n  include \"smtpwall/static.nft\" # maps\n# include \"smtpwall/x.nft\"\ninclude \"/etc/other.nft\"\n"
	const want = "table inet t {}\ninclude \"/d/site.nft\"\ninclude \"/d/static.nft\" # maps\n# include \"smtpwall/x.nft\"\ninclude \"/etc/other.nft\"\n"
	if got := string(includesFrom([]byte(text), "/d")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestCheckNft: nft's verdict and its lines, with the name of the file.
func TestCheckNft(t *testing.T) {
	conf := defaultCopy(t)
	bad := file(t, "smtpwall.nft", []byte("table inet smtpwall_check {\n chain a { nonsense; }\n}\n"))
	dir := strings.TrimSuffix(bad, "/smtpwall.nft")
	stdout, stderr, err := call(newCheckCommand(), "", "--policy", conf, "--nft", dir)
	if err == nil || !strings.Contains(stderr, bad+":2:") || !strings.Contains(stdout, "policy "+conf+": OK") {
		t.Errorf("%v\n%s%s", err, stderr, stdout)
	}
	good := file(t, "smtpwall.nft", []byte("table inet smtpwall_check {\n chain a { accept; }\n}\n"))
	dir = strings.TrimSuffix(good, "/smtpwall.nft")
	stdout, stderr, err = call(newCheckCommand(), "", "--policy", conf, "--nft", dir)
	if err != nil || !strings.HasSuffix(stdout, "nft "+good+": OK\n") {
		t.Errorf("nft --check needs CAP_NET_ADMIN and the package nftables: %v\n%s", err, stderr)
	}
	// What nft says of a statement whose module is missing, and of a chain that is.
	for statement, module := range map[string]string{"queue num 4": "nft_queue", "synproxy mss 1460 wscale 7": "nft_synproxy"} {
		missing := file(t, "smtpwall.nft", []byte("add rule inet smtpwall_check nowhere "+statement+"\n"))
		_, _, err = call(newCheckCommand(), "", "--policy", conf, "--nft", strings.TrimSuffix(missing, "/smtpwall.nft"))
		if err == nil || !strings.Contains(err.Error(), "a kernel with the module "+module) {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if _, _, err = call(newCheckCommand(), "", "--policy", conf, "--nft", t.TempDir()); err == nil || !strings.Contains(err.Error(), "smtpwall.nft: no such file") {
		t.Errorf("no main file: %v", err)
	}
}

// TestCheckStatic: what in static.nft nft leaves alone. Limits that cannot be read
// are errors, the rest are warnings; each has its line.
func TestCheckStatic(t *testing.T) {
	const main = "table inet smtpwall_check { }\n"
	for _, c := range []struct {
		name, static   string
		stdout, stderr string // FILE stands for static.nft
		err            string
	}{
		{"nothing to say", "add element inet smtpwall static4 { 1.1.1.1 comment \"tcp 100 50\" : 1.1.1.1 }\n", "", "", ""},
		{"a malformed limit", "\nadd element inet smtpwall static4 { 1.1.1.1 comment \"tcp many\" : 1.1.1.1 }\n", "",
			"FILE:2: element { 1.1.1.1 comment \"tcp many\" : 1.1.1.1 } of map static4: comment: want \"tcp MAX EMBRYONIC\", two numbers; 0 is no limit; nothing is limited: correct it in static.nft and load that with `nft -f /etc/smtpwall/static.nft`\n",
			"check nft files: FILE: 1 error"},
		{"warnings", "add element inet smtpwall static4 { 1.1.1.1 comment \"tcp 50 100\" : 192.168.1.1 }\n",
			"warning: FILE:1: element { 1.1.1.1 comment \"tcp 50 100\" : 192.168.1.1 } of map static4: half-open connections can never reach the embryonic limit 100 first: the limit of all is 50, where SYN cookies begin; write an embryonic limit below it, or comment \"tcp 100 50\" if the two stand in the wrong order\n" +
				"warning: FILE:1: element { 1.1.1.1 comment \"tcp 50 100\" : 192.168.1.1 } of map static4: map rstatic4 has no reverse of it, so that connections of the host itself keep its local address: add { 192.168.1.1 : 1.1.1.1 } there\n", "", ""},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "static.nft")
		for name, text := range map[string]string{"smtpwall.nft": main, "static.nft": c.static} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stdout, stderr, err := call(newCheckCommand(), "", "--policy", defaultCopy(t), "--nft", dir)
		var text string
		if err != nil {
			text = err.Error()
		}
		named := func(s string) string { return strings.ReplaceAll(s, "FILE", path) }
		at := strings.Index(stdout, "warning: "+path)
		if at < 0 {
			at = strings.Index(stdout, "nft ")
		}
		if want := named(c.stdout) + "nft " + filepath.Join(dir, "smtpwall.nft") + ": OK\n"; stdout[max(at, 0):] != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, stdout, want)
		}
		if stderr != named(c.stderr) || text != named(c.err) {
			t.Errorf("%s: error %q, printed %q; want %q, %q", c.name, text, stderr, named(c.err), named(c.stderr))
		}
	}
}

// TestVersion: what the build recorded.
func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.1.0"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.modified", Value: "true"}}}
	if got, want := version(info), "smtpwall v0.1.0 commit abc modified go1.26.0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := version(nil); got == "" {
		t.Error("no version without build information")
	}
	if out, _, err := call(newVersionCommand(), ""); err != nil || !strings.HasPrefix(out, "smtpwall ") {
		t.Errorf("%q, %v", out, err)
	}
}
