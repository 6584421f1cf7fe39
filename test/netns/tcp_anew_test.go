package netns

import (
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A stranger who knows the addresses and ports of a connection, and nothing of its
// numbers, plays both ends: a SYN and its SYN-ACK, which neither end sees, would have
// conntrack begin anew and take all that the ends send for invalid.
func TestTCPStrangerBeginsAnew(t *testing.T) {
	t.Parallel()
	s := newSiege(t, "")
	for family, f := range []string{"IPv4", "IPv6"} {
		t.Run(f, func(t *testing.T) {
			d := s.duel(t, family)
			d.hello(t)
			client := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], d.h.self, d.h.far)
			server := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], d.h.far, d.h.self)
			for _, ttl := range []mod{lost, ttl1} { // the SYN ends behind the firewall, or in it
				client.isn += 1 << 20
				client.syn(t, mss, ttl)
				spoofed := counter(t, s.Lab, "spoofed")
				server.seq, server.ack = 777001, client.seq
				server.send(t, -1, "", flags(flagSYN|flagACK), options(mss), ttl)
				eventually(t, "the SYN-ACK is dropped", func() bool { return counter(t, s.Lab, "spoofed") > spoofed })
				d.alive(t)
			}
		})
	}
}
