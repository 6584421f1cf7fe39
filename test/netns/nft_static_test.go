package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Global addresses of the server in these tests, and where the firewall would
// send packets to them that are not translated.
const (
	globalIP4 = "10.9.3.9"
	globalIP6 = "fd09:3::9"
)

// staticElements map the server's local addresses and its network.
const staticElements = `
add element inet smtpwall static4 { 10.9.3.9 comment "tcp 50 100" : 10.9.2.2 }
add element inet smtpwall rstatic4 { 10.9.2.2 : 10.9.3.9 }
add element inet smtpwall static6 { fd09:3::9 comment "tcp 50 100" : fd09:2::2 }
add element inet smtpwall rstatic6 { fd09:2::2 : fd09:3::9 }
`

// networkElements map the server's networks.
const networkElements = `
add element inet smtpwall static4net { 10.9.4.0/24 : 10.9.2.0/24 }
add element inet smtpwall rstatic4net { 10.9.2.0/24 : 10.9.4.0/24 }
add element inet smtpwall static6net { fd09:4::/64 : fd09:2::/64 }
add element inet smtpwall rstatic6net { fd09:2::/64 : fd09:4::/64 }
`

// withElements are the options that append text to a shipped file.
func withElements(t *testing.T, name, text string) lab.Options {
	t.Helper()
	return lab.Options{Files: map[string]string{name: shipped(t, name) + text}}
}

// shipped is the text of a shipped file.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(nftDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Clients reach the server by its global address, inspected as its local one;
// connections of the server itself come from the global address.
func TestNFTStatic(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	serve(t, l, lab.Client)
	r := read(t, l, accept)
	for _, c := range []struct{ name, elements, global, local, client string }{
		{"host IPv4", staticElements, globalIP4, lab.ServerIP4, lab.ClientIP4},
		{"host IPv6", staticElements, globalIP6, lab.ServerIP6, lab.ClientIP6},
		{"network IPv4", networkElements, "10.9.4.2", lab.ServerIP4, lab.ClientIP4},
		{"network IPv6", networkElements, "fd09:4::2", lab.ServerIP6, lab.ClientIP6},
		{"host before network", staticElements + networkElements, globalIP4, lab.ServerIP4, lab.ClientIP4},
	} {
		t.Run(c.name, func(t *testing.T) {
			load(t, l, withElements(t, "static.nft", c.elements))
			client := mustExchange(t, l, lab.Client, c.global)
			packets := of(r.taken(t), client)
			if len(packets) == 0 || packets[0].dst.Addr() != netip.MustParseAddr(c.local) {
				t.Errorf("the queue did not see the connection to %s", c.local)
			}
			if got := mustExchange(t, l, lab.Server, c.client).Addr(); got != netip.MustParseAddr(c.global) {
				t.Errorf("the server's own connection came from %s, want %s", got, c.global)
			}
			r.taken(t)
		})
	}
}

// The examples in the shipped files load, load again, and go when they are
// taken out.
func TestNFTExamples(t *testing.T) {
	l := newLab(t, lab.Options{})
	example := regexp.MustCompile(`(?m)^# add element(.|\n)*?\}$`)
	files := map[string]string{}
	for name, want := range map[string]int{"exempt.nft": 2, "static.nft": 6} {
		text := shipped(t, name)
		found := example.FindAllString(text, -1)
		if len(found) != want {
			t.Fatalf("%s has %d examples, want %d", name, len(found), want)
		}
		for _, e := range found {
			text += regexp.MustCompile(`(?m)^# `).ReplaceAllString(e, "") + "\n"
		}
		files[name] = text
	}
	for range 2 {
		load(t, l, lab.Options{Files: files})
	}
	full := nft(t, l, "list ruleset")
	load(t, l, lab.Options{})
	empty := nft(t, l, "list ruleset")
	for _, e := range []string{
		`198.51.100.0/24 comment "branch offices"`, `2001:db8:25::/48 comment "branch offices"`,
		`192.0.2.1 comment "tcp 200 50" : 192.168.1.1`, `192.168.1.1 : 192.0.2.1`,
		`198.51.100.0/24 comment "tcp 500 0" : 192.168.2.0/24`, `fd00:1::25 : 2001:db8::25`,
	} {
		if !strings.Contains(full, e) {
			t.Errorf("not in the ruleset: %s", e)
		}
		if strings.Contains(empty, e) {
			t.Errorf("still in the ruleset: %s", e)
		}
	}
}

// Without a program behind the queue no mail passes; with divert-open.nft it
// does; an empty divert chain lets none pass either.
func TestNFTFailClosed(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	blocked := func(t *testing.T) {
		t.Helper()
		for _, f := range families {
			_, err := exchange(l, lab.Client, f.server, 300*time.Millisecond)
			if !os.IsTimeout(err) {
				t.Errorf("%s: exchange ended with %v, want a timeout", f.name, err)
			}
		}
	}
	t.Run("nobody bound", blocked)
	t.Run("open", func(t *testing.T) {
		load(t, l, lab.Options{Open: true})
		nft(t, l, "add element inet smtpwall limited4 { "+lab.ServerIP4+" }")
		for _, f := range families {
			mustExchange(t, l, lab.Client, f.server)
		}
		nft(t, l, "flush set inet smtpwall limited4")
	})
	t.Run("closed again", func(t *testing.T) {
		load(t, l, lab.Options{})
		blocked(t)
	})
	t.Run("divert empty", func(t *testing.T) {
		load(t, l, lab.Options{Open: true})
		nft(t, l, "flush chain inet smtpwall divert")
		before := counter(t, l, "undiverted")
		blocked(t)
		if counter(t, l, "undiverted") < before+2 {
			t.Error("counter undiverted did not move")
		}
	})
	t.Run("divert_syn empty", func(t *testing.T) {
		load(t, l, lab.Options{Open: true})
		nft(t, l, "flush chain inet smtpwall divert_syn")
		nft(t, l, "add element inet smtpwall limited4 { "+lab.ServerIP4+" }")
		nft(t, l, "add element inet smtpwall limited6 { "+lab.ServerIP6+" }")
		blocked(t)
	})
}

// SYNs to limited hosts come to queue 4 first, on every port and also if the
// host is exempt, and those that synproxy sends too; SYNs to full ones come
// nowhere.
func TestNFTLimits(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	for _, c := range []struct{ name, suffix, client, server string }{
		{"IPv4", "4", lab.ClientIP4, lab.ServerIP4},
		{"IPv6", "6", lab.ClientIP6, lab.ServerIP6},
	} {
		t.Run(c.name, func(t *testing.T) {
			add := func(set, host string) { nft(t, l, "add element inet smtpwall "+set+c.suffix+" { "+host+" }") }
			add("limited", c.server)
			before := counter(t, l, "limited")
			client := mustExchange(t, l, lab.Client, c.server)
			packets := of(r.taken(t), client)
			if len(packets) < 2 || packets[0].queue != 4 || !packets[0].tcp.SYN || packets[1].queue > 3 || !packets[1].tcp.SYN || packets[1].tcp.ACK {
				t.Fatalf("first packets %+v: want the SYN in queue 4, then in 0 to 3", packets[:min(2, len(packets))])
			}
			for _, p := range packets[1:] {
				if p.queue == 4 {
					t.Errorf("another packet from %s in queue 4", p.src)
				}
			}

			if n := counter(t, l, "limited") - before; n != 1 {
				t.Errorf("counter limited grew by %d, want 1", n)
			}

			// A SYN that conntrack does not know could not be counted.
			before = counter(t, l, "invalid")
			src, dst := netip.AddrPortFrom(netip.MustParseAddr(c.client), 3000), netip.AddrPortFrom(netip.MustParseAddr(c.server), 80)
			segment := tcpSegment(t, src, dst, layers.TCP{SYN: true}, nil, nil)
			segment[16] ^= 0xff // checksum
			send(t, l, lab.Client, dst.Addr(), segment)
			eventually(t, "counter invalid", func() bool { return counter(t, l, "invalid") == before+1 })
			if n := len(of(r.taken(t), src)); n > 0 {
				t.Errorf("a SYN with a wrong checksum reached a queue")
			}

			add("exempt", c.server)
			client = mustExchange(t, l, lab.Client, c.server)
			if packets = of(r.taken(t), client); len(packets) != 1 || packets[0].queue != 4 {
				t.Errorf("of an exempt host %d packets were queued, want its SYN in queue 4", len(packets))
			}

			add("intercept", c.server)
			client = mustExchange(t, l, lab.Client, c.server)
			if packets = of(r.taken(t), client); len(packets) != 1 || packets[0].queue != 4 {
				t.Errorf("of an exempt host's connection that synproxy admitted %d packets were queued, want synproxy's SYN in queue 4", len(packets))
			}
			nft(t, l, "flush set inet smtpwall intercept"+c.suffix)

			add("full", c.server)
			before = counter(t, l, "full")
			if _, err := exchange(l, lab.Client, c.server, 300*time.Millisecond); !os.IsTimeout(err) {
				t.Errorf("connection to a full host ended with %v, want a timeout", err)
			}
			if counter(t, l, "full") == before {
				t.Error("counter full did not move")
			}
		})
	}
}

// Half-open connections of mail and of limited hosts are forgotten after 31
// seconds, if the daemon has not ended them, others when the sysctl says so (120).
func TestNFTHandshakeTimeout(t *testing.T) {
	l := newLab(t, withElements(t, "static.nft", `
add element inet smtpwall static4 { 10.9.3.7 : 10.9.2.99 }
add element inet smtpwall static6 { fd09:3::7 : fd09:2::99 }
`))
	read(t, l, accept)
	nft(t, l, "add element inet smtpwall limited4 { 10.9.2.98 }")
	nft(t, l, "add element inet smtpwall limited6 { fd09:2::98 }")
	nft(t, l, "add element inet smtpwall intercept4 { 10.9.3.7 }")
	nft(t, l, "add element inet smtpwall intercept6 { fd09:3::7 }")
	for i, c := range []struct { // nobody answers for these addresses
		name, client, server string
		port                 uint16
		want                 uint32 // seconds
	}{
		{"mail IPv4", lab.ClientIP4, "10.9.2.99", 25, 30},
		{"mail IPv6", lab.ClientIP6, "fd09:2::99", 25, 31},
		{"other port IPv4", lab.ClientIP4, "10.9.2.99", 80, 120},
		{"other port IPv6", lab.ClientIP6, "fd09:2::99", 80, 120},
		{"limited host IPv4", lab.ClientIP4, "10.9.2.98", 80, 31},
		{"limited host IPv6", lab.ClientIP6, "fd09:2::98", 80, 31},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := netip.AddrPortFrom(netip.MustParseAddr(c.client), uint16(3000+i))
			dst := netip.AddrPortFrom(netip.MustParseAddr(c.server), c.port)
			send(t, l, lab.Client, dst.Addr(), tcpSegment(t, src, dst, layers.TCP{SYN: true}, nil, nil))
			expectTimeout(t, l, src, c.want)
		})
	}
	for name, server := range map[string]string{"intercepted host IPv4": "10.9.3.7", "intercepted host IPv6": "fd09:3::7"} {
		t.Run(name, func(t *testing.T) {
			addRoute(t, l, server)
			conn, err := l.Dial(lab.Client, net.JoinHostPort(server, "80"), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			expectTimeout(t, l, conn.LocalAddr().(*net.TCPAddr).AddrPort(), 31)
		})
	}
}

// Connections of mail that say nothing for an hour are forgotten, those of other
// ports when the sysctl says so (five days).
func TestNFTSilentTimeout(t *testing.T) {
	l := newLab(t, lab.Options{})
	read(t, l, accept)
	nft(t, l, "add element inet smtpwall limited4 { "+lab.ServerIP4+" }")
	for _, c := range []struct {
		server, port string
		want         uint32 // seconds
	}{
		{lab.ServerIP4, "25", 3600}, {lab.ServerIP6, "25", 3600},
		{lab.ServerIP4, "80", 432000}, {lab.ServerIP6, "80", 432000},
	} {
		address := net.JoinHostPort(c.server, c.port)
		t.Run(address, func(t *testing.T) {
			ln, err := l.Listen(lab.Server, address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			conn, err := l.Dial(lab.Client, address, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			self := conn.LocalAddr().(*net.TCPAddr).AddrPort()
			eventually(t, "it has "+fmt.Sprint(c.want)+" seconds to live", func() bool {
				entry := tracked(t, l, self)
				return entry != nil && entry.TimeOut <= c.want && entry.TimeOut > c.want-10
			})
		})
	}
}

// addRoute lets the firewall route a global address to its inside.
func addRoute(t *testing.T, l *lab.Lab, global string) {
	t.Helper()
	via := lab.ServerIP4
	if strings.Contains(global, ":") {
		via = lab.ServerIP6
	}
	if out, err := l.Command(lab.Firewall, "ip", "route", "add", global, "via", via).CombinedOutput(); err != nil {
		t.Fatalf("add route to %s: %v: %s", global, err, out)
	}
}

// expectTimeout waits for the client's connection in conntrack and compares how
// long it has to live, which may have begun to run down.
func expectTimeout(t *testing.T, l *lab.Lab, client netip.AddrPort, want uint32) {
	t.Helper()
	eventually(t, "the half-open connection is in conntrack", func() bool { return tracked(t, l, client) != nil })
	if s := tracked(t, l, client).TimeOut; s > want || s < want-10 {
		t.Errorf("the half-open connection lives %d s, want %d", s, want)
	}
}

// tracked is the conntrack entry of a client's connection, nil if there is none.
func tracked(t *testing.T, l *lab.Lab, client netip.AddrPort) (entry *netlink.ConntrackFlow) {
	t.Helper()
	family := netlink.InetFamily(unix.AF_INET)
	if client.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := l.Do(lab.Firewall, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		for _, f := range flows {
			if f.Forward.SrcPort == client.Port() && f.Forward.SrcIP.Equal(client.Addr().AsSlice()) {
				entry = f
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// While a host is intercepted the kernel answers its SYNs: only connections
// whose client exists reach the queue, by a SYN-ACK first. The global address
// may be one that the box routes or one that it has.
func TestNFTIntercept(t *testing.T) {
	l := newLab(t, withElements(t, "static.nft", staticElements+`
add element inet smtpwall static4 { 10.9.3.8 : 10.9.2.2 }
add element inet smtpwall static6 { fd09:3::8 : fd09:2::2 }
`))
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	for i, c := range []struct{ name, suffix, global, client, ip string }{
		{"IPv4 routed", "4", globalIP4, lab.ClientIP4, "route add 10.9.3.9 via 10.9.2.2"},
		{"IPv6 routed", "6", globalIP6, lab.ClientIP6, "route add fd09:3::9 via fd09:2::2"},
		{"IPv4 own", "4", "10.9.3.8", lab.ClientIP4, "addr add 10.9.3.8/32 dev eth0"},
		{"IPv6 own", "6", "fd09:3::8", lab.ClientIP6, "addr add fd09:3::8/128 dev eth0 nodad"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := l.Command(lab.Firewall, "ip", strings.Fields(c.ip)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v: %s", c.ip, err, out)
			}
			nft(t, l, "add element inet smtpwall intercept"+c.suffix+" { "+c.global+" }")
			src, dst := netip.AddrPortFrom(netip.MustParseAddr(c.client), uint16(3000+i)), netip.AddrPortFrom(netip.MustParseAddr(c.global), 25)
			before := counter(t, l, "intercepted")
			send(t, l, lab.Client, dst.Addr(), tcpSegment(t, src, dst, layers.TCP{SYN: true}, nil, nil))
			client := mustExchange(t, l, lab.Client, c.global)
			if n := counter(t, l, "intercepted") - before; n != 2 {
				t.Errorf("counter intercepted grew by %d, want 2", n)
			}
			packets := r.taken(t)
			if n := len(of(packets, src)); n > 0 {
				t.Errorf("%d packets of a spoofed client reached a queue", n)
			}
			packets = of(packets, client)
			if len(packets) == 0 || !packets[0].tcp.SYN || !packets[0].tcp.ACK {
				t.Fatalf("first of %d packets is not the SYN-ACK", len(packets))
			}

			nft(t, l, "add element inet smtpwall full"+c.suffix+" { "+c.global+" }")
			if _, err := exchange(l, lab.Client, c.global, 300*time.Millisecond); !os.IsTimeout(err) {
				t.Errorf("connection to a full host ended with %v, want a timeout", err)
			}
		})
	}
}
