package nftset

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describe is s in words: mappings, then faults by kind.
func describe(s *Static) []string {
	var lines []string
	for _, m := range s.Mappings {
		lines = append(lines, fmt.Sprintf("%s > %s %s", m.Global, m.Local, m.Limits))
	}
	for _, k := range []struct {
		kind string
		list []Fault
	}{{"fault", s.Faults}, {"maxfirst", s.MaxFirst}, {"reverse", s.Reverse}} {
		for _, f := range k.list {
			lines = append(lines, fmt.Sprintf("%s line %d: %s", k.kind, f.Line, f))
		}
	}
	return lines
}

// TestParseStatic: what nft files say of static mappings, and what is wrong with
// it. Most of this is compile's, which the live ruleset goes through as well.
func TestParseStatic(t *testing.T) {
	const add = "add element inet smtpwall "
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"the shipped file: examples are comments", "shipped", nil},
		{"a host with its reverse", add + "static4 { 1.1.1.1 comment \"tcp 100 50\" : 192.168.1.1 }\n" + add + "rstatic4 { 192.168.1.1 : 1.1.1.1 }",
			[]string{"1.1.1.1/32 > 192.168.1.1/32 tcp 100 50"}},
		{"the PIX's own example", add + "static4 { 1.1.1.1 comment \"tcp 50 100\" : 192.168.1.1 }\n" + add + "rstatic4 { 192.168.1.1 : 1.1.1.1 }",
			[]string{"1.1.1.1/32 > 192.168.1.1/32 tcp 50 100",
				`maxfirst line 1: element { 1.1.1.1 comment "tcp 50 100" : 192.168.1.1 } of map static4: half-open connections can never reach the embryonic limit 100 first: the limit of all is 50, where SYN cookies begin; write an embryonic limit below it, or comment "tcp 100 50" if the two stand in the wrong order`}},
		{"a limit that is none is not lower", add + "static4 { 1.1.1.1 comment \"tcp 0 100\" : 1.1.1.1, 1.1.1.2 comment \"50\" : 1.1.1.2, 1.1.1.3 comment \"50 50\" : 1.1.1.3 }",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 0 100", "1.1.1.2/32 > 1.1.1.2/32 tcp 50 0", "1.1.1.3/32 > 1.1.1.3/32 tcp 50 50"}},
		{"a comment that is no limit leaves the others working", "\n" + add + "static4 {\n\t1.1.1.2 comment \"our relay\" : 1.1.1.2,\n\t1.1.1.1 comment \"tcp 7 3\" : 1.1.1.1,\n}",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 7 3", "1.1.1.2/32 > 1.1.1.2/32 tcp 0 0",
				`fault line 3: element { 1.1.1.2 comment "our relay" : 1.1.1.2 } of map static4: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: correct it in static.nft and load that with ` + "`nft -f /etc/smtpwall/static.nft`"}},
		{"an element twice: nft keeps the first", add + "static4 { 1.1.1.1 comment \"tcp 100 50\" : 1.1.1.1, 1.1.1.2 : 1.1.1.2, 1.1.1.2 : 1.1.1.2 }\n" + add + "static4 { 1.1.1.1 comment \"tcp 5 1\" : 1.1.1.1 }",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 100 50", "1.1.1.2/32 > 1.1.1.2/32 tcp 0 0",
				`fault line 2: element { 1.1.1.1 comment "tcp 5 1" : 1.1.1.1 } of map static4: it stands in the map already, in line 1, and nft keeps that one with its comment: delete one of the two`}},
		{"limits in the map that leads back", add + "static4 { 1.1.1.1 : 192.168.1.1, 1.1.1.2 : 192.168.1.2 }\n" + add + "rstatic4 { 192.168.1.1 comment \"tcp 50 10\" : 1.1.1.1, 192.168.1.2 comment \"relay\" : 1.1.1.2 }",
			[]string{"1.1.1.1/32 > 192.168.1.1/32 tcp 0 0", "1.1.1.2/32 > 192.168.1.2/32 tcp 0 0",
				`fault line 2: element { 192.168.1.1 comment "tcp 50 10" : 1.1.1.1 } of map rstatic4: limits hold for nobody here: write the comment into the element { 1.1.1.1 : 192.168.1.1 } of map static4`}},
		{"networks", add + "static4net { 198.51.100.0/24 comment \"tcp 500 0\" : 192.168.2.0/24 }\n" + add + "rstatic4net { 192.168.2.0/24 : 198.51.100.0/24 }\n" +
			add + "static6net { fd09:4::/64 : fd09:2::/64 }\n" + add + "rstatic6net { fd09:2::/64 : fd09:4::/64 }",
			[]string{"198.51.100.0/24 > 192.168.2.0/24 tcp 500 0", "fd09:4::/64 > fd09:2::/64 tcp 0 0"}},
		{"networks that are none or differ", add + "static4net { 10.0.0.0/24 : 10.1.0.0/25, 10.2.0.1-10.2.0.9 : 10.3.0.0/24, 10.4.0.0/24 : 10.5.0.1-10.5.0.7 }\n" +
			add + "rstatic4net { 10.1.0.0/25 : 10.0.0.0/24, 10.3.0.0/24 : 10.2.0.1-10.2.0.9, 10.5.0.1-10.5.0.7 : 10.4.0.0/24 }", []string{
			"fault line 1: element { 10.0.0.0/24 : 10.1.0.0/25 } of map static4net: the networks differ in size: write 10.1.0.0/25 of length /24; its connections are not counted: " + correct,
			"fault line 1: element { 10.2.0.1-10.2.0.9 : 10.3.0.0/24 } of map static4net: 10.2.0.1-10.2.0.9 is no network: write one as ADDRESS/LENGTH, or several; its connections are not counted: " + correct,
			"fault line 1: element { 10.4.0.0/24 : 10.5.0.1-10.5.0.7 } of map static4net: 10.5.0.1-10.5.0.7 is no network: write one as ADDRESS/LENGTH; its connections are not counted: " + correct,
		}},
		{"every other address", add + "static4 { * comment \"tcp 5\" : 192.168.1.9, 1.1.1.1 comment \"7\" : 1.1.1.1 }\n" + add + "rstatic4net { * : 10.0.0.0/24 }",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 7 0",
				`fault line 1: element { * comment "tcp 5" : 192.168.1.9 } of map static4: * is every other address, whose hosts cannot be told apart: write the networks that are meant; its connections are not counted: ` + correct}},
		{"IPv4 in IPv6", add + "static6 { ::ffff:1.2.3.4 comment \"tcp 5 2\" : fd00::1 }\n" + add + "static6net { fd00:1::/120 : ::ffff:192.168.1.0/120 }\n" +
			add + "rstatic6 { fd00::1 : ::ffff:1.2.3.4 }\n" + add + "rstatic6net { ::ffff:192.168.1.0/120 : fd00:1::/120 }", []string{
			`fault line 1: element { ::ffff:1.2.3.4 comment "tcp 5 2" : fd00::1 } of map static6: ::ffff:1.2.3.4/128 is IPv4 in the form of IPv6, which no packet on a wire has: write it into static4 or static4net; its connections are not counted: ` + correct,
			"fault line 2: element { fd00:1::/120 : ::ffff:192.168.1.0/120 } of map static6net: ::ffff:192.168.1.0/120 is IPv4 in the form of IPv6, which no packet on a wire has: write it into static4 or static4net; its connections are not counted: " + correct,
		}},
		{"no reverse", add + "static4 { 1.1.1.1 : 192.168.1.1 }", []string{"1.1.1.1/32 > 192.168.1.1/32 tcp 0 0",
			"reverse line 1: element { 1.1.1.1 : 192.168.1.1 } of map static4: map rstatic4 has no reverse of it, so that connections of the host itself keep its local address: add { 192.168.1.1 : 1.1.1.1 } there"}},
		{"another reverse", add + "static6 { fd00::1 : fd01::1 }\n" + add + "rstatic6 { fd01::1 : fd00::2 }", []string{"fd00::1/128 > fd01::1/128 tcp 0 0",
			"reverse line 1: element { fd00::1 : fd01::1 } of map static6: the reverse in map rstatic6 leads to fd00::2: write { fd01::1 : fd00::1 } there"}},
		{"a reverse of nothing", add + "static4 { 1.1.1.1 : 1.1.1.1 }\n\n" + add + "rstatic4 { 192.168.1.2 : 1.1.1.2, 1.1.1.3 : 1.1.1.3 }", []string{"1.1.1.1/32 > 1.1.1.1/32 tcp 0 0",
			"reverse line 3: element { 192.168.1.2 : 1.1.1.2 } of map rstatic4: map static4 has no mapping to 192.168.1.2: add { 1.1.1.2 : 192.168.1.2 } there, or delete this element"}},
		{"two global addresses of a host, one of them the reverse", add + "static4 { 1.1.1.1 : 192.168.1.1, 1.1.1.2 : 192.168.1.1 }\n" + add + "rstatic4 { 192.168.1.1 : 1.1.1.2 }",
			[]string{"1.1.1.1/32 > 192.168.1.1/32 tcp 0 0", "1.1.1.2/32 > 192.168.1.1/32 tcp 0 0"}},
		{"in the declaration", "table inet smtpwall {\n\tmap static4 {\n\t\ttype ipv4_addr : ipv4_addr\n\t\telements = { 1.1.1.1 comment \"x}\" : 1.1.1.1 }\n\t}\n\tmap static4net { type ipv4_addr : interval ipv4_addr; flags interval; }\n}\n",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 0 0",
				`fault line 4: element { 1.1.1.1 comment "x}" : 1.1.1.1 } of map static4: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: ` + correct}},
		{"spaces as nft takes them", add + "static4 {1.1.1.1:1.1.1.1,1.1.1.2 comment \"3\":1.1.1.2 , 1.1.1.3: 1.1.1.3, 1.1.1.4 :1.1.1.4, 1.1.1.5 comment 5 : 1.1.1.5}\n" +
			add + "static6 { fd00::1: fd00::1, fd00::2 :fd00::2, fd00::3 comment \"3, 2\":fd00::3 }",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 0 0", "1.1.1.2/32 > 1.1.1.2/32 tcp 3 0", "1.1.1.3/32 > 1.1.1.3/32 tcp 0 0", "1.1.1.4/32 > 1.1.1.4/32 tcp 0 0", "1.1.1.5/32 > 1.1.1.5/32 tcp 5 0",
				"fd00::1/128 > fd00::1/128 tcp 0 0", "fd00::2/128 > fd00::2/128 tcp 0 0", "fd00::3/128 > fd00::3/128 tcp 0 0",
				`fault line 2: element { fd00::3 comment "3, 2" : fd00::3 } of map static6: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: ` + correct}},
		{"commands without add, over several lines", "element inet smtpwall static4 { 1.1.1.1 comment \"1\" : 1.1.1.1 }; element inet smtpwall static4 {1.1.1.2 comment \"2\":1.1.1.2}\n" +
			"add element \\\n inet smtpwall static4 { \\ \n1.1.1.3 comment \"3\\\" \\\n : 1.1.1.3 }\n\tcreate element inet smtpwall static4 { 1.1.1.4 comment \"4\" : 1.1.1.4 }\n" +
			"delete element inet smtpwall static4 { 1.1.1.5 comment \"x\" : 1.1.1.5 }\n",
			[]string{"1.1.1.1/32 > 1.1.1.1/32 tcp 1 0", "1.1.1.2/32 > 1.1.1.2/32 tcp 2 0", "1.1.1.3/32 > 1.1.1.3/32 tcp 0 0", "1.1.1.4/32 > 1.1.1.4/32 tcp 4 0",
				`fault line 4: element { 1.1.1.3 comment "3\" : 1.1.1.3 } of map static4: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: ` + correct}},
		{"comments and other sets are passed over", "# " + add + "static4 { 1.1.1.1 comment \"x\" : 1.1.1.1 }\nadd element inet other static4 { 1.1.1.1 comment \"x\" : 1.1.1.1 }\n" +
			"delete element inet smtpwall static4 { 1.1.1.1 }\n" + add + "exempt4 { 1.1.1.1 comment \"x\" }\n" + add + "static4 { # { 1.1.1.8\n 1.1.1.9 comment \"#9\" : 1.1.1.9 }", []string{"1.1.1.9/32 > 1.1.1.9/32 tcp 0 0",
			`fault line 6: element { 1.1.1.9 comment "#9" : 1.1.1.9 } of map static4: comment: want "tcp MAX EMBRYONIC", two numbers; 0 is no limit; nothing is limited: ` + correct}},
		{"variables: the reverse is unknown", "define relay = 192.168.1.1\n" + add + "static4 { 1.1.1.1 : 192.168.1.1 }\n" + add + "rstatic4 { $relay : 1.1.1.1 }", []string{"1.1.1.1/32 > 192.168.1.1/32 tcp 0 0"}},
		{"cut short", add + "static4 { 1.1.1.1 comment \"7\" : 1.1.1.1", []string{"1.1.1.1/32 > 1.1.1.1/32 tcp 7 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.text == "shipped" {
				c.text = shipped(t, "static.nft")
			}
			if d := cmp.Diff(c.want, describe(ParseStatic(c.text))); d != "" {
				t.Errorf("want (-), got (+):\n%s", d)
			}
		})
	}
}

// The examples of the shipped file are right.
func TestParseStaticExamples(t *testing.T) {
	text := strings.ReplaceAll(shipped(t, "static.nft"), "\n# add element", "\nadd element")
	want := []string{"192.0.2.1/32 > 192.168.1.1/32 tcp 200 50", "198.51.100.0/24 > 192.168.2.0/24 tcp 500 0", "2001:db8::25/128 > fd00:1::25/128 tcp 0 0"}
	if d := cmp.Diff(want, describe(ParseStatic(text))); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}
