package netns

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// super sends text as one packet that the last link of the path would cut into
// segments of size octets (TSO), as a kernel hands it to its interface.
func (h *hostile) super(t *testing.T, l *lab.Lab, off int, text string, size uint16, mods ...mod) {
	t.Helper()
	const (
		etherHeader = 14
		needsCSum   = 1  // VIRTIO_NET_HDR_F_NEEDS_CSUM
		gsoTCP4     = 1  // VIRTIO_NET_HDR_GSO_TCPV4
		vnetHeader  = 10 // struct virtio_net_hdr
	)
	c := h.craft(off, text, mods...)
	packet := c.packet(h.self, h.far)
	partial := onesSum(pseudoHeader(h.self.Addr(), h.far.Addr(), len(packet)-ip4Header))
	binary.BigEndian.PutUint16(packet[ip4Header+16:], partial)
	b := make([]byte, vnetHeader+etherHeader, vnetHeader+etherHeader+len(packet))
	b[0], b[1] = needsCSum, gsoTCP4
	binary.NativeEndian.PutUint16(b[2:], etherHeader+ip4Header+tcpHeader+uint16(len(c.options)))
	binary.NativeEndian.PutUint16(b[4:], size)
	binary.NativeEndian.PutUint16(b[6:], etherHeader+ip4Header) // where the checksum begins
	binary.NativeEndian.PutUint16(b[8:], 16)                    // and where it is put
	copy(b[vnetHeader:], h.link.Addr[:6])
	binary.BigEndian.PutUint16(b[vnetHeader+12:], unix.ETH_P_IP)
	err := l.Do(lab.Client, func() error {
		link, err := net.InterfaceByName(lab.Outside)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Sendto(fd, append(b, packet...), 0, &unix.SockaddrLinklayer{Protocol: h.link.Protocol, Ifindex: link.Index, Halen: 6, Addr: h.link.Addr})
	})
	if err != nil {
		t.Fatalf("send a GSO packet: %v", err)
	}
}
