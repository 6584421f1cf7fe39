//go:build synflood

package netns

import (
	"net/netip"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Without limits the same flood keeps mail from a server without SYN cookies of
// its own. The other half
// of a comparison, and no part of `make test`: make synflood.
func TestLimitFloodWithout(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", limited("tcp 0 0")), "")
	if out, err := w.Command(lab.Server, "sysctl", "-w", "net.ipv4.tcp_syncookies=0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	take(t, w.Lab)
	stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), spoofed)
	stop := make(chan struct{})
	time.AfterFunc(*floodFor, func() { close(stop) })
	all, arrived, worst, _ := deliveries(w.Lab, globalIP4, stop)
	w.kill(t) // its log is full of lost records
	t.Logf("without intercept: %d SYNs; %d of %d mails delivered, the slowest in %v", stopFlood(), arrived, all, worst)
}
