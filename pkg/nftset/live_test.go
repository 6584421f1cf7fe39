package nftset

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/smtpwall/smtpwall/pkg/static"
	"github.com/smtpwall/smtpwall/test/namespace"
)

// shipped is the text of a file of nft/.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "nft", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// run runs a command in the test's namespace and returns what it printed.
func run(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nft loads text.
func nft(t *testing.T, text string) { t.Helper(); run(t, text, "nft", "-f", "-") }

// load loads the shipped ruleset, but for the queue statements, which not every
// kernel has.
func load(t *testing.T) {
	t.Helper()
	var all strings.Builder
	for line := range strings.Lines(shipped(t, "smtpwall.nft")) {
		name, ok := strings.CutPrefix(strings.TrimSpace(line), `include "smtpwall/`)
		switch {
		case !ok:
			all.WriteString(line)
		case name != `divert.nft"`:
			all.WriteString(shipped(t, strings.TrimSuffix(name, `"`)))
		}
	}
	nft(t, all.String())
}

// TestReadStaticLive reads the shipped ruleset, step by step.
func TestReadStaticLive(t *testing.T) {
	namespace.Enter(t)
	read := func(want ...string) *Static {
		t.Helper()
		s, err := ReadStatic()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, describe(s)); d != "" {
			t.Errorf("want (-), got (+):\n%s", d)
		}
		return s
	}
	if _, err := ReadStatic(); !errors.Is(err, ErrNoTable) {
		t.Errorf("without a table: %v", err)
	}
	nft(t, "table inet smtpwall { }")
	if s := read(); s.Synproxy || s.SYNQueue != nil {
		t.Errorf("an empty table: %+v", s)
	}
	load(t)
	if s := read(); !s.Synproxy || s.SYNQueue != nil {
		t.Errorf("the shipped ruleset without divert.nft: %+v", s)
	}
	nft(t, `
add element inet smtpwall static4 { 1.1.1.1 comment "tcp 100 50" : 192.168.1.1, 1.1.1.3 comment "tcp x" : 1.1.1.3, 1.1.1.2 comment "tcp 7" : 1.1.1.2 }
add element inet smtpwall rstatic4 { 192.168.1.1 : 1.1.1.9 }
add element inet smtpwall static4net { 10.1.0.0/24 comment "tcp 5 1" : 10.2.0.0/24, 10.1.1.0/24 : 10.2.1.0/24, 255.255.255.0/24 : 10.9.9.0/24 }
add element inet smtpwall rstatic4net { 10.2.0.0/24 : 10.1.0.0/24, 10.2.1.0/24 : 10.1.1.0/24, 10.9.9.0/24 : 255.255.255.0/24 }
add element inet smtpwall static6 { fd00::1 comment "tcp 0 3" : fd00:1::1 }
add element inet smtpwall rstatic6 { fd00:1::1 : fd00::1 }
add element inet smtpwall static6net { fd00:5::/64 : fd00:6::/65 }
add element inet smtpwall rstatic6net { fd00:6::/65 : fd00:5::/64 }
flush chain inet smtpwall intercept
`)
	if s := read("1.1.1.1/32 > 192.168.1.1/32 tcp 100 50", "1.1.1.2/32 > 1.1.1.2/32 tcp 7 0", "1.1.1.3/32 > 1.1.1.3/32 tcp 0 0",
		"10.1.0.0/24 > 10.2.0.0/24 tcp 5 1", "10.1.1.0/24 > 10.2.1.0/24 tcp 0 0", "255.255.255.0/24 > 10.9.9.0/24 tcp 0 0", "fd00::1/128 > fd00:1::1/128 tcp 0 3",
		`fault line 0: element { 1.1.1.3 comment "tcp x" : 1.1.1.3 } of map static4: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: `+correct,
		"fault line 0: element { fd00:5::/64 : fd00:6::/65 } of map static6net: the networks differ in size: write fd00:6::/65 of length /64; its connections are not counted: "+correct,
		`reverse line 0: element { 1.1.1.1 comment "tcp 100 50" : 192.168.1.1 } of map static4: the reverse in map rstatic4 leads to 1.1.1.9: write { 192.168.1.1 : 1.1.1.1 } there`,
	); s.Synproxy {
		t.Error("synproxy in an empty chain")
	}
	nft(t, "delete element inet smtpwall static4 { 1.1.1.1, 1.1.1.3 }\nadd element inet smtpwall static4 { 1.1.1.2 : 1.1.1.2 }\nflush map inet smtpwall rstatic4\nflush map inet smtpwall static6net\nflush map inet smtpwall rstatic6net\nflush map inet smtpwall static4net\nflush map inet smtpwall rstatic4net\n")
	read("1.1.1.2/32 > 1.1.1.2/32 tcp 7 0", "fd00::1/128 > fd00:1::1/128 tcp 0 3")
}

// TestReadStaticOthers: nft's `*`, which has no key, leaves the other elements
// working.
func TestReadStaticOthers(t *testing.T) {
	namespace.Enter(t)
	load(t)
	nft(t, `
add element inet smtpwall static4 { 1.1.1.1 comment "tcp 9 3" : 1.1.1.1, * comment "tcp 5" : 192.168.1.9 }
add element inet smtpwall rstatic4 { * : 1.1.1.9 }
add element inet smtpwall static6 { * : fd00::9 }
`)
	s, err := ReadStatic()
	if err != nil {
		t.Fatal(err)
	}
	const others = ": * is every other address, whose hosts cannot be told apart: write the networks that are meant; its connections are not counted: " + correct
	want := []string{"1.1.1.1/32 > 1.1.1.1/32 tcp 9 3",
		`fault line 0: element { * comment "tcp 5" : 192.168.1.9 } of map static4` + others, "fault line 0: element { * : fd00::9 } of map static6" + others}
	if d := cmp.Diff(want, describe(s)); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}

// addTarget has a chain send packets to a range of queues, by the target NFQUEUE,
// revision 1, of xtables.
func addTarget(t *testing.T, chain string, first, total uint16) {
	t.Helper()
	conn, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	info := append(*u16s(first, total), make(xt.Unknown, 4)...) // nft_compat wants a multiple of 8 octets
	conn.AddRule(&nftables.Rule{Table: table(), Chain: &nftables.Chain{Name: chain}, Exprs: []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 1, Info: &info}}})
	if err := conn.Flush(); err != nil {
		t.Fatalf("add target NFQUEUE: %v (kernel without nft_compat or xt_NFQUEUE?)", err)
	}
}

// TestReadSYNQueue finds the queue behind an xtables target, which every kernel
// takes; TestChainAdd has the other forms.
func TestReadSYNQueue(t *testing.T) {
	namespace.Enter(t)
	load(t)
	addTarget(t, "divert_syn", 4, 2)
	s, err := ReadStatic()
	if err != nil || !slices.Equal(s.SYNQueue, []uint16{4, 5}) {
		t.Errorf("queues %v, %v", s.SYNQueue, err)
	}
}

// TestLargeMaps: ten thousand mappings are read, ten thousand hosts limited, and
// taken out of the set again.
func TestLargeMaps(t *testing.T) {
	namespace.Enter(t)
	load(t)
	var text strings.Builder
	want := static.Sets{}
	for i := range 10000 {
		global, local := netip.AddrFrom4([4]byte{20, 0, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		fmt.Fprintf(&text, "%s comment \"tcp %d 0\" : %s,\n", global, i, local)
		want.Limited = append(want.Limited, netip.PrefixFrom(local, 32))
		if i%1000 == 999 { // what nft sends at once without the rights of the real root
			nft(t, "add element inet smtpwall static4 {\n"+text.String()+"}")
			text.Reset()
		}
	}
	s, err := ReadStatic()
	if err != nil || len(s.Mappings) != 10000 || len(s.Reverse) != 10000 || s.Faults != nil {
		t.Fatalf("%d mappings, %d without a reverse, %v, %v", len(s.Mappings), len(s.Reverse), s.Faults, err)
	}
	for i, m := range s.Mappings {
		if m.Local != want.Limited[i] || m.Max != uint32(i) {
			t.Fatalf("mapping %d is %v", i, m)
		}
	}
	var w Writer
	for _, want := range []static.Sets{want, {}} {
		if err := w.Apply(want); err != nil {
			t.Fatal(err)
		}
		if there := inSet(t, "limited4"); len(there) != len(want.Limited) {
			t.Errorf("%d elements, want %d", len(there), len(want.Limited))
		}
	}
}

// TestLook: what a transaction came across is read again, but not for ever.
func TestLook(t *testing.T) {
	namespace.Enter(t)
	load(t)
	for _, c := range []struct{ changes, want int }{{0, 1}, {1, 2}, {3, 4}, {1000, tries}} {
		n := 0
		err := look(func(*ruleset) error {
			if n++; n <= c.changes {
				nft(t, "table inet other { }\ndelete table inet other\n")
			}
			return fmt.Errorf("try %d", n)
		})
		if n != c.want || err == nil || err.Error() != fmt.Sprintf("try %d", n) {
			t.Errorf("%d changes: read %d times, %v; want %d", c.changes, n, err, c.want)
		}
	}
}

// TestReadCounters reads the sets that the daemon begins with.
func TestReadCounters(t *testing.T) {
	namespace.Enter(t)
	if _, err := ReadCookies(); !errors.Is(err, ErrNoTable) {
		t.Errorf("without a table: %v", err)
	}
	if _, err := ReadIntercepted(); !errors.Is(err, ErrNoTable) {
		t.Errorf("without a table: %v", err)
	}
	load(t)
	nft(t, `
add element inet smtpwall cookies4 { 1.1.1.1 counter packets 7 bytes 420, 1.1.1.2 }
add element inet smtpwall cookies6 { fd00::1 counter packets 5000000000 bytes 1 }
add element inet smtpwall intercept4 { 1.1.1.2, 1.1.1.1 }
add element inet smtpwall intercept6 { fd00::1 }
`)
	addr := netip.MustParseAddr
	cookies, err := ReadCookies()
	if want := map[netip.Addr]uint64{addr("1.1.1.1"): 7, addr("1.1.1.2"): 0, addr("fd00::1"): 5e9}; err != nil || !cmp.Equal(cookies, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("cookies %v, %v", cookies, err)
	}
	hosts, err := ReadIntercepted()
	if want := []netip.Addr{addr("1.1.1.1"), addr("1.1.1.2"), addr("fd00::1")}; err != nil || !slices.Equal(hosts, want) {
		t.Errorf("intercepted %v, %v", hosts, err)
	}
	nft(t, "flush chain inet smtpwall cookie; delete set inet smtpwall cookies6")
	if _, err := ReadCookies(); !errors.Is(err, errNoSet) {
		t.Errorf("without a set: %v", err)
	}
}
