package netns

import (
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// While a host is intercepted the client talks to the kernel's synproxy first:
// its SYN never comes to the daemon, and the numbers of the server that it
// acknowledges are others. The session is inspected from its first byte.
func TestLiveIntercept(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", `
add element inet smtpwall static4 { 10.9.2.2 comment "tcp 0 1" : 10.9.2.2 }
add element inet smtpwall static6 { fd09:2::2 comment "tcp 0 1" : fd09:2::2 }
`), "")
	for suffix, f := range map[string]struct{ name, server string }{
		"4": {"IPv4", lab.ServerIP4},
		"6": {"IPv6", lab.ServerIP6},
	} {
		t.Run(f.name, func(t *testing.T) {
			first := connect(t, w.Lab, f.server) // one half-open connection is as many as there may be
			eventually(t, "the server is in intercept", func() bool {
				_, err := w.NFT("get element inet smtpwall intercept" + suffix + " { " + f.server + " }")
				return err == nil
			})
			first.finish(t)
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
