package netns

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// anotherClient is a second client, by family.
var anotherClient = [2]string{"10.9.1.4", "fd09:1::4"}

// policyLimit is a limit of the policy's beside one of static.nft's, and the records
// of the one that holds.
type policyLimit struct {
	policy, static string
	records        []int
}

// few are the first two of the list in the emulated guest, where each takes seconds
// for its daemon to start.
func few(all []policyLimit) []policyLimit {
	if testing.Short() {
		return all[:2]
	}
	return all
}

// The limit of all connections of a host, or of one client's, is the lower one of
// static.nft's and the policy's, and its record says whose it was.
func TestLimitPolicyMax(t *testing.T) {
	const most = 2
	ofHost, ofClient := []int{201011, 201002}, []int{201013}
	for _, c := range few([]policyLimit{
		{"conn-max 2", "tcp 4 0", ofHost},
		{"per-client-max 2", "tcp 4 0", ofClient},
		{"conn-max 4", "tcp 2 0", ofHost},
		{"conn-max 2", "tcp 0 0", ofHost},
		{"per-client-max 4", "tcp 2 0", ofHost},
	}) {
		t.Run(c.policy+", "+c.static, func(t *testing.T) {
			w := newLimitWall(t, c.static, classPolicy("set connection "+c.policy))
			for family, g := range globals {
				for range most {
					w.mustOpen(t, g.global)
				}
				w.refused(t, g.global)
				if n := w.agree(t, g.global, g.local); n != most {
					t.Errorf("%s: %d connections, want %d", g.name, n, most)
				}
				w.told(t, g.client, "2/2", c.records)
				if c.records[0] == ofClient[0] {
					addClient(t, w.Lab, anotherClient[family])
					w.mustDialFrom(t, anotherClient[family], g.global, 0)
				}
			}
		})
	}
}

// The limit of half-open connections likewise: at that of a host, and beyond that
// of a client, whose last SYN is not admitted, the kernel takes over.
func TestLimitPolicyEmbryonic(t *testing.T) {
	ofHost, ofClient := []int{201010, 201003}, []int{201012, 201003}
	for _, c := range few([]policyLimit{
		{"embryonic-conn-max 2", "tcp 0 4", ofHost},
		{"per-client-embryonic-max 2", "tcp 0 9", ofClient},
		{"embryonic-conn-max 4", "tcp 0 2", ofHost},
		{"embryonic-conn-max 2", "tcp 0 0", ofHost},
		{"per-client-embryonic-max 4", "tcp 0 2", ofHost},
	}) {
		t.Run(c.policy+", "+c.static, func(t *testing.T) {
			w := newLimitWall(t, c.static, classPolicy("set connection "+c.policy))
			for family, g := range globals {
				client, half := w.knocker(t, family, hostileClient[family], g.global), 1
				client.knock(t)
				if c.records[0] == ofClient[0] {
					w.knocker(t, family, anotherClient[family], g.global).knock(t)
					client.knock(t)
					half = 3
				}
				w.halfOpen(t, g.global, half)
				if w.static(t, g.global).Intercept {
					t.Fatalf("%s: in intercept with %d half-open connections", g.name, half)
				}
				if client.knock(t); c.records[0] != ofClient[0] {
					half++
				}
				eventually(t, "the server is in intercept", func() bool { return w.static(t, g.global).Intercept })
				w.told(t, hostileClient[family], "2/2", c.records)

				before := counter(t, w.Lab, "intercepted")
				eventually(t, "the kernel answers", func() bool { // its set is written a moment later
					client.knock(t)
					return counter(t, w.Lab, "intercepted") > before
				})
				w.halfOpen(t, g.global, half)
			}
		})
	}
}

// told waits for the records of limits that a client's SYNs have met: one of each
// id, and the first one says how many connections there were, and might be.
func (w *wall) told(t *testing.T, client, counted string, ids []int) {
	t.Helper()
	var met []record
	eventually(t, "the records of the limit", func() bool {
		met = slices.DeleteFunc(w.allRecords(t), func(r record) bool { return r.Client != client || r.ID/1000 != 201 })
		return len(met) >= len(ids)
	})
	var got []int
	for _, r := range met {
		got = append(got, r.ID)
	}
	if text := " exceeded " + counted + " for input packet from " + client + "/"; !slices.Equal(got, ids) || !strings.Contains(met[0].Message, text) {
		t.Errorf("records %d, the first one %q, want %d and %q", got, met[0].Message, ids, text)
	}
}

// halfOpen waits until so many connections of a host are half-open.
func (w *wall) halfOpen(t *testing.T, global string, want int) {
	t.Helper()
	var h hostLine
	eventually(t, "as many connections are half-open as should be", func() bool {
		h = w.static(t, global)
		return h.HalfOpen == want
	})
}

// knocker is a client that sends SYNs and nothing else, from an address that no
// interface owns.
func (w *wall) knocker(t *testing.T, family int, client, server string) *hostile {
	t.Helper()
	w.neighbour(t, lab.Outside, client, w.hardware(t, lab.Client, lab.Outside)) // where an answer ends
	return newHostile(t, w.Lab, lab.Client, w.hardware(t, lab.Firewall, lab.Outside),
		addrPort(net.JoinHostPort(client, "20000")), addrPort(net.JoinHostPort(server, "25")))
}

// knock sends a SYN from another port.
func (h *hostile) knock(t *testing.T) {
	t.Helper()
	h.self = netip.AddrPortFrom(h.self.Addr(), h.self.Port()+1)
	h.syn(t, mss)
}

// addClient gives the client another address.
func addClient(t *testing.T, l *lab.Lab, address string) {
	t.Helper()
	length := "/24"
	if strings.Contains(address, ":") {
		length = "/64"
	}
	if out, err := l.Command(lab.Client, "ip", "address", "add", address+length, "dev", lab.Outside).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
