package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tcpFrame is a policy whose class uses tcp-map t, which has the given lines.
func tcpFrame(lines string) string {
	return "tcp-map t\n" + lines + strings.Replace(frame(""), " class c\n", " class c\n  set connection advanced-options t\n", 1)
}

// TestTCPMap: what each line means to the class, and how it is printed. A line
// that says the default is not.
func TestTCPMap(t *testing.T) {
	tests := []struct {
		lines string
		set   func(*TCPMap) // what differs from the default
		print string
	}{
		{"", func(*TCPMap) {}, ""},
		{"  queue-limit 1\n", func(t *TCPMap) { t.QueueLimit = 1 }, "  queue-limit 1 timeout 4\n"},
		{"  queue-limit 250 timeout 20\n", func(t *TCPMap) { t.QueueLimit, t.QueueTimeout = 250, 20*time.Second }, "  queue-limit 250 timeout 20\n"},
		{"  queue-limit 0 timeout 1\n", func(t *TCPMap) { t.QueueTimeout = time.Second }, "  queue-limit 0 timeout 1\n"},
		{"  queue-limit 0 timeout 4\n", func(*TCPMap) {}, ""},
		{"  queue-limit 0\n", func(*TCPMap) {}, ""},
		{"  no queue-limit\n", func(*TCPMap) {}, ""},
		{"  check-retransmission\n", func(t *TCPMap) { t.CheckRetransmission = true }, "  check-retransmission\n"},
		{"  no check-retransmission\n", func(*TCPMap) {}, ""},
		{"  checksum-verification\n", func(t *TCPMap) { t.ChecksumVerification = true }, "  checksum-verification\n"},
		{"  no checksum-verification\n", func(*TCPMap) {}, ""},
		{"  exceed-mss drop\n", func(t *TCPMap) { t.DropOverMSS = true }, "  exceed-mss drop\n"},
		{"  exceed-mss allow\n", func(*TCPMap) {}, ""},
		{"  no exceed-mss\n", func(*TCPMap) {}, ""},
		{"  urgent-flag allow\n", func(t *TCPMap) { t.AllowUrgent = true }, "  urgent-flag allow\n"},
		{"  urgent-flag clear\n", func(*TCPMap) {}, ""},
		{"  reserved-bits allow\n", func(*TCPMap) {}, ""},
		{"  reserved-bits clear\n", func(t *TCPMap) { t.ReservedBits = ReservedClear }, "  reserved-bits clear\n"},
		{"  Reserved-Bits Drop\n", func(t *TCPMap) { t.ReservedBits = ReservedDrop }, "  reserved-bits drop\n"},
		{"  ttl-evasion-protection\n", func(*TCPMap) {}, ""},
		{"  no ttl-evasion-protection\n", func(t *TCPMap) { t.NoTTLProtection = true }, "  no ttl-evasion-protection\n"},
		{"  invalid-ack drop\n  seq-past-window drop\n  syn-data drop\n  synack-data drop\n  window-variation allow\n", func(*TCPMap) {}, ""},
		{"  no invalid-ack\n  no seq-past-window\n  no syn-data\n  no synack-data\n  no window-variation\n", func(*TCPMap) {}, ""},
	}
	for _, test := range tests {
		want := &TCPMap{Name: "t", QueueTimeout: 4 * time.Second}
		test.set(want)
		c := mustParse(t, tcpFrame(test.lines))
		if diff := cmp.Diff(want, c.Classes[0].TCP); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.lines, diff)
		}
		if len(c.TCPMaps) != 1 || c.TCPMaps[0] != c.Classes[0].TCP {
			t.Errorf("%q: the class has a tcp-map of its own, not that of the list", test.lines)
		}
		if got, want := c.TCPMaps[0].String(), "tcp-map t\n"+test.print; got != want {
			t.Errorf("%q: printed\n%swant\n%s", test.lines, got, want)
		}
	}
}

// TestBadTCPMapLines has one wrong line, or several, in a tcp-map, and the errors
// without the file's name.
func TestBadTCPMapLines(t *testing.T) {
	const (
		syn   = "allow: not done, receivers differ in whether they deliver octets that come with a SYN; want drop"
		strip = "tcp-options: not decided here; want no such line: chain strip of the nft ruleset takes MPTCP, fast open and MD5 off, other options pass"
	)
	tests := []struct{ lines, want string }{
		{"  queue-limit\n", "2:14: end of line: not in range; want a number from 0 to 250"},
		{"  queue-limit 251\n", "2:15: 251: not in range; want a number from 0 to 250"},
		{"  queue-limit -1\n", "2:15: -1: not in range; want a number from 0 to 250"},
		{"  queue-limit 3 4\n", "2:17: 4: unexpected; want timeout"},
		{"  queue-limit 3 timeout\n", "2:24: end of line: not in range; want a number from 1 to 20"},
		{"  queue-limit 3 timeout 0\n", "2:25: 0: not in range; want a number from 1 to 20"},
		{"  queue-limit 3 timeout 21\n", "2:25: 21: not in range; want a number from 1 to 20"},
		{"  queue-limit 3 timeout 4 5\n", "2:27: 5: unexpected; want the end of the line"},
		{"  check-retransmission log\n", "2:24: log: unexpected; want the end of the line"},
		{"  checksum-verification 1\n", "2:25: 1: unexpected; want the end of the line"},
		{"  exceed-mss\n", "2:13: end of line: unexpected; want allow or drop"},
		{"  exceed-mss clear\n", "2:14: clear: unexpected; want allow or drop"},
		{"  exceed-mss drop drop\n", "2:19: drop: unexpected; want the end of the line"},
		{"  urgent-flag drop\n", "2:15: drop: unexpected; want allow or clear"},
		{"  reserved-bits\n", "2:16: end of line: unexpected; want allow, clear or drop"},
		{"  reserved-bits cleer\n", "2:17: cleer: unexpected; want allow, clear or drop (did you mean clear?)"},
		{"  ttl-evasion-protection off\n", "2:26: off: unexpected; want the end of the line"},
		{"  no ttl-evasion-protection off\n", "2:29: off: unexpected; want the end of the line"},
		{"  no ttl-evasion-protection\n  no ttl-evasion-protection\n", "3:3: no ttl-evasion-protection: stated twice, first in line 2"},
		{"  invalid-ack allow\n", "2:15: allow: not done, conntrack drops packets that acknowledge what was never sent; want drop"},
		{"  invalid-ack clear\n", "2:15: clear: unexpected; want drop"},
		{"  seq-past-window allow\n", "2:19: allow: not done, receivers differ in what they keep of octets beyond their window; want drop"},
		{"  syn-data allow\n", "2:12: " + syn},
		{"  Synack-Data Allow\n", "2:15: " + strings.Replace(syn, "allow", "Allow", 1)},
		{"  syn-data\n", "2:11: end of line: unexpected; want drop"},
		{"  syn-data drop now\n", "2:17: now: unexpected; want the end of the line"},
		{"  syn-data drop\n  no syn-data\n", "3:3: no syn-data: stated twice, first in line 2"},
		{"  window-variation drop\n", "2:20: drop: not done, no connection is judged by how its window changes; want allow"},
		{"  tcp-options range 9 255 clear\n", "2:3: " + strip},
		{"  tcp-options timestamp allow\n  tcp-options selective-ack allow\n", "2:3: " + strip + "\n3:3: " + strip},
	}
	for _, test := range tests {
		_, err := Parse("FILE", []byte(tcpFrame(test.lines)))
		if err == nil {
			t.Errorf("%q: no error, want %s", test.lines, test.want)
		} else if got := strings.ReplaceAll(err.Error(), "FILE:", ""); got != test.want {
			t.Errorf("%q\n got %s\nwant %s", test.lines, got, test.want)
		}
	}
}

// TestTCPMapOfClass: a class has the map that it names, another the default;
// several may share one.
func TestTCPMapOfClass(t *testing.T) {
	c := mustParse(t, `policy-map p
 class a
  set connection advanced-options Late
  inspect esmtp
 class b
  inspect esmtp
 class c
  inspect esmtp
  Set Connection Advanced-Options Late
service-policy p global
class-map a
 match queue 0
class-map b
 match queue 1
class-map c
 match queue 2
tcp-map late
tcp-map Late
  exceed-mss drop
`)
	var got []string
	for _, cl := range c.Classes {
		got = append(got, cl.Name+" "+cl.TCP.Name)
	}
	if want := []string{"a Late", "b ", "c Late"}; !slices.Equal(got, want) {
		t.Errorf("classes and tcp-maps %q, want %q", got, want)
	}
	if diff := cmp.Diff(DefaultTCPMap(), c.Classes[1].TCP); diff != "" {
		t.Errorf("class without a tcp-map (-want +got):\n%s", diff)
	}
	if c.Classes[0].TCP != c.TCPMaps[1] || c.Classes[2].TCP != c.TCPMaps[1] {
		t.Error("the classes do not share the tcp-map")
	}
	const want = `tcp-map late
tcp-map Late
  exceed-mss drop
class-map a
 match queue 0
class-map b
 match queue 1
class-map c
 match queue 2
policy-map p
 class a
  inspect esmtp _default_esmtp_map
  set connection advanced-options Late
 class b
  inspect esmtp _default_esmtp_map
 class c
  inspect esmtp _default_esmtp_map
  set connection advanced-options Late
service-policy p global
`
	if _, printed, _ := strings.Cut(c.String(), "  mask\n"); printed != want {
		t.Errorf("printed behind the map:\n%swant\n%s", printed, want)
	}
}
