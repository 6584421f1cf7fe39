package netns

import (
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Without synproxy in the kernel the start says what that means: SYNs over an
// embryonic limit, of a host or of a client, are dropped. Below it nothing is.
func TestLimitWithoutSynproxy(t *testing.T) {
	for _, c := range []struct {
		static, policy string
		record         int
	}{
		{"tcp 0 3", "conn-max 9", 201010},
		{"tcp 9 0", "per-client-embryonic-max 3", 201012},
	} {
		t.Run(c.static+", "+c.policy, func(t *testing.T) {
			opt := withElements(t, "static.nft", limited(c.static))
			opt.Files["intercept.nft"] = ""
			w := newWall(t, opt, classPolicy("set connection "+c.policy))
			serve(t, w.Lab, lab.Server)
			const warning = "no rule of chain intercept answers SYNs with cookies: SYNs over the embryonic limit of a host will be dropped"
			if started, _, _ := strings.Cut(w.log.String(), "msg=ready"); strings.Count(started, warning) != 1 {
				t.Errorf("the start does not say once %q:\n%s", warning, w.log)
			}
			for family, g := range globals {
				addClient(t, w.Lab, anotherClient[family])
				client := w.knocker(t, family, hostileClient[family], g.global)
				client.knock(t)
				client.knock(t)
				w.halfOpen(t, g.global, 2)
				w.mustOpen(t, g.global)
				client.knock(t)
				w.halfOpen(t, g.global, 3)
				client.knock(t)
				w.told(t, hostileClient[family], "3/3", []int{c.record})
				if h := w.static(t, g.global); h.Denied != 1 || h.HalfOpen != 3 || h.Intercept {
					t.Errorf("%s: show static says %+v", g.name, h)
				}
				if c.record == 201012 {
					w.mustDialFrom(t, anotherClient[family], g.global, 0)
				} else {
					w.refused(t, g.global)
				}
			}
		})
	}
}

// For a server with a smaller MTU a line of its own in intercept.nft, as the
// shipped example has it, gives clients its MSS; others get that of Ethernet.
func TestLimitInterceptMSS(t *testing.T) {
	text := shipped(t, "intercept.nft")
	example := regexp.MustCompile(`(?m)^\t\t# (ip daddr 192\.0\.2\.1 .* synproxy mss 1360 .*)$`).FindStringSubmatch(text)
	if example == nil {
		t.Fatal("intercept.nft has no example of a server with a smaller MSS")
	}
	own4 := strings.ReplaceAll(example[1], "192.0.2.1", globalIP4)
	own6 := strings.NewReplacer("ip daddr", "ip6 daddr", "192.0.2.1", globalIP6, "@intercept4", "@intercept6", "1360", "1340").Replace(example[1])
	opt := withElements(t, "static.nft", limited("tcp 0 1"))
	opt.Files["intercept.nft"] = strings.Replace(text, example[0], "\t\t"+own4+"\n\t\t"+own6, 1)
	l := newLab(t, opt)
	for _, host := range []lab.Host{lab.Client, lab.Firewall} { // the client's own limit must not be the lower one
		if out, err := l.Command(host, "ip", "link", "set", lab.Outside, "mtu", "9000").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for global, want := range map[string]int{globalIP4: 1360, "10.9.3.8": 1460, globalIP6: 1340, "fd09:3::8": 1440} {
		suffix := "4"
		if strings.Contains(global, ":") {
			suffix = "6"
		}
		addRoute(t, l, global)
		nft(t, l, "add element inet smtpwall intercept"+suffix+" { "+global+" }")
		if got := offeredMSS(t, l, global); got != want {
			t.Errorf("%s: the client sends segments of %d octets at most, want %d", global, got, want)
		}
	}
}

// offeredMSS is how much a client that connects to an address sends in a segment.
func offeredMSS(t *testing.T, l *lab.Lab, address string) (size int) {
	t.Helper()
	conn, err := l.Dial(lab.Client, net.JoinHostPort(address, "25"), liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { size, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return size
}
