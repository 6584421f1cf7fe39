package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cable is one veth pair: the firewall's interface and the interface Outside of
// the host at its other end.
type cable struct {
	firewall  string    // name of the firewall's interface
	host      Host      // at the other end
	near, far [2]string // addresses with prefix length: firewall's, host's
	gateway   [2]string // the firewall, as the host's default route
}

// cables connect the client and the server to the firewall.
var cables = [...]cable{
	{Outside, Client, [2]string{OutsideIP4 + "/24", OutsideIP6 + "/64"}, [2]string{ClientIP4 + "/24", ClientIP6 + "/64"}, [2]string{OutsideIP4, OutsideIP6}},
	{Inside, Server, [2]string{InsideIP4 + "/24", InsideIP6 + "/64"}, [2]string{ServerIP4 + "/24", ServerIP6 + "/64"}, [2]string{InsideIP4, InsideIP6}},
}

// hostSysctls are set on every host before its interfaces come: an address may
// be used at once, not after duplicate address detection.
var hostSysctls = []string{
	"net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0",
	"net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0",
}

// firewallSysctls make a router of the firewall, one that takes a packet only
// from the interface that leads to its sender.
var firewallSysctls = []string{
	"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
	"net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1",
}

// addNamespace makes the namespace of one host.
func (l *Lab) addNamespace(h Host) error {
	return onThread(func() error {
		ns, err := netns.NewNamed(l.Namespace(h))
		if err != nil {
			return fmt.Errorf("create network namespace %s: %w (is a lab of this name running, or CAP_SYS_ADMIN missing?)", l.Namespace(h), err)
		}
		l.ns[h] = ns
		if err := setSysctls(hostSysctls); err != nil {
			return err
		}
		if h == Firewall {
			return setSysctls(firewallSysctls)
		}
		return nil
	})
}

// addNetwork connects the hosts.
func (l *Lab) addNetwork() error {
	for h := range numHosts {
		if err := l.withHandle(h, func(nl *netlink.Handle) error { return linkUp(nl, "lo") }); err != nil {
			return err
		}
	}
	for _, c := range cables {
		if err := l.plug(c); err != nil {
			return fmt.Errorf("connect firewall and %s: %w", c.host, err)
		}
	}
	return nil
}

// plug makes one cable with addresses and routes.
func (l *Lab) plug(c cable) error {
	err := l.withHandle(Firewall, func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = c.firewall
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: Outside, PeerNamespace: netlink.NsFd(l.ns[c.host])}
		if err := nl.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth pair: %w", err)
		}
		return configure(nl, c.firewall, c.near)
	})
	if err != nil {
		return err
	}
	return l.withHandle(c.host, func(nl *netlink.Handle) error {
		if err := configure(nl, Outside, c.far); err != nil {
			return err
		}
		for _, gw := range c.gateway {
			if err := nl.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
				return fmt.Errorf("add default route by %s: %w", gw, err)
			}
		}
		return nil
	})
}

// withHandle calls fn with a netlink socket in a host's namespace.
func (l *Lab) withHandle(h Host, fn func(*netlink.Handle) error) error {
	nl, err := netlink.NewHandleAt(l.ns[h], unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket on %s: %w", h, err)
	}
	defer nl.Close()
	return fn(nl)
}

// configure gives an interface its addresses and switches it on.
func configure(nl *netlink.Handle, name string, addrs [2]string) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return fmt.Errorf("parse address %s: %w", a, err)
		}
		if err := nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, name, err)
		}
	}
	return linkUp(nl, name)
}

// linkUp switches an interface on.
func linkUp(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch interface %s on: %w", name, err)
	}
	return nil
}

// setSysctls sets `key=value` pairs in the calling thread's namespace.
func setSysctls(pairs []string) error {
	for _, p := range pairs {
		key, value, _ := strings.Cut(p, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl %s: %w", key, err)
		}
	}
	return nil
}
