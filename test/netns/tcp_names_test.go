package netns

import (
	"net/netip"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// otherName is a second address by which clients reach the server.
var otherName = [2]string{"10.9.1.77", "fd09:1::77"}

// A client writes to a server by two of its names from the same port. Behind DNAT
// both connections look the same to the inspection, but not to the server: NAT gives
// the second one another port. What one of them is told would be judged as the
// other's, so the second one does not come about while conntrack knows the first.
func TestTCPTwoNames(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	name := func(family int, mapped bool) netip.AddrPort {
		addr := families[family].server
		if mapped {
			addr = otherName[family]
		}
		return netip.AddrPortFrom(netip.MustParseAddr(addr), 25)
	}
	nft(t, s.Lab, "add element inet smtpwall static4 { "+otherName[v4]+" : "+lab.ServerIP4+" }")
	nft(t, s.Lab, "add element inet smtpwall static6 { "+otherName[v6]+" : "+lab.ServerIP6+" }")
	for family, f := range []string{"IPv4", "IPv6"} {
		for which, mappedFirst := range map[string]bool{"own name first": false, "mapped name first": true} {
			t.Run(f+"/"+which, func(t *testing.T) {
				first, ln := s.attacker(t, family)
				first.far = name(family, mappedFirst)
				first.open(t, mss)
				d := s.joined(t, first, ln)
				d.hello(t)
				first.send(t, 0, "", flags(flagRST))
				wantReset(t, d.app)

				second, ln := s.attacker(t, family)
				second.self, second.isn, second.far = first.self, first.isn, name(family, !mappedFirst)
				second.syn(t, mss)
				if second.opened(t) {
					t.Fatal("a connection that the inspection takes for the first one")
				}
				s.untrack(t, first)
				second.synAgain(t, mss)
				second.finishOpen(t)
				d = s.joined(t, second, ln)
				d.hello(t)
				d.alive(t)
			})
		}
	}
}
