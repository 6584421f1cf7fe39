package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// documentExample is the configuration of Cisco's document 117801 as it is
// printed there: `host` is missing, and so is all indentation.
const documentExample = "../../pkg/asa/testdata/document.cfg"

// TestImportDocument imports the example: what is printed, and files that nft
// loads in the place of the shipped ones.
func TestImportDocument(t *testing.T) {
	const in = documentExample
	dir := filepath.Join(t.TempDir(), "new")
	stdout, stderr, err := call(newImportCommand(), "", "asa", in, "--out", dir)
	if err != nil || stderr != "" {
		t.Fatal(err, stderr)
	}
	want := "wrote " + dir + `/exempt.nft: 1 exempt host or network
wrote ` + dir + `/static.nft: 1 static mapping
wrote ` + dir + `/policy.conf: inspection by _default_esmtp_map

carried over with a difference:
asa.cfg:1: access-list ironport_esa_internal extended permit ip any 192.168.1.1: host is missing before 192.168.1.1: taken as one host
asa.cfg:2: access-list ironport_esa_internal extended permit ip 192.168.1.1 any: host is missing before 192.168.1.1: taken as one host
asa.cfg:4: match address ironport_esa_internal: match address is not the ASA's word: taken as match access-list
asa.cfg:5: policy-map global_policy: no service-policy in the file applies it: taken as applied
asa.cfg:5: policy-map global_policy: no class in it has inspect esmtp: policy.conf inspects all mail, by the default map
asa.cfg:8: static (inside,outside) 1.1.1.1 192.168.1.1 netmask 255.255.255.255 tcp 50 100: 100 half-open connections can never be reached before 50 connections, as half-open ones count too: SYN cookies begin at 50; write an embryonic limit below 50

no nameif in the file: records name the kernel's interfaces and call every connection inbound,
until policy.conf names inside, outside: comments in it show where
`
	if diff := cmp.Diff(strings.ReplaceAll(want, "asa.cfg:", in+":"), stdout); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, _, err := call(newCheckCommand(), "", "--policy", filepath.Join(dir, "policy.conf")); err != nil {
		t.Error(err)
	}
	loads(t, dir, map[string]string{
		"exempt4":  `192.168.1.1 comment "ironport_esa_internal"`,
		"static4":  `1.1.1.1 comment "tcp 50 100" : 192.168.1.1`,
		"rstatic4": `192.168.1.1 : 1.1.1.1`,
	})
}

// TestImportLoads: the files of each configuration that pkg/asa is tested with,
// networks and IPv6 among them.
func TestImportLoads(t *testing.T) {
	const testdata = "../../pkg/asa/testdata/"
	for name, elements := range map[string]map[string]string{
		"denied.cfg": {"exempt4": "10.8.0.0/16", "static4net": `203.0.113.64/26 comment "tcp 500 20" : 192.168.7.64/26`},
		"object.cfg": {"exempt6": "fd00:1::25", "static6": "2001:db8::25 : fd00:1::25", "rstatic4net": "10.40.0.0/24 : 203.0.113.0/24"},
		"pix.cfg":    {"exempt4": "", "static4": "1.1.1.2 : 192.168.1.1", "rstatic4": "192.168.4.4 : 192.168.4.4"},
	} {
		dir := t.TempDir()
		if _, _, err := call(newImportCommand(), "", "asa", testdata+name, "--out", dir); err != nil {
			t.Fatal(name, err)
		}
		loads(t, dir, elements)
	}
}

// loads loads the ruleset with the files of dir, twice as an operator may, and
// wants an element in each of the sets.
func loads(t *testing.T, dir string, elements map[string]string) {
	t.Helper()
	l, err := lab.New("import")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	opt := lab.Options{Files: map[string]string{}}
	for _, name := range []string{"exempt.nft", "static.nft"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		opt.Files[name] = string(text)
	}
	for range 2 {
		if _, err := l.LoadRuleset("../../nft", opt); err != nil {
			t.Fatal(err)
		}
	}
	opt.Check = true
	if _, err := l.LoadRuleset("../../nft", opt); err != nil {
		t.Error(err)
	}
	for set, element := range elements {
		kind := "map"
		if strings.HasPrefix(set, "exempt") {
			kind = "set"
		}
		listed, err := l.NFT("list", kind, "inet", "smtpwall", set)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(listed, element) || strings.Contains(listed, "elements") != (element != "") {
			t.Errorf("want %q in %s", element, listed)
		}
	}
}

// TestImportWrites: all files or none, and nothing of the operator's is
// overwritten unasked.
func TestImportWrites(t *testing.T) {
	const in = documentExample
	names := func(dir string) (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	dir := t.TempDir()
	static := filepath.Join(dir, "static.nft")
	if err := os.WriteFile(static, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err := call(newImportCommand(), "", "asa", in, "--out", dir)
	if err == nil || !strings.Contains(err.Error(), static+" exists; name another directory, or overwrite it with --force") {
		t.Errorf("a file that exists: %v", err)
	}
	if text, err := os.ReadFile(static); err != nil || string(text) != "mine" || len(names(dir)) != 1 {
		t.Errorf("after the refusal: %q, %v in %v", text, err, names(dir))
	}

	if _, _, err := call(newImportCommand(), "", "asa", in, "--out", dir, "--force"); err != nil {
		t.Errorf("--force: %v", err)
	}
	if diff := cmp.Diff([]string{"exempt.nft", "policy.conf", "static.nft"}, names(dir)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	info, err := os.Stat(static)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("static.nft: %v, %v", info.Mode(), err)
	}

	taken := t.TempDir()
	if err := os.Mkdir(filepath.Join(taken, "policy.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, _, err = call(newImportCommand(), "", "asa", in, "--out", taken, "--force")
	if err == nil || !strings.Contains(err.Error(), "policy.conf is there and no file") || len(names(taken)) != 1 {
		t.Errorf("a directory in the way: %v, %v", err, names(taken))
	}
}

// TestImportErrors: what leaves no files.
func TestImportErrors(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	letter := file(t, "letter.txt", []byte("Dear Sir\n"))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"asa", "/nonexistent.cfg", "--out", dir}, "read configuration: open /nonexistent.cfg: no such file or directory"},
		{[]string{"asa", letter, "--out", dir}, "import " + letter + ": no static mapping, exempt host or inspection of mail in it; give it what the ASA's `show running-config` prints"},
		{[]string{"asa", letter}, `required flag(s) "out" not set`},
		{[]string{"asa", "--out", dir}, "accepts 1 arg(s), received 0"},
	} {
		if _, _, err := call(newImportCommand(), "", tt.args...); err == nil || err.Error() != tt.want {
			t.Errorf("%v: got %v, want %s", tt.args, err, tt.want)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a failed import has made its directory")
	}
}
