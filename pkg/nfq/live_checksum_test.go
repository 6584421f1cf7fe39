package nfq

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// segment is an IPv4 packet with a SYN from 192.0.2.2, port 1024, to 192.0.2.1,
// port 25, and the given octets.
func segment(data string) []byte {
	p := []byte{0x45, 0, 0, byte(40 + len(data)), 0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1,
		4, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0x10, 0, 0, 0, 0, 0}
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(p[i])<<8 + uint32(p[i+1])
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum+sum>>16))
	p = append(p, data...)
	checksum(p)
	return p
}

// cable makes a pair of interfaces, one with address 192.0.2.1/24, and returns
// what sends an IPv4 packet to that one.
func cable(t *testing.T) (send func(packet []byte)) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "far"}, PeerName: "near"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("make a veth pair: %v: run this test as root or with `unshare -Urn`", err)
	}
	var links []netlink.Link
	for _, name := range []string{"near", "far"} { // that sends comes last: it is ready at once
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	near := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(links[0], near); err != nil {
		t.Fatal(err)
	}
	raw, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatalf("open a packet socket: %v: run this test as root or with `unshare -Urn`", err)
	}
	t.Cleanup(func() { syscall.Close(raw) })
	to := &syscall.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{8, 0}), Ifindex: links[1].Attrs().Index, Halen: 6}
	copy(to.Addr[:], links[0].Attrs().HardwareAddr)
	return func(packet []byte) {
		if err := syscall.Sendto(raw, packet, 0, to); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChecksum tells what the kernel says of a packet's checksum: conntrack
// verifies one that came in, and nobody one that is wrong; that of TCP over the
// loopback is never computed.
func TestChecksum(t *testing.T) {
	inNamespace(t, 0, "-p tcp --dport 25 -m conntrack --ctstate NEW,ESTABLISHED,INVALID")
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetMTU(lo, 1500); err != nil { // a wire's: TCP sends many of it as one
		t.Fatal(err)
	}
	send := cable(t)
	wrong := segment("wrong")
	wrong[len(wrong)-1] ^= 1
	seen := make(chan engine.Packet, 1)
	var local, merged atomic.Uint32
	start(t, Options{}, func(p engine.Packet) engine.Decision {
		switch {
		case p.In != 1:
			seen <- p
		case len(p.Data) < 100: // the kernel computes that of some packets without payload
		case p.Checksum == engine.ChecksumPartial:
			local.Add(1)
			if p.Merged {
				merged.Add(1)
			}
		default:
			t.Errorf("over the loopback: checksum %d, want %d", p.Checksum, engine.ChecksumPartial)
		}
		return accept(p)
	})
	for _, c := range []struct {
		packet []byte
		want   engine.Checksum
	}{{segment("right"), engine.ChecksumGood}, {wrong, engine.ChecksumUnverified}} {
		send(c.packet)
		select {
		case p := <-seen:
			if p.Checksum != c.want || p.Merged || !bytes.Equal(p.Data, c.packet) {
				t.Errorf("checksum %d, merged %v, %x; want checksum %d, %x", p.Checksum, p.Merged, p.Data, c.want, c.packet)
			}
		case <-time.After(patience):
			t.Fatalf("no packet %x", c.packet)
		}
	}
	text := strings.Repeat("x", 1<<20)
	if got := exchange(t, text); got != text {
		t.Errorf("the server read %d bytes", len(got))
	}
	if local.Load() == 0 || merged.Load() == 0 {
		t.Errorf("of %d packets over the loopback %d were merged, want some", local.Load(), merged.Load())
	}
}
