package asa

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// result writes down the elements of an import, and "warns" or "lost" for each
// line that has such a finding.
func result(t *testing.T, text string) string {
	t.Helper()
	r, err := Import("test.cfg", []byte(text))
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, e := range r.Exempt {
		parts = append(parts, element(e.Prefix))
	}
	for _, m := range r.Mappings {
		part := element(m.Global) + "=" + element(m.Local)
		if m.Max > 0 || m.Embryonic > 0 {
			part += " " + m.Limits.String()
		}
		parts = append(parts, part)
	}
	for _, f := range r.Warnings {
		parts = append(parts, fmt.Sprintf("warns %d", f.Line))
	}
	for _, f := range r.Lost {
		parts = append(parts, fmt.Sprintf("lost %d", f.Line))
	}
	return strings.Join(parts, ", ")
}

// exemptClass is a policy, in lines 1 to 6, that exempts what access list x
// permits.
const exemptClass = "class-map c\n match access-list x\npolicy-map p\n class c\n  no inspect esmtp\nservice-policy p global\n"

// both is an entry for each direction, in lines 7 and 8.
func both(permit, host string) string {
	return "access-list x extended " + permit + " any " + host + "\naccess-list x extended " + permit + " " + host + " any\n"
}

// TestExempt: access lists of exempt hosts. Line 3 always warns that nothing
// inspects.
func TestExempt(t *testing.T) {
	for _, tt := range []struct{ name, list, want string }{
		{"host", both("permit ip", "host 10.1.1.1"), "10.1.1.1, warns 3"},
		{"host left out", both("permit ip", "10.1.1.1"), "10.1.1.1, warns 3, warns 7, warns 8"},
		{"network", both("permit tcp", "10.1.0.0 255.255.0.0"), "10.1.0.0/16, warns 3"},
		{"network with host part", both("permit tcp", "10.1.2.3 255.255.0.0"), "10.1.0.0/16, warns 3, warns 7, warns 8"},
		{"host as network", both("permit ip", "10.1.1.1 255.255.255.255"), "10.1.1.1, warns 3"},
		{"IPv6", both("permit ip", "host 2001:db8::1"), "2001:db8::1, warns 3"},
		{"IPv6 network", both("permit ip", "2001:db8::/48"), "2001:db8::/48, warns 3"},
		{"IPv6 network with host part", both("permit ip", "2001:db8::1/48"), "2001:db8::/48, warns 3, warns 7, warns 8"},
		{"host inside network", both("permit ip", "10.0.0.0 255.0.0.0") + both("permit ip", "host 10.1.1.1"), "10.0.0.0/8, warns 3"},
		{"any in numbers", "access-list x permit ip 0.0.0.0 0.0.0.0 host 10.1.1.1\naccess-list x permit ip host 10.1.1.1 0 0\n", "10.1.1.1, warns 3, warns 7, lost 8"},
		{"line, remark, log", "access-list x line 1 remark hosts\naccess-list x line 2 extended permit tcp any host 10.1.1.1 eq smtp log 6\naccess-list x extended permit tcp host 10.1.1.1 any eq 25\n", "10.1.1.1, warns 3"},
		{"one direction", "access-list x extended permit tcp any host 10.1.1.1 eq smtp\n", "10.1.1.1, warns 3, warns 7"},
		{"ports with 25", "access-list x extended permit tcp any host 10.1.1.1 range 20 30\naccess-list x extended permit tcp host 10.1.1.1 any gt 24\n", "10.1.1.1, warns 3"},
		{"ports without 25", "access-list x extended permit tcp any host 10.1.1.1 range 2 20\naccess-list x extended permit tcp host 10.1.1.1 any gt 25\n" +
			"access-list x extended permit tcp any host 10.1.1.1 lt 25\naccess-list x extended permit tcp any host 10.1.1.1 neq smtp\naccess-list x extended permit tcp any host 10.1.1.1 eq www\n",
			"warns 3, lost 7, lost 8, lost 9, lost 10, lost 11"},
		{"source port", "access-list x extended permit tcp host 10.1.1.1 eq smtp any\n", "warns 3, lost 7"},
		{"not TCP", both("permit udp", "host 10.1.1.1"), "warns 3, lost 7, lost 8"},
		{"pair", "access-list x extended permit ip host 10.1.1.1 host 10.2.2.2\n", "warns 3, lost 7"},
		{"everybody", "access-list x extended permit tcp any any eq smtp\n", "warns 3, lost 7"},
		{"deny above", "access-list x extended deny ip host 10.1.1.1 any\n" + both("permit ip", "10.0.0.0 255.0.0.0"), "warns 3, lost 7, lost 8, lost 9"},
		{"deny of others", "access-list x extended deny ip host 10.2.2.2 host 10.3.3.3\n" + both("permit ip", "host 10.1.1.1"), "10.1.1.1, warns 3, lost 7"},
		{"deny of a client", "access-list x extended deny ip host 10.2.2.2 any\n" + both("permit ip", "host 10.1.1.1"), "warns 3, lost 7, lost 8, lost 9"},
		{"deny of another port", "access-list x extended deny tcp host 10.1.1.1 any eq www\n" + both("permit ip", "host 10.1.1.1"), "10.1.1.1, warns 3"},
		{"deny of all at the end", both("permit ip", "host 10.1.1.1") + "access-list x extended deny ip any any\n", "10.1.1.1, warns 3"},
		{"deny of all above", "access-list x extended deny ip any any\n" + both("permit ip", "host 10.1.1.1"), "warns 3, lost 8, lost 9"},
		{"deny the other way", "access-list x extended permit ip any host 10.1.1.1\naccess-list x extended deny ip host 10.1.1.1 any\n", "warns 3, lost 7, lost 8"},
		{"deny not understood", "access-list x extended deny tcp object-group g any\n" + both("permit ip", "host 10.1.1.1"), "warns 3, lost 7, lost 8, lost 9"},
		{"permit not understood", "access-list x extended permit tcp object-group g any\n" + both("permit ip", "host 10.1.1.1"), "10.1.1.1, warns 3, lost 7"},
		{"neither", "access-list x extended perhaps ip any any\n" + both("permit ip", "host 10.1.1.1"), "warns 3, lost 7, lost 8, lost 9"},
		{"inactive", "access-list x extended permit ip any host 10.1.1.1 inactive\n", "warns 3, lost 7"},
		{"inactive behind log", "access-list x extended permit tcp any host 10.1.1.1 eq smtp log inactive\naccess-list x permit ip host 10.1.1.1 any log informational interval 300 inactive\n", "warns 3, lost 7, lost 8"},
		{"a time behind log", both("permit ip", "host 10.1.1.2") + "access-list x permit ip any host 10.1.1.1 log disable time-range day\n", "10.1.1.2, warns 3, lost 9"},
		{"inactive deny behind log", "access-list x deny ip host 10.1.1.1 any log inactive\n" + both("permit ip", "host 10.1.1.1"), "10.1.1.1, warns 3, lost 7"},
		{"wildcard mask", "access-list x extended permit ip any 10.1.1.0 0.0.0.255\n", "warns 3, lost 7"},
		{"wildcard of a host", "access-list x extended permit ip any 10.1.1.1 0.0.0.0\n", "warns 3, lost 7"},
		{"mask with a gap", "access-list x extended permit ip any 10.1.1.0 255.0.255.0\n", "warns 3, warns 7, lost 7"},
		{"no address", "access-list x extended permit ip any host nowhere\n", "warns 3, lost 7"},
		{"IPv4 in IPv6, zone, multicast", "access-list x extended permit ip any host ::ffff:10.1.1.1\naccess-list x extended permit ip any host fe80::1%eth0\naccess-list x extended permit ip any host 224.0.0.1\n", "warns 3, lost 7, lost 8, lost 9"},
		{"mixed families", "access-list x extended permit ip any6 host 10.1.1.1\n", "warns 3, lost 7"},
		{"name", "name 10.1.1.1 relay\n" + both("permit ip", "host relay"), "10.1.1.1, warns 3"},
		{"global address", both("permit ip", "host 192.0.2.1") + "static (inside,outside) 192.0.2.1 10.1.1.1\n", "10.1.1.1, 192.0.2.1=10.1.1.1, warns 3, warns 7, warns 8"},
		{"inside a global network", both("permit ip", "192.0.2.64 255.255.255.192") + "static (inside,outside) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\n", "10.1.1.64/26, 192.0.2.0/24=10.1.1.0/24, warns 3, warns 7, warns 8"},
		{"around a global address", both("permit ip", "192.0.2.0 255.255.255.0") + "static (inside,outside) 192.0.2.1 10.1.1.1\n", "10.1.1.1, 192.0.2.0/24, 192.0.2.1=10.1.1.1, warns 3, warns 7, warns 8"},
		{"global address of a host in a mapped network", both("permit ip", "host 192.0.2.1") + "static (a,b) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\nstatic (a,b) 192.0.2.1 10.2.2.2\n",
			"10.2.2.2, 192.0.2.0/24=10.1.1.0/24, 192.0.2.1=10.2.2.2, warns 3, warns 7, warns 8"},
		{"the same, the host first", both("permit ip", "host 192.0.2.1") + "static (a,b) 192.0.2.1 10.2.2.2\nstatic (a,b) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\n",
			"10.2.2.2, 192.0.2.1=10.2.2.2, 192.0.2.0/24=10.1.1.0/24, warns 3, warns 7, warns 8"},
		{"network with a host of its own mapping", both("permit ip", "192.0.2.0 255.255.255.128") + "static (a,b) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\nstatic (a,b) 192.0.2.1 10.2.2.2\n",
			"10.1.1.0/25, 10.2.2.2, 192.0.2.0/24=10.1.1.0/24, 192.0.2.1=10.2.2.2, warns 3, warns 7, warns 7, warns 8, warns 8"},
		{"local address of one, global address of another", both("permit ip", "host 10.1.1.1") + "static (a,b) 10.1.1.1 10.3.3.3\nstatic (inside,outside) 192.0.2.1 10.1.1.1\n",
			"10.1.1.1, 10.1.1.1=10.3.3.3, 192.0.2.1=10.1.1.1, warns 3"},
		{"identity", both("permit ip", "host 10.1.1.1") + "static (a,b) 10.1.1.1 10.1.1.1 tcp 5\n", "10.1.1.1, 10.1.1.1=10.1.1.1 tcp 5 0, warns 3"},
		{"local address", both("permit ip", "host 10.1.1.1") + "static (inside,outside) 192.0.2.1 10.1.1.1\n", "10.1.1.1, 192.0.2.1=10.1.1.1, warns 3"},
		{"no such list", "access-list y extended permit ip any host 10.1.1.1\n", "warns 3, lost 2, lost 5"},
	} {
		if got := result(t, exemptClass+tt.list); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestDenied: an inspecting class exempts what its list denies, unless something
// else inspects.
func TestDenied(t *testing.T) {
	const (
		class  = "class-map c\n match access-list x\npolicy-map p\n class c\n  inspect esmtp\n"
		denied = "access-list x extended deny ip any host 10.1.1.1\naccess-list x extended deny ip host 10.1.1.1 any\n"
		rest   = "access-list x extended permit tcp any any eq smtp\n"
		global = "service-policy p global\n"
	)
	for _, tt := range []struct{ name, text, want string }{
		{"the others permitted", class + global + denied + rest, "10.1.1.1"},
		{"nobody permitted", class + global + denied, "10.1.1.1, warns 5"},
		{"nobody permitted for mail", class + global + denied + "access-list x extended permit tcp any any eq www\n", "10.1.1.1, warns 5"},
		{"neither above", class + global + "access-list x perhaps ip any any\n" + denied + rest, "lost 7, lost 8, lost 9"},
		{"by a list and in itself all", class + " class class-default\n  inspect esmtp\n" + global + denied + rest, "lost 9, lost 10"},
		{"list with default traffic", class + global + "class-map c\n match default-inspection-traffic\n" + denied + rest, "10.1.1.1"},
		{"default traffic with list", "class-map c\n match default-inspection-traffic\n" + class + global + denied + rest, "10.1.1.1"},
		{"taken back and inspected", "class-map c\n match access-list x\npolicy-map p\n class c\n  no inspect esmtp\n  inspect esmtp\n" + global + denied + rest, "10.1.1.1"},
		{"two classes with one list", class + " class d\n  inspect esmtp\nclass-map d\n match access-list x\n" + global + denied + "access-list x deny ip host 10.1.1.2 host 10.1.1.3\n" + rest, "10.1.1.1, lost 13"},
		{"inspected nowhere", "policy-map p\n class inspection_default\n  no inspect esmtp\n" + global, "warns 1, lost 3"},
		{"permitted before", class + global + rest + denied, "lost 8, lost 9"},
		{"inspected by default", class + " class inspection_default\n  inspect esmtp\n" + global + denied + rest, "lost 9, lost 10"},
		{"not by default", class + " class inspection_default\n  no inspect esmtp\n" + global + denied + rest, "10.1.1.1"},
		{"inspected by another list", class + " class d\n  inspect esmtp\nclass-map d\n match access-list y\n" + global + "access-list y permit ip any any\n" + denied + rest, "lost 12, lost 13"},
		{"a PIX's fixup inspects", class + global + denied + rest + "fixup protocol smtp 25\n", "warns 10, lost 7, lost 8"},
		{"of a policy map that is not applied", class + "policy-map q\n class inspection_default\n  inspect esmtp\nservice-policy q global\n" + denied + rest, "lost 3"},
		{"two classes with one list, inspected by default", class + " class d\n  inspect esmtp\n class inspection_default\n  inspect esmtp\nclass-map d\n match access-list x\n" + global + denied + rest, "lost 13, lost 14"},
		{"a PIX's fixup taken back", "static (a,b) 192.0.2.1 10.1.1.1\nfixup protocol smtp 25\nno fixup protocol smtp 25\n", "192.0.2.1=10.1.1.1, warns 2, lost 3"},
		{"a PIX's fixup taken back and given again", "static (a,b) 192.0.2.1 10.1.1.1\nno fixup protocol smtp\nfixup protocol smtp 25\n", "192.0.2.1=10.1.1.1, warns 3"},
		{"a PIX's fixup of another port taken back", "static (a,b) 192.0.2.1 10.1.1.1\nfixup protocol smtp 25\nno fixup protocol smtp 2525\n", "192.0.2.1=10.1.1.1, warns 2"},
		{"inspected by a class, not by a fixup", class + "no fixup protocol smtp 25\n" + global + denied + rest, "10.1.1.1"},
		{"inspected and taken back", class + "  no inspect esmtp\n" + global + rest, "warns 3, lost 8"},
	} {
		if got := result(t, tt.text); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestStatic: one `static` line.
func TestStatic(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"192.0.2.1 10.1.1.1", "192.0.2.1=10.1.1.1"},
		{"192.0.2.1 10.1.1.1 netmask 255.255.255.255 tcp 50 20", "192.0.2.1=10.1.1.1 tcp 50 20"},
		{"192.0.2.1 10.1.1.1 netmask 255.255.255.255 50 20", "192.0.2.1=10.1.1.1 tcp 50 20"},
		{"192.0.2.1 10.1.1.1 netmask 255.255.255.255 50", "192.0.2.1=10.1.1.1 tcp 50 0"},
		{"192.0.2.1 10.1.1.1 norandomseq tcp 0 20", "192.0.2.1=10.1.1.1 tcp 0 20"},
		{"192.0.2.1 10.1.1.1 0 0", "192.0.2.1=10.1.1.1"},
		{"192.0.2.1 10.1.1.1 tcp 50 50", "192.0.2.1=10.1.1.1 tcp 50 50"},
		{"192.0.2.1 10.1.1.1 tcp 50 51", "192.0.2.1=10.1.1.1 tcp 50 51, warns 1"},
		{"192.0.2.1 10.1.1.1 tcp 2000000 0", "192.0.2.1=10.1.1.1 tcp 2000000 0"},
		{"192.0.2.1 10.1.1.1 dns tcp 5 udp 7", "192.0.2.1=10.1.1.1 tcp 5 0, warns 1, warns 1"},
		{"192.0.2.1 10.1.1.1 dns netmask 255.255.255.255 50 20", "192.0.2.1=10.1.1.1 tcp 50 20, warns 1"},
		{"192.0.2.0 10.1.1.0 netmask 255.255.255.0", "192.0.2.0/24=10.1.1.0/24"},
		{"192.0.2.9 10.1.1.0 netmask 255.255.255.0", "192.0.2.0/24=10.1.1.0/24, warns 1"},
		{"10.1.1.1 10.1.1.1 tcp 5", "10.1.1.1=10.1.1.1 tcp 5 0"},
		{"10.1.1.1 10.1.1.1", "warns 1"},
		{"192.0.2.1 10.1.1.1 tcp 2000001 0", "lost 1"},
		{"192.0.2.1 10.1.1.1 tcp", "lost 1"},
		{"192.0.2.1 10.1.1.1 tcp 5 5 5 sometimes", "lost 1"},
		{"192.0.2.1 10.1.1.1 5 4 3", "lost 1"},
		{"192.0.2.1 10.1.1.1 tcp 5 4 norandomseq tcp 9 8", "lost 1"},
		{"192.0.2.0 10.1.1.0", "lost 1"},
		{"192.0.2.0 10.1.1.0 netmask 0.0.0.255", "lost 1"},
		{"192.0.2.0 10.1.1.0 netmask 0.0.0.0", "lost 1"},
		{"192.0.2.1 fd00::1", "lost 1"},
		{"tcp 192.0.2.1 25 10.1.1.1 25", "lost 1"},
		{"interface 10.1.1.1", "lost 1"},
		{"192.0.2.1 access-list nat", "lost 1"},
		{"192.0.2.1", "lost 1"},
		{"", "lost 1"},
	} {
		// A map, so that a file of one unusable line is not refused as a whole.
		got := result(t, "static (inside,outside) "+tt.line+"\npolicy-map type inspect esmtp m\n")
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.line, got, tt.want)
		}
	}
}

// TestUnusable: what is not read is listed or counted, never silently gone.
func TestUnusable(t *testing.T) {
	const mapped = "static (inside,outside) 192.0.2.1 10.1.1.1\n"
	for _, tt := range []struct{ name, text, want string }{
		{"control character", mapped + "static (inside,outside) 192.0.2.2 10.1.1.2\x1b[2J\n", "192.0.2.1=10.1.1.1, lost 2"},
		{"long line", mapped + "static (inside,outside) 192.0.2.2 10.1.1.2" + strings.Repeat(" ", maxLine) + "dns\n", "192.0.2.1=10.1.1.1, lost 2"},
		{"a map with an error", mapped + "policy-map type inspect esmtp m\n parameters\n  allow-tlss\n  allow-bdat\n", "192.0.2.1=10.1.1.1, lost 4"},
		{"a map of no name", mapped + "policy-map type inspect esmtp\n parameters\n  allow-tls\n", "192.0.2.1=10.1.1.1, lost 2, lost 3, lost 4"},
		{"an inspection by no map", mapped + "policy-map p\n class class-default\n  inspect esmtp m\nservice-policy p global\n", "192.0.2.1=10.1.1.1, lost 4"},
		{"a match whose regex is missing", mapped + "policy-map type inspect esmtp m\n match sender-address regex r\n  log\n match cmd line length gt 512\n  log\n", "192.0.2.1=10.1.1.1, lost 3, lost 4"},
		{"control character in a name", mapped + "name 10.1.1.1 a\x01b\n", "192.0.2.1=10.1.1.1, lost 2"},
		{"networks in each other", mapped + "static (a,b) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\nstatic (a,b) 198.51.100.0 10.1.1.0 netmask 255.255.255.128\nstatic (a,b) 192.0.2.128 10.1.9.128 netmask 255.255.255.128\n",
			"192.0.2.1=10.1.1.1, 192.0.2.0/24=10.1.1.0/24, lost 3, lost 4"},
		{"one network, two global ones", mapped + "static (a,b) 192.0.2.0 10.1.1.0 netmask 255.255.255.0\nstatic (a,b) 198.51.100.0 10.1.1.0 netmask 255.255.255.0\n",
			"192.0.2.1=10.1.1.1, 192.0.2.0/24=10.1.1.0/24, 198.51.100.0/24=10.1.1.0/24, warns 3"},
		{"a second static of a global address", mapped + "static (inside,dmz) 192.0.2.1 10.1.1.2\n", "192.0.2.1=10.1.1.1, lost 2"},
		{"the address itself over other interfaces", "static (inside,dmz) 10.1.1.1 10.1.1.1\n" + mapped + "static (inside,dmz) 10.1.0.0 10.1.0.0 netmask 255.255.0.0\nstatic (inside,dmz) 10.2.0.0 10.2.0.0 netmask 255.255.0.0\n",
			"192.0.2.1=10.1.1.1, warns 4, lost 1, lost 3"},
		{"another inspection", mapped + "policy-map type inspect http h\n parameters\n  protocol-violation action drop\n", "192.0.2.1=10.1.1.1"},
	} {
		if got := result(t, tt.text); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestMaps: by which map policy.conf inspects, and its match lines.
func TestMaps(t *testing.T) {
	const (
		service = "service-policy p global\n"
		lists   = "class-map c\n match access-list x\naccess-list x permit tcp any any eq smtp\n"
		maps    = "policy-map type inspect esmtp m1\n match cmd line length gt 512\n  log\npolicy-map type inspect esmtp m2\n"
		long    = "a-name-of-forty-one-characters-which-is-1-"
	)
	for _, tt := range []struct{ name, text, want string }{
		{"none", "policy-map p\n class inspection_default\n  inspect esmtp\n" + service, "inspection_default by _default_esmtp_map"},
		{"named", maps + "policy-map p\n class inspection_default\n  inspect esmtp m1\n" + service, "inspection_default by m1: cmd line length gt 512"},
		{"that of all mail", maps + lists + "policy-map p\n class c\n  inspect esmtp m2\n class inspection_default\n  inspect esmtp m1\n" + service,
			"inspection_default by m1: cmd line length gt 512, lost 10"},
		{"that of a list", maps + lists + "policy-map p\n class c\n  inspect esmtp m2\n" + service, "c by m2"},
		{"a map that is missing", maps + "policy-map p\n class inspection_default\n  inspect esmtp m3\n" + service, "inspection_default by _default_esmtp_map, lost 7"},
		{"the lines of a bad map do not go to the one above it", maps + "policy-map type inspect esmtp " + long + "\n parameters\n  allow-tls\n match body length gt 5\n  log\n" +
			"policy-map p\n class inspection_default\n  inspect esmtp m2\n" + service, "inspection_default by m2, lost 5, lost 6, lost 7, lost 8, lost 9"},
		{"the action of a bad match does not go to the one above it", maps + " match cmd line length gt 9\n match cmd line size gt 5\n  reset\npolicy-map p\n class inspection_default\n  inspect esmtp m2\n" + service,
			"inspection_default by m2, lost 5, lost 6, lost 7"},
		{"names that policy.conf does not take", "policy-map " + long + "\n class " + long + "\n  inspect esmtp\nclass-map " + long + "\n match any\nservice-policy " + long + " global\n",
			"inspection_default by _default_esmtp_map"},
	} {
		r, err := Import("test.cfg", []byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		c := r.Policy.Classes[0]
		got := c.Name + " by " + c.Map.Name
		for _, m := range c.Map.Matches {
			if c.Map.Name != policy.DefaultMapName {
				got += ": " + m.String()
			}
		}
		for _, f := range r.Lost {
			got += fmt.Sprintf(", lost %d", f.Line)
		}
		if got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// TestErrors: files that give nothing.
func TestErrors(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "no static mapping, exempt host or inspection of mail in it"},
		{"no configuration", "Dear Sir,\nplease find\n", "no static mapping, exempt host or inspection of mail in it"},
		{"one unusable line", "static (inside,outside) 192.0.2.1\n", "no static mapping, exempt host or inspection of mail in it"},
		{"too many lines", strings.Repeat("\n", maxLines+1), "more than 16777216 bytes or 500000 lines"},
		{"too many bytes", strings.Repeat("a", MaxBytes+1), "more than 16777216 bytes or 500000 lines"},
	} {
		_, err := Import("test.cfg", []byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %q in it", tt.name, err, tt.want)
		}
	}
}

// TestManyErrors: a policy that has another error behind each error still comes
// to an end, and what is dropped is listed.
func TestManyErrors(t *testing.T) {
	var text strings.Builder
	for i := range 300 { // above the 255 that the policy takes, which it tells one by one
		fmt.Fprintf(&text, "policy-map type inspect esmtp m%d\n match cmd line length gt 512\n  log\n", i)
	}
	r, err := Import("test.cfg", []byte(text.String()))
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for _, m := range r.Policy.Maps[1:] {
		lines += 1 + 2*len(m.Matches)
	}
	if lines < 600 || lines+len(r.Lost) != 900 {
		t.Errorf("%d lines are carried over and %d lines are listed", lines, len(r.Lost))
	}
}

// TestIndentation: the same text says the same without its blanks.
func TestIndentation(t *testing.T) {
	text := exemptClass + both("permit ip", "host 10.1.1.1") +
		"object network o\n host 10.1.1.1\n nat (inside,outside) static 192.0.2.1\n" +
		"policy-map type inspect esmtp m\n parameters\n  allow-tls\n match body length gt 5\n  log\n"
	bare := strings.ReplaceAll(strings.ReplaceAll(text, "\n ", "\n"), "\n ", "\n")
	if diff := cmp.Diff(result(t, text), result(t, bare)); diff != "" {
		t.Errorf("(-indented +bare):\n%s", diff)
	}
	if got, want := result(t, bare), "10.1.1.1, 192.0.2.1=10.1.1.1, warns 3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSetConnection: every line of a class of all mail is in the policy or
// listed; what the policy's language takes of them is its own business.
func TestSetConnection(t *testing.T) {
	for _, line := range []string{"conn-max 100 embryonic-conn-max 50", "per-client-max 9", "timeout idle 1:00:00", "nonsense"} {
		frame := "class-map inspection_default\n match queue 0-3\npolicy-map p\n class inspection_default\n  inspect esmtp\n  set connection " + line + "\nservice-policy p global\n"
		_, err := policy.Parse("frame.conf", []byte(frame))
		r, ierr := Import("test.cfg", []byte("policy-map p\n class inspection_default\n  inspect esmtp\n  set connection "+line+"\nservice-policy p global\n"))
		if ierr != nil {
			t.Fatal(ierr)
		}
		listed := len(r.Lost) == 1 && r.Lost[0].Line == 4
		if carried := strings.Contains(r.PolicyConf(), "set connection"); carried == listed || carried != (err == nil) {
			t.Errorf("set connection %s: carried over %v, listed %v; the policy says %v", line, carried, listed, err)
		}
	}
}

// TestSetConnectionAgain: what two classes of all mail state is carried over once.
func TestSetConnectionAgain(t *testing.T) {
	r, err := Import("test.cfg", []byte("policy-map p\n class inspection_default\n  inspect esmtp\n  set connection conn-max 9 per-client-max 3\n"+
		" class class-default\n  set connection per-client-max 2\n  set connection embryonic-conn-max 5\nservice-policy p global\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Finding{{6, "set connection per-client-max 2", "line 4 sets it already, and policy.conf has one class for all mail"}}
	if diff := cmp.Diff(want, r.Lost); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := r.Policy.Classes[0].SetConnection(); got != "conn-max 9 embryonic-conn-max 5 per-client-max 3" {
		t.Error(got)
	}
}
