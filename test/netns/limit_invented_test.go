package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// ttl1 has a packet end at the firewall.
func ttl1(c *crafted) { c.ttl = 1 }

// Clients that do not exist, and whose server is played by the attacker too, hold no
// place that a half-open connection does not: conntrack would take such connections
// for established, for an hour, and the host would be full with nobody in it.
func TestLimitInventedClients(t *testing.T) {
	t.Parallel() // it waits
	const most = 5
	for family, g := range globals {
		t.Run(g.name, func(t *testing.T) {
			s := newSiege(t, "")
			serve(t, s.Lab, lab.Server)
			nft(t, s.Lab, fmt.Sprintf("add element inet smtpwall static%s { %s comment \"tcp %d 10\" : %s }", g.suffix, g.local, most, g.local))
			eventually(t, "the limit holds", func() bool { return s.limits(t, g.local) })
			far := addrPort(net.JoinHostPort(g.local, "25"))
			for i := range most {
				self := netip.AddrPortFrom(netip.MustParseAddr(hostileClient[family]), uint16(42000+i))
				client := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], self, far)
				server := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], far, self)
				client.syn(t, mss)
				eventually(t, "its SYN is counted", func() bool { return s.static(t, g.local).HalfOpen == i+1 })
				client.seq += 5000000
				client.synAgain(t, mss, ttl1) // conntrack ignores it, and notes its number
				server.seq, server.ack = 777001, client.seq
				server.send(t, -1, "", flags(flagSYN|flagACK), options(mss), ttl1)
				client.ack = server.seq
				client.send(t, 0, "", ttl1)
			}
			eventually(t, "the firewall has dropped what was to fool it", func() bool {
				return counter(t, s.Lab, "spoofed") == most && counter(t, s.Lab, "expiring") >= 2*most
			})
			if all := s.agree(t, g.local, g.local); all != s.static(t, g.local).HalfOpen {
				t.Errorf("%+v: somebody counts as connected", s.static(t, g.local))
			}
			s.mustOpen(t, g.local)
		})
	}
}

// An acknowledgement of what the server did not say, which conntrack takes if it is up
// to 64 KiB too low, makes no connection: the server answers it with a RST, and what
// the server would not see does not come to conntrack.
func TestLimitGuessedACK(t *testing.T) {
	for _, c := range []struct {
		name    string
		far     string // where the client writes to
		mapping string
		counter string
		packet  func(h *hostile) []byte
	}{
		{"TTL 1", lab.ServerIP4 + ":25", lab.ServerIP4, "expiring", func(h *hostile) []byte {
			c := h.craft(0, "", ttl1)
			return c.packet(h.self, h.far)
		}},
		{"TTL 1, to an address of the box", lab.OutsideIP4 + ":2525", lab.OutsideIP4, "", func(h *hostile) []byte {
			c := h.craft(0, "", ttl1)
			return c.packet(h.self, h.far)
		}},
		{"source route", lab.ServerIP4 + ":25", lab.ServerIP4, "ip_options", func(h *hostile) []byte {
			c := h.craft(0, "")
			return withOptions(c.packet(h.self, h.far), "\x83\x07\x04\x0a\x09\x01\x01\x00")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSiege(t, "")
			s.limitOne(t, c.mapping, false)
			ln, err := s.Listen(lab.Server, fmt.Sprintf("%s:%d", lab.ServerIP4, addrPort(c.far).Port()))
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			h := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], addrPort(hostileClient[v4]+":42000"), addrPort(c.far))
			h.syn(t, mss)
			h.await(t, "a SYN-ACK", func(s layers.TCP) bool { return s.SYN && s.ACK })
			h.ack = h.lastReceive.Seq + 1 - 60000
			h.put(t, c.packet(h))
			if c.counter == "" {
				h.await(t, "the server's RST", func(s layers.TCP) bool { return s.RST })
			} else {
				eventually(t, "it is dropped", func() bool { return counter(t, s.Lab, c.counter) > 0 })
			}
			if all := s.agree(t, c.mapping, lab.ServerIP4); all != s.static(t, c.mapping).HalfOpen {
				t.Errorf("%+v: the client counts as connected", s.static(t, c.mapping))
			}
		})
	}
}

// withOptions puts options into the header of an IPv4 packet that has none.
func withOptions(packet []byte, options string) []byte {
	b := slices.Concat(packet[:ip4Header], []byte(options), packet[ip4Header:])
	b[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^onesSum(b[:ip4Header+len(options)]))
	return b
}

// A SYN in the server's name, to a client, makes conntrack take the server for the
// client. What the client then opens has the count's addresses the other way around,
// and would not be counted.
func TestLimitReversed(t *testing.T) {
	t.Parallel()                                 // it waits
	for _, verify := range []bool{true, false} { // the path of packets in the server's name
		t.Run(fmt.Sprintf("verify_path %v", verify), func(t *testing.T) {
			s := newSiege(t, "")
			s.filterRoutes(t, false)
			s.sysctl(t, lab.Firewall, "net/netfilter/nf_conntrack_tcp_be_liberal", "1") // else the server's number must be guessed
			if !verify {
				nft(t, s.Lab, "flush chain inet smtpwall verify_path")
			}
			s.limitOne(t, lab.ServerIP4, true)
			h, ln := s.attacker(t, v4)
			server := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], h.far, h.self)
			server.syn(t, mss)
			if verify {
				eventually(t, "it is dropped", func() bool { return counter(t, s.Lab, "spoofed") == 1 })
				h.open(t, mss)
				s.joined(t, h, ln)
				if all := s.agree(t, lab.ServerIP4, lab.ServerIP4); all != 1 {
					t.Errorf("%d connections, want 1", all)
				}
				return
			}
			eventually(t, "conntrack is fooled", func() bool { return s.tracked(t, h.far) })
			h.syn(t, mss)
			eventually(t, "its SYN is refused", func() bool { return counter(t, s.Lab, "invalid") > 0 })
			if h.opened(t) {
				t.Error("a connection that nobody counts")
			}
		})
	}
}

// What an operator's rule keeps from conntrack cannot be counted: it does not pass.
func TestLimitUntracked(t *testing.T) {
	s := newSiege(t, "")
	s.limitOne(t, lab.ServerIP4, true)
	nft(t, s.Lab, "add table ip own; add chain ip own pre { type filter hook prerouting priority raw; }; add rule ip own pre tcp dport 25 notrack; add rule ip own pre tcp sport 25 notrack")
	serve(t, s.Lab, lab.Server)
	s.wall.refused(t, lab.ServerIP4)
	if counter(t, s.Lab, "invalid") == 0 {
		t.Error("no counter tells why")
	}
	nft(t, s.Lab, "delete table ip own")
	s.mustOpen(t, lab.ServerIP4)
	s.wall.refused(t, lab.ServerIP4)
}
