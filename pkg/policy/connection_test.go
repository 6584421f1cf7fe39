package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// limited is a policy with two classes: the first inspects, the second need not.
// Each has the given lines in the policy map.
func limited(first, second string) string {
	return "class-map a\n match queue 0-3\nclass-map b\n match queue 4\npolicy-map p\n class a\n  inspect esmtp\n" + first +
		" class b\n" + second + "service-policy p global\n"
}

// TestConnectionLimits: what the lines of two classes come to, for each class, for
// all hosts, and printed.
func TestConnectionLimits(t *testing.T) {
	type limits struct{ a, aClient, b, bClient, host, client static.Limits }
	const inspect = "  inspect esmtp\n"
	tests := []struct {
		name, a, b string
		want       limits
		print      string // the second class
	}{
		{"none", "", inspect, limits{}, "  inspect esmtp _default_esmtp_map\n"},
		{"one line with all, in any order and case", "  set connection Per-Client-Max 4 conn-max 50 per-client-embryonic-max 3 EMBRYONIC-conn-max 40\n", inspect, limits{
			a: static.Limits{Max: 50, Embryonic: 40}, aClient: static.Limits{Max: 4, Embryonic: 3},
			host: static.Limits{Max: 50, Embryonic: 40}, client: static.Limits{Max: 4, Embryonic: 3}},
			"  inspect esmtp _default_esmtp_map\n"},
		{"a line each", "", "  set connection conn-max 1\n  inspect esmtp\n  set connection embryonic-conn-max 2\n  set connection per-client-max 3\n  set connection per-client-embryonic-max 4\n", limits{
			b: static.Limits{Max: 1, Embryonic: 2}, bClient: static.Limits{Max: 3, Embryonic: 4},
			host: static.Limits{Max: 1, Embryonic: 2}, client: static.Limits{Max: 3, Embryonic: 4}},
			"  inspect esmtp _default_esmtp_map\n  set connection conn-max 1 embryonic-conn-max 2 per-client-max 3 per-client-embryonic-max 4\n"},
		{"a class that only states limits", "", "  set connection embryonic-conn-max 2000000\n", limits{
			b: static.Limits{Embryonic: 2000000}, host: static.Limits{Embryonic: 2000000}},
			"  set connection embryonic-conn-max 2000000\n"},
		{"the lowest figure of each", "  set connection conn-max 50 embryonic-conn-max 10 per-client-max 7\n",
			"  set connection conn-max 40 embryonic-conn-max 20 per-client-embryonic-max 6\n", limits{
				a: static.Limits{Max: 50, Embryonic: 10}, aClient: static.Limits{Max: 7},
				b: static.Limits{Max: 40, Embryonic: 20}, bClient: static.Limits{Embryonic: 6},
				host: static.Limits{Max: 40, Embryonic: 10}, client: static.Limits{Max: 7, Embryonic: 6}},
			"  set connection conn-max 40 embryonic-conn-max 20 per-client-embryonic-max 6\n"},
		{"0 is unlimited, not the lowest", "  set connection conn-max 0 embryonic-conn-max 5\n", inspect + "  set connection conn-max 9 embryonic-conn-max 0\n", limits{
			a: static.Limits{Embryonic: 5}, b: static.Limits{Max: 9}, host: static.Limits{Max: 9, Embryonic: 5}},
			"  inspect esmtp _default_esmtp_map\n  set connection conn-max 9\n"},
	}
	for _, test := range tests {
		c := mustParse(t, limited(test.a, test.b))
		host, client := c.ConnectionLimits()
		got := limits{c.Classes[0].Limits, c.Classes[0].ClientLimits, c.Classes[1].Limits, c.Classes[1].ClientLimits, host, client}
		if got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", test.name, got, test.want)
		}
		printed := c.String()
		if _, b, _ := strings.Cut(printed, "\n class b\n"); b != test.print+"service-policy p global\n" {
			t.Errorf("%s: printed\n%swant\n%s", test.name, b, test.print)
		}
		if diff := cmp.Diff(c, mustParse(t, printed), sameConfig); diff != "" {
			t.Errorf("%s: printed and parsed (-first +second):\n%s", test.name, diff)
		}
	}
	if host, client := Default().ConnectionLimits(); host != (static.Limits{}) || client != (static.Limits{}) {
		t.Errorf("the built-in policy limits connections: %v, %v", host, client)
	}
}

// TestOnlyLimits: a class that does not inspect binds no queue, also where it
// stands first.
func TestOnlyLimits(t *testing.T) {
	c := mustParse(t, `class-map limits
 match queue 0
class-map mail
 match queue 1-2
policy-map p
 class limits
  set connection conn-max 50
 class mail
  inspect esmtp
service-policy p global
`)
	if cl := c.Classes[0]; cl.Name != "limits" || cl.Map != nil || cl.TCP == nil || cl.First != 0 || cl.Last != 0 {
		t.Errorf("first class: %+v", cl)
	}
	if diff := cmp.Diff([]uint16{1, 2}, c.Queues()); diff != "" {
		t.Errorf("Queues (-want +got):\n%s", diff)
	}
	if cl := c.ClassFor(0); cl != nil {
		t.Errorf("ClassFor(0) = %s, want none", cl.Name)
	}
	for what, cl := range map[string]*Class{"ClassFor(1)": c.ClassFor(1), "Inspecting": c.Inspecting()} {
		if cl != &c.Classes[1] {
			t.Errorf("%s = %v, want the class mail of the list", what, cl)
		}
	}
	if cl := (&Config{Classes: c.Classes[:1]}).Inspecting(); cl != nil {
		t.Errorf("Inspecting without a class that does = %v", cl)
	}
}

// TestBadSetConnection has wrong lines in the second class, whose first line is
// line 9, and the errors without the file's name.
func TestBadSetConnection(t *testing.T) {
	const (
		inspect = "  inspect esmtp\n"
		numbers = "not in range; want a number from 0 to 2000000"
		more    = "want conn-max, embryonic-conn-max, per-client-max or per-client-embryonic-max"
		noClass = "8:8: b: class without an action; want inspect esmtp below it, or set connection with a limit"
	)
	tests := []struct{ lines, want string }{
		{"  set connection conn-max\n", "9:26: end of line: " + numbers},
		{"  set connection conn-max 2000001\n", "9:27: 2000001: " + numbers},
		{"  set connection conn-max -1\n", "9:27: -1: " + numbers},
		{"  set connection conn-max 5 embryonic-conn-max\n", "9:47: end of line: " + numbers},
		{"  set connection conn-max 5 6\n", "9:29: 6: unexpected; " + more},
		{"  set connection conn-max 5 embryonic-max 6\n", "9:29: embryonic-max: unexpected; " + more},
		{"  set connection conn-max 5 per-client-maxx 6\n", "9:29: per-client-maxx: unexpected; " + more + " (did you mean per-client-max?)"},
		{"  set connection conn-max 5 advanced-options t\n", "9:29: advanced-options: unexpected; " + more},
		{"  set connection conn-max 5 conn-max 5\n", "9:29: conn-max: stated twice, first in line 9"},
		{"  set connection conn-max 5\n  set connection per-client-max 1 conn-max 5\n", "10:35: conn-max: stated twice, first in line 9"},
		{"  set connection random-sequence-number disable\n",
			"9:18: random-sequence-number: not done, the ends choose their sequence numbers themselves; want no such words"},
		{"  set connection conn-max 5 random-sequence-number disable\n",
			"9:29: random-sequence-number: not done, the ends choose their sequence numbers themselves; want no such words"},
		{"  set connection timeout embryonic 0:0:30\n", "9:18: timeout: not decided here; want no such line: " +
			"the sysctls net.netfilter.nf_conntrack_tcp_timeout_* hold, and 30 seconds for half-open connections"},
		{"  set connection decrement-ttl\n",
			"9:18: decrement-ttl: not decided here; want no such line: the kernel decrements the TTL of every packet that it forwards"},
		{"  set connection syn-cookie-mss 1380\n", "9:18: syn-cookie-mss: not decided here; want no such words: mss behind synproxy in intercept.nft"},
		{"", noClass},
		{"  set connection conn-max 0 per-client-max 0\n", noClass},
		{"  set connection conn-max 5\n  set connection advanced-options t\n", "10:35: t: tcp-map of a class that inspects nothing; want inspect esmtp below that class, or no such line"},
		{inspect + "  no set connection conn-max\n", "10:3: no: a policy file says what holds, it takes nothing back; want the set line left out"},
	}
	for _, test := range tests {
		_, err := Parse("", []byte(limited("", test.lines)+"tcp-map t\n"))
		if err == nil || err.Error() != ":"+test.want {
			t.Errorf("%q:\n got %v\nwant :%s", test.lines, err, test.want)
		}
	}
	_, err := Parse("", []byte("class-map a\n match queue 0\npolicy-map p\n class a\n  set connection conn-max 5\nservice-policy p global\n"))
	if want := ":3:12: p: policy map that inspects nothing; want inspect esmtp below one of its classes"; err == nil || err.Error() != want {
		t.Errorf("a policy of limits only:\n got %v\nwant %s", err, want)
	}
}

// TestConnectionWarnings: figures that hold otherwise than they read.
func TestConnectionWarnings(t *testing.T) {
	const (
		reached = "is reached before "
		begins  = ": where half-open connections alone reach it, TCP intercept begins there; write "
		all     = ": connections are counted for the hosts of static.nft, whatever their class, and "
		remedy  = " holds for all of them; write one figure, and limits of single hosts in static.nft"
	)
	tests := []struct {
		name, a, b string
		want       []string
	}{
		{"right", "  set connection conn-max 50 embryonic-conn-max 50 per-client-max 5 per-client-embryonic-max 4\n",
			"  set connection conn-max 50\n", nil},
		{"unlimited", "  set connection conn-max 50 per-client-embryonic-max 4\n", "  set connection embryonic-conn-max 100 conn-max 0\n", nil},
		{"the larger figure behind the smaller", "  set connection conn-max 50 embryonic-conn-max 51 per-client-max 1 per-client-embryonic-max 4\n", "  inspect esmtp\n", []string{
			"class a: conn-max 50 " + reached + "embryonic-conn-max 51" + begins + "embryonic-conn-max 50 or less",
			"class a: per-client-max 1 " + reached + "per-client-embryonic-max 4" + begins + "per-client-embryonic-max 1 or less"}},
		{"different figures", "  set connection conn-max 50 per-client-embryonic-max 4\n", "  set connection per-client-embryonic-max 3 conn-max 60\n", []string{
			"set connection conn-max: 50 in class a, 60 in class b" + all + "50" + remedy,
			"set connection per-client-embryonic-max: 4 in class a, 3 in class b" + all + "3" + remedy}},
	}
	for _, test := range tests {
		var got []string
		for _, w := range mustParse(t, limited(test.a, test.b)).Warnings() {
			if !strings.HasPrefix(w, "map ") {
				got = append(got, w)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}
