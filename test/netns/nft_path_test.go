package netns

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A packet in a mail server's name comes in where the route to the server goes out,
// or both interfaces are among site.nft's equal_paths.
func TestNFTVerifyPath(t *testing.T) {
	s := newSiege(t, "")
	const none = `define equal_paths = { "none" }`
	if !strings.Contains(shipped(t, "site.nft"), none) {
		t.Fatalf("site.nft has no %q", none)
	}
	for equal, by := range map[string]string{
		`"none"`:                "spoofed",
		`"` + lab.Outside + `"`: "spoofed",
		`"` + lab.Outside + `", "` + lab.Inside + `"`: "invalid",
	} {
		site := strings.Replace(shipped(t, "site.nft"), none, "define equal_paths = { "+equal+" }", 1)
		load(t, s.Lab, lab.Options{Files: map[string]string{"site.nft": site}})
		s.filterRoutes(t, false)
		for family := range families {
			h, ln := s.attacker(t, family)
			ln.Close()
			server := newHostile(t, s.Lab, lab.Client, s.mac[lab.Client], h.far, h.self)
			before := counter(t, s.Lab, by)
			server.send(t, 0, "", flags(flagSYN|flagACK), options(mss))
			eventually(t, "with "+equal+" it is dropped as "+by, func() bool { return counter(t, s.Lab, by) == before+1 })
		}
	}
}

// A mail program on the box beside a client whose mail is masqueraded to the box'
// address, and who uses the same port to the same server.
func TestNFTMailOfTheBox(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	serve(t, w.Lab, lab.Client)
	nft(t, w.Lab, "add table ip own; add chain ip own post { type nat hook postrouting priority srcnat; }; add rule ip own post ip saddr 10.9.2.0/24 masquerade")
	for _, on := range []lab.Host{lab.Server, lab.Firewall} {
		err := w.Do(on, func() error {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: 30123}, Timeout: 3 * time.Second}
			conn, err := d.Dial("tcp", lab.ClientIP4+":25")
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: %v", on, err)
		}
	}
}
