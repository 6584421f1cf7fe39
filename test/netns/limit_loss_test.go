package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Connections whose ends the kernel could not tell, because the daemon had no room
// for more events, are not counted for long: a dump makes up for what was lost.
func TestLimitEventsLost(t *testing.T) {
	const most, closed = 5, 3
	w := newLimitWall(t, fmt.Sprintf("tcp %d 0", most), "")
	nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }") // they end without the daemon
	var conns []net.Conn
	for range most {
		conns = append(conns, w.mustOpen(t, globalIP4))
	}
	w.refused(t, globalIP4)

	signal(t, w, syscall.SIGSTOP)
	stopFlood := flood(t, w.Lab, netip.MustParseAddrPort(lab.OutsideIP4+":2525"), spoofed) // no limited host: nothing is queued
	eventually(t, "the kernel drops events", func() bool { return w.eventsDropped(t) })
	for _, c := range conns[:closed] {
		c.Close()
	}
	eventually(t, "the connections have ended", func() bool {
		all, _ := w.inConntrack(t, lab.ServerIP4)
		return all == most-closed
	})
	stopFlood()
	signal(t, w, syscall.SIGCONT)

	if n := w.agree(t, globalIP4, lab.ServerIP4); n != most-closed {
		t.Errorf("%d connections, want %d", n, most-closed)
	}
	for range closed {
		w.mustOpen(t, globalIP4)
	}
	w.refused(t, globalIP4)
}

// eventsDropped tells whether the kernel lost messages to one of the namespace's
// netlink sockets (netlink_seq_show in af_netlink.c).
func (w *wall) eventsDropped(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", w.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	const protocol, drops = 1, 8 // columns
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > drops && f[protocol] == "12" && f[drops] != "0" { // NETLINK_NETFILTER
			return true
		}
	}
	return false
}
