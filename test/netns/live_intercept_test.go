package netns

import (
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// While a host is intercepted the client talks to the kernel's synproxy first:
// its SYN never comes to the daemon, and the numbers of the server that it
// acknowledges are others. The session is inspected from its first byte.
func TestLiveIntercept(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for suffix, f := range map[string]struct{ name, server string }{
		"4": {"IPv4", lab.ServerIP4},
		"6": {"IPv6", lab.ServerIP6},
	} {
		t.Run(f.name, func(t *testing.T) {
			nft(t, w.Lab, "add element inet smtpwall intercept"+suffix+" { "+f.server+" }")
			before := counter(t, w.Lab, "intercepted")
			e := connect(t, w.Lab, f.server)
			if counter(t, w.Lab, "intercepted") == before {
				t.Error("the SYN was not intercepted")
			}
			e.talk(t, hello...)
			e.talk(t, []line{
				{"C", "XCLIENT ADDR=1\r\n", "XXXXXXXXXXXXXX\r\n"},
				{"S", "500 5.5.2 what\r\n", "500 5.5.2 what\r\n"},
			}...)
			e.talk(t, mail...)
			e.talk(t, quit...)
			e.finish(t)
			w.checkRecords(t, e.address(),
				"built",
				"unknown-command request mask unknown-command XCLIENT ADDR=1",
				"teardown TCP FINs")
		})
	}
}
