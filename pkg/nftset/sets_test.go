package nftset

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/static"
	"github.com/smtpwall/smtpwall/test/namespace"
)

// inSet lists a set.
func inSet(t *testing.T, name string) (all []string) {
	t.Helper()
	err := look(func(r *ruleset) error {
		set, elements, err := r.elements(name)
		if err != nil {
			return err
		}
		entries, err := decode(set, elements)
		for _, e := range entries {
			all = append(all, e.key.String())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sets makes a static.Sets of words.
func sets(limited, full, intercept string) (s static.Sets) {
	for _, w := range strings.Fields(limited) {
		s.Limited = append(s.Limited, netip.MustParsePrefix(w))
	}
	for _, w := range strings.Fields(full) {
		s.Full = append(s.Full, netip.MustParseAddr(w))
	}
	for _, w := range strings.Fields(intercept) {
		s.Intercept = append(s.Intercept, netip.MustParseAddr(w))
	}
	return s
}

// generationNow is the number of the namespace's last transaction.
func generationNow(t *testing.T) uint32 {
	t.Helper()
	r, err := openRuleset()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	g, err := r.generation()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestApply changes the sets step by step. Each step is one transaction; that
// which changes nothing is none. nft prints what is there.
func TestApply(t *testing.T) {
	namespace.Enter(t)
	var w Writer
	if err := w.Apply(static.Sets{}); !errors.Is(err, ErrNoTable) {
		t.Errorf("without a table: %v", err)
	}
	load(t)
	names := []string{"limited4", "limited6", "full4", "full6", "intercept4", "intercept6"}
	for _, step := range []struct {
		name         string
		by           string // what another program does before
		want         static.Sets
		transactions uint32
		there        map[string]string
	}{
		{"nothing", "", sets("", "", ""), 0, nil},
		{"hosts", "", sets("10.0.0.1/32 fd00::1/128", "1.1.1.1", "1.1.1.1 fd01::1"), 1,
			map[string]string{"limited4": "10.0.0.1", "limited6": "fd00::1", "full4": "1.1.1.1", "intercept4": "1.1.1.1", "intercept6": "fd01::1"}},
		{"the same", "", sets("10.0.0.1/32 fd00::1/128", "1.1.1.1", "1.1.1.1 fd01::1"), 0,
			map[string]string{"limited4": "10.0.0.1", "limited6": "fd00::1", "full4": "1.1.1.1", "intercept4": "1.1.1.1", "intercept6": "fd01::1"}},
		{"networks that touch, up to the highest address", "", sets("10.0.0.0/24 10.0.1.0/24 10.0.2.0/32 255.255.255.0/24 fd00::/64 ffff:ffff::/32", "fd01::1", "fd01::1 1.1.1.2"), 1,
			map[string]string{"limited4": "10.0.0.0/24 10.0.1.0/24 10.0.2.0 255.255.255.0/24", "limited6": "fd00::/64 ffff:ffff::/32", "full6": "fd01::1", "intercept4": "1.1.1.2", "intercept6": "fd01::1"}},
		{"a network for another that overlaps it", "", sets("10.0.0.0/16 255.255.255.255/32", "", ""), 1,
			map[string]string{"limited4": "10.0.0.0/16 255.255.255.255"}},
		{"and back", "", sets("10.0.1.0/24 10.0.2.0/24", "", ""), 1, map[string]string{"limited4": "10.0.1.0/24 10.0.2.0/24"}},
		{"all addresses", "", sets("0.0.0.0/0 ::/0", "", ""), 1, map[string]string{"limited4": "0.0.0.0/0", "limited6": "::/0"}},
		{"one", "", sets("10.0.1.0/24", "", ""), 1, map[string]string{"limited4": "10.0.1.0/24"}},
		{"elements by another hand", "add element inet smtpwall limited4 { 10.7.0.1-10.7.0.9, 10.8.0.0/24 }; add element inet smtpwall full4 { 9.9.9.9 }; delete element inet smtpwall limited4 { 10.0.1.0/24 }",
			sets("10.0.1.0/24", "", ""), 1, map[string]string{"limited4": "10.0.1.0/24"}},
		{"flushed", "flush set inet smtpwall limited4", sets("10.0.1.0/24", "", ""), 1, map[string]string{"limited4": "10.0.1.0/24"}},
		{"loaded anew", "reload", sets("10.0.1.0/24", "", "1.1.1.1"), 1, map[string]string{"limited4": "10.0.1.0/24", "intercept4": "1.1.1.1"}},
		{"empty", "", sets("", "", ""), 1, nil},
	} {
		// No subtest: that would run on another thread, which is in no namespace of
		// the test's.
		switch step.by {
		case "":
		case "reload":
			nft(t, "delete table inet smtpwall")
			load(t)
		default:
			nft(t, step.by)
		}
		before := generationNow(t)
		if err := w.Apply(step.want); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if n := generationNow(t) - before; n != step.transactions {
			t.Errorf("%s: %d transactions, want %d", step.name, n, step.transactions)
		}
		for _, name := range names {
			if got := strings.Join(inSet(t, name), " "); got != step.there[name] {
				t.Errorf("%s: set %s holds %q, want %q", step.name, name, got, step.there[name])
			}
		}
		printed := run(t, "", "nft", "list", "set", "inet", "smtpwall", "limited4")
		for _, e := range strings.Fields(step.there["limited4"]) {
			if !strings.Contains(printed, e) {
				t.Errorf("%s: nft does not print %s in %s", step.name, e, printed)
			}
		}
	}
}

// TestApplyMissingSet: an old ruleset without the set that is to be filled.
func TestApplyMissingSet(t *testing.T) {
	namespace.Enter(t)
	nft(t, "table inet smtpwall { set limited4 { type ipv4_addr; flags interval; }; }")
	var w Writer
	if err := w.Apply(sets("10.0.0.1/32", "", "")); err != nil {
		t.Error(err)
	}
	err := w.Apply(sets("10.0.0.1/32", "", "1.1.1.1"))
	if want := "read set intercept4: it is missing from table inet smtpwall; " + reload; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestApplyRefused: what the kernel refuses is told with the set and a remedy, also
// if much was sent.
func TestApplyRefused(t *testing.T) {
	namespace.Enter(t)
	nft(t, "table inet smtpwall { set limited6 { type ipv6_addr; flags interval; size 2; }; set limited4 { type ipv4_addr; flags interval; }; }")
	var want static.Sets
	for i := range 2500 {
		want.Limited = append(want.Limited, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}), 128))
	}
	var w Writer
	err := w.Apply(want)
	if !errors.Is(err, syscall.ENFILE) || !strings.HasPrefix(err.Error(), "change set limited6 of table inet smtpwall: ") || !strings.HasSuffix(err.Error(), reload) {
		t.Errorf("got %v", err)
	}
}

// TestCompareIntervals: only what differs is changed. (The kernel would forgive
// adding what is there.)
func TestCompareIntervals(t *testing.T) {
	at := func(s string) interval { return intervalOf(netip.MustParsePrefix(s)) }
	a, b, c, net := at("10.0.0.1/32"), at("10.0.0.2/32"), at("10.0.0.3/32"), at("10.0.0.0/24")
	gone, missing := compareIntervals([]entry{{key: a}, {key: b}, {key: net}}, []interval{b, c})
	if !slices.Equal(gone, []interval{a, net}) || !slices.Equal(missing, []interval{c}) {
		t.Errorf("gone %v, missing %v", gone, missing)
	}
}
