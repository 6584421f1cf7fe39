package netns

import (
	"net"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// interceptedElements map the server to itself, to addresses that the firewall
// routes, and to addresses that it has itself.
const interceptedElements = `
add element inet smtpwall static4 { 10.9.2.2 comment "tcp 0 1" : 10.9.2.2, 10.9.3.9 : 10.9.2.2, 10.9.3.8 : 10.9.2.2 }
add element inet smtpwall static6 { fd09:2::2 comment "tcp 0 1" : fd09:2::2, fd09:3::9 : fd09:2::2, fd09:3::8 : fd09:2::2 }
`

// While a host is intercepted the client talks to the kernel's synproxy first:
// its SYN never comes to the daemon, and the numbers of the server that it
// acknowledges are others. The session is inspected from its first byte, whatever
// the address by which the client knows the server.
func TestLiveIntercept(t *testing.T) {
	w := newWall(t, withElements(t, "static.nft", interceptedElements), "")
	addRoute(t, w.Lab, globalIP4)
	addRoute(t, w.Lab, globalIP6)
	addOwn(t, w.Lab, "10.9.3.8/32")
	addOwn(t, w.Lab, "fd09:3::8/128")
	for _, c := range []struct{ name, suffix, address, local string }{
		{"IPv4", "4", lab.ServerIP4, lab.ServerIP4},
		{"IPv6", "6", lab.ServerIP6, lab.ServerIP6},
		{"IPv4 routed", "4", globalIP4, lab.ServerIP4},
		{"IPv6 routed", "6", globalIP6, lab.ServerIP6},
		{"IPv4 own", "4", "10.9.3.8", lab.ServerIP4},
		{"IPv6 own", "6", "fd09:3::8", lab.ServerIP6},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := func() ends { return join(t, w.Lab, lab.Client, &net.TCPAddr{}, c.address, lab.Server, c.local) }
			first := open() // one half-open connection is as many as there may be
			eventually(t, "the server is in intercept", func() bool {
				_, err := w.NFT("get element inet smtpwall intercept" + c.suffix + " { " + c.address + " }")
				return err == nil
			})
			first.finish(t)
			before := counter(t, w.Lab, "intercepted")
			e := open()
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

// addOwn gives the firewall an address on its outside.
func addOwn(t *testing.T, l *lab.Lab, address string) {
	t.Helper()
	if out, err := l.Command(lab.Firewall, "ip", "address", "add", address, "dev", lab.Outside, "nodad").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
