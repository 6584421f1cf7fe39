package asa

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// FuzzImport: whatever the file, what is written can be loaded, and no line is
// silently gone.
func FuzzImport(f *testing.F) {
	files, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(exemptClass + both("deny tcp", "10.1.1.1") + both("permit ip", "2001:db8::/48")))
	f.Add([]byte("tcp-map \"\nregex a b\nclass-map type regex match-any !\nmatch regex a\npolicy-map type\nclass type\ninspect esmtp !\nset connection \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Import("fuzz.cfg", text)
		if err != nil {
			return
		}
		checkElements(t, r)
		if _, err := policy.Parse("policy.conf", []byte(r.PolicyConf())); err != nil {
			t.Errorf("policy.conf: %v\n%s", err, r.PolicyConf())
		}
		checkAdded(t, strings.TrimPrefix(r.ExemptNFT(), exemptFile))
		checkAdded(t, strings.TrimPrefix(r.StaticNFT(), staticFile))
		for _, l := range [][]Finding{r.Warnings, r.Lost} {
			for _, f := range l {
				if f.Line < 1 || f.Reason == "" || strings.ContainsAny(f.Text+f.Reason, "\n\r\x1b") {
					t.Errorf("finding %+v", f)
				}
			}
		}
	})
}

// checkElements wants prefixes that nft takes, and each key of a map once.
func checkElements(t *testing.T, r *Result) {
	t.Helper()
	ok := func(p netip.Prefix) bool {
		return p.IsValid() && p == p.Masked() && p.Bits() > 0 && !p.Addr().Is4In6() && p.Addr().Zone() == ""
	}
	for i, e := range r.Exempt {
		if !ok(e.Prefix) || i > 0 && r.Exempt[i-1].Prefix.Overlaps(e.Prefix) {
			t.Errorf("exempt %v", e)
		}
	}
	for i, m := range r.Mappings {
		if !ok(m.Global) || !ok(m.Local) || m.Global.Bits() != m.Local.Bits() || m.Global.Addr().Is4() != m.Local.Addr().Is4() {
			t.Errorf("mapping %v", m)
		}
		if l, err := static.ParseComment(m.Limits.String()); err != nil || l != m.Limits {
			t.Errorf("limits %v: %v", m.Limits, err)
		}
		for _, other := range r.Mappings[:i] {
			sameMap := m.Global.IsSingleIP() == other.Global.IsSingleIP()
			if sameMap && (m.Global.Overlaps(other.Global) || m.Reverse && other.Reverse && m.Local.Overlaps(other.Local)) {
				t.Errorf("%v and %v cannot stand in one map", m, other)
			}
		}
	}
}

// checkAdded wants nothing but comments, statements and elements behind the
// shipped text.
func checkAdded(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		element := strings.HasPrefix(line, "\t") && !strings.ContainsAny(line, "{};#$@")
		statement := strings.HasPrefix(line, "add element inet smtpwall ") && strings.HasSuffix(line, " {")
		if !element && !statement && line != "" && line != "}" && line[0] != '#' {
			t.Errorf("line %q of an nft file", line)
		}
	}
}
