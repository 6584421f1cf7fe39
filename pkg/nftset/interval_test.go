package nftset

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// TestIntervalPrefix: which intervals are networks, and how nft prints each.
func TestIntervalPrefix(t *testing.T) {
	for _, c := range []struct{ from, to, prefix, text string }{
		{"10.1.2.3", "10.1.2.3", "10.1.2.3/32", "10.1.2.3"},
		{"10.1.2.0", "10.1.2.255", "10.1.2.0/24", "10.1.2.0/24"},
		{"10.1.2.4", "10.1.2.5", "10.1.2.4/31", "10.1.2.4/31"},
		{"0.0.0.0", "255.255.255.255", "0.0.0.0/0", "0.0.0.0/0"},
		{"10.1.2.0", "10.1.2.254", "", "10.1.2.0-10.1.2.254"},
		{"10.1.2.1", "10.1.2.255", "", "10.1.2.1-10.1.2.255"},
		{"10.1.2.5", "10.1.2.6", "", "10.1.2.5-10.1.2.6"},
		{"fd00::", "fd00::ffff:ffff:ffff:ffff", "fd00::/64", "fd00::/64"},
		{"fd00::1", "fd00::1", "fd00::1/128", "fd00::1"},
		{"fd00::1", "fd00::2", "", "fd00::1-fd00::2"},
	} {
		s := interval{netip.MustParseAddr(c.from), netip.MustParseAddr(c.to)}
		p, ok := s.prefix()
		if ok != (c.prefix != "") || ok && p.String() != c.prefix {
			t.Errorf("%s-%s: prefix %s, %v, want %q", c.from, c.to, p, ok, c.prefix)
		}
		if ok && intervalOf(p) != s {
			t.Errorf("%s is %s", p, intervalOf(p))
		}
		if s.String() != c.text {
			t.Errorf("%s-%s prints as %s, want %s", c.from, c.to, s, c.text)
		}
	}
}

// unhex is the octets of a hexadecimal number.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDecode: elements as the kernel lists them, which is from the last to the
// first in sets of intervals, with an end of nothing that nft puts first.
func TestDecode(t *testing.T) {
	element := func(key, value string) nftables.SetElement {
		return nftables.SetElement{Key: unhex(t, key), Val: unhex(t, value)}
	}
	end := func(key string) nftables.SetElement {
		return nftables.SetElement{Key: unhex(t, key), IntervalEnd: true}
	}
	counted := element("0a000001", "")
	counted.Counter = &expr.Counter{Packets: 7, Bytes: 9}
	limited := element("0a010000", "0a0200000a0200ff")
	limited.Comment = "tcp 5 1"
	for _, c := range []struct {
		name     string
		set      nftables.Set
		elements []nftables.SetElement
		want     string // elements, sorted
	}{
		{"nothing", nftables.Set{}, nil, ""},
		{"set", nftables.Set{}, []nftables.SetElement{element("0a000002", ""), counted}, "10.0.0.1 7 packets; 10.0.0.2 0 packets"},
		{"map", nftables.Set{IsMap: true}, []nftables.SetElement{element("01010102", "01010102"), element("01010101", "c0a80101")},
			"1.1.1.1 : 192.168.1.1; 1.1.1.2 : 1.1.1.2"},
		{"IPv6 map", nftables.Set{IsMap: true}, []nftables.SetElement{element("20010db8000000000000000000000025", "fd000001000000000000000000000025")},
			"2001:db8::25 : fd00:1::25"},
		{"intervals that touch, the last to the highest address", nftables.Set{IsMap: true, Interval: true}, []nftables.SetElement{
			element("ffffff00", "0a0909000a0909ff"),
			end("0a030008"), element("0a030005", "0a0400050a040007"),
			end("0a010200"), element("0a010100", "0a0201000a0201ff"),
			end("0a010100"), limited,
			end("00000000"),
		}, `10.1.0.0/24 comment "tcp 5 1" : 10.2.0.0/24; 10.1.1.0/24 : 10.2.1.0/24; 10.3.0.5-10.3.0.7 : 10.4.0.5-10.4.0.7; 255.255.255.0/24 : 10.9.9.0/24`},
		{"and every other address", nftables.Set{IsMap: true, Interval: true, KeyType: nftables.TypeIPAddr}, []nftables.SetElement{
			end("0a010100"), limited, end("00000000"), element("", "0a0300000a0300ff"),
		}, `* : 10.3.0.0/24; 10.1.0.0/24 comment "tcp 5 1" : 10.2.0.0/24`},
		{"every other address in a set", nftables.Set{Name: "m"}, []nftables.SetElement{element("", "")}, "error: read set m: its elements are no addresses"},
		{"everything", nftables.Set{Interval: true}, []nftables.SetElement{element("00000000", "")}, "0.0.0.0/0 0 packets"},
		{"no address", nftables.Set{Name: "m"}, []nftables.SetElement{element("0019", "")}, "error: read set m: its elements are no addresses"},
		{"to no address", nftables.Set{Name: "m", IsMap: true}, []nftables.SetElement{element("0a000001", "0019")}, "error: read map m: its elements lead to no addresses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, err := decode(&c.set, c.elements)
			var got []string
			for _, e := range entries {
				if text := e.String(); c.set.IsMap {
					got = append(got, text)
				} else {
					got = append(got, fmt.Sprintf("%s %d packets", e.key, e.packets))
				}
			}
			if err != nil {
				got = []string{"error: " + err.Error()}
			}
			if text := strings.Join(got, "; "); text != c.want && (err == nil || !strings.HasPrefix(text, c.want)) {
				t.Errorf("got  %s\nwant %s", text, c.want)
			}
		})
	}
}
