package netns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// hostile is one end of a connection that no kernel drives: the test sends every
// segment itself. It lives at an address that no interface owns, so that the
// kernel of its host keeps silent.
type hostile struct {
	fd        int // packet socket: sends and receives IP packets
	link      unix.SockaddrLinklayer
	self, far netip.AddrPort

	isn, farISN uint32
	seq         uint32 // its next octet
	ack         uint32 // the next octet that it expects
	window      uint16
	stamps      bool   // timestamps were negotiated
	clock, echo uint32 // its timestamp, which grows by one a segment, and the far end's last
	mute        bool   // acknowledges nothing by itself

	got         strings.Builder // octets of the far end, in order
	read        int             // of them the test has looked at
	fin, reset  bool            // of the far end
	lastReceive layers.TCP      // the last segment received
}

// newHostile opens the socket of a hostile end on a host. mac is the
// firewall's address on the link.
func newHostile(t *testing.T, l *lab.Lab, on lab.Host, mac net.HardwareAddr, self, far netip.AddrPort) *hostile {
	t.Helper()
	h := &hostile{fd: -1, self: self, far: far, window: 65535, clock: 100000}
	proto := uint16(unix.ETH_P_IP)
	if self.Addr().Is6() {
		proto = unix.ETH_P_IPV6
	}
	proto = proto<<8 | proto>>8
	err := l.Do(on, func() error {
		link, err := net.InterfaceByName(lab.Outside)
		if err != nil {
			return err
		}
		h.link = unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Index, Halen: uint8(len(mac))}
		copy(h.link.Addr[:], mac)
		h.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(proto))
		return err
	})
	if err == nil {
		t.Cleanup(func() { unix.Close(h.fd) })
		timeout := unix.NsecToTimeval(int64(crossing))
		err = unix.SetsockoptTimeval(h.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	}
	if err == nil {
		err = unix.SetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	}
	if err != nil {
		t.Fatalf("open packet socket on %s: %v", on, err)
	}
	return h
}

// put sends an IP packet as it is.
func (h *hostile) put(t *testing.T, packet []byte) {
	t.Helper()
	if err := unix.Sendto(h.fd, packet, 0, &h.link); err != nil {
		t.Fatalf("send a crafted packet: %v", err)
	}
}

// craft is a segment with text, off octets from the next one to send.
func (h *hostile) craft(off int, text string, mods ...mod) crafted {
	c := crafted{seq: h.seq + uint32(off), ack: h.ack, flags: flagACK, window: h.window, payload: text, ttl: 64}
	if text != "" {
		c.flags |= flagPSH
	}
	if h.stamps {
		h.clock++
		c.options = stampOption(h.clock, h.echo)
	}
	for _, m := range mods {
		m(&c)
	}
	return c
}

// stampOption is the timestamp option (RFC 7323), aligned.
func stampOption(value, echo uint32) []byte {
	b := []byte{1, 1, 8, 10}
	b = binary.BigEndian.AppendUint32(b, value)
	return binary.BigEndian.AppendUint32(b, echo)
}

// send sends a segment with text, off octets from the next one to send, and
// moves nothing on.
func (h *hostile) send(t *testing.T, off int, text string, mods ...mod) {
	t.Helper()
	c := h.craft(off, text, mods...)
	h.put(t, c.packet(h.self, h.far))
}

// say sends text in order, as an honest end would.
func (h *hostile) say(t *testing.T, text string, mods ...mod) {
	t.Helper()
	h.send(t, 0, text, mods...)
	h.seq += uint32(len(text))
}

// open sends a SYN and completes the handshake.
func (h *hostile) open(t *testing.T, options string) {
	t.Helper()
	h.syn(t, options)
	h.finishOpen(t)
}

// syn sends a SYN.
func (h *hostile) syn(t *testing.T, o string, mods ...mod) {
	t.Helper()
	h.begin()
	h.synAgain(t, o, mods...)
}

// synAgain sends the same SYN once more.
func (h *hostile) synAgain(t *testing.T, o string, mods ...mod) {
	t.Helper()
	h.send(t, -1, "", append([]mod{flags(flagSYN), func(c *crafted) { c.ack = 0 }, options(o)}, mods...)...)
}

// begin forgets an earlier connection and chooses the next initial sequence
// number, which begins shortly before the wrap.
func (h *hostile) begin() {
	if h.isn == 0 {
		h.isn = 0xffffffe0
	} else {
		h.isn += 1 << 26
	}
	h.seq, h.ack, h.fin, h.reset, h.read = h.isn+1, 0, false, false, 0
	h.got.Reset()
}

// finishOpen waits for the SYN-ACK and acknowledges it.
func (h *hostile) finishOpen(t *testing.T) {
	t.Helper()
	h.await(t, "a SYN-ACK", func(s layers.TCP) bool { return s.SYN && s.ACK && s.Ack == h.seq })
	h.farISN = h.lastReceive.Seq
	h.ack = h.farISN + 1
	h.reset = false // one before was the answer to something else
	h.send(t, 0, "")
}

// await receives until a segment fits.
func (h *hostile) await(t *testing.T, what string, is func(layers.TCP) bool) {
	t.Helper()
	deadline := time.Now().Add(crossing)
	for time.Now().Before(deadline) {
		if h.receive(t, what); is(h.lastReceive) {
			return
		}
	}
	t.Fatalf("the crafted end waited in vain for %s", what)
}

// receive takes the next segment of the connection and acknowledges what comes
// in order.
func (h *hostile) receive(t *testing.T, what string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(h.fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			t.Fatalf("the crafted end waited in vain for %s: %v (it has read %.200q)", what, err, h.got.String())
		}
		if s := decode(0, buf[:n]); s.src == h.far && s.dst == h.self {
			h.take(t, s.tcp)
			return
		}
	}
}

// take is what an end does with a segment.
func (h *hostile) take(t *testing.T, s layers.TCP) {
	t.Helper()
	h.lastReceive = s
	for _, o := range s.Options {
		if o.OptionType == layers.TCPOptionKindTimestamps && len(o.OptionData) == 8 {
			h.echo = binary.BigEndian.Uint32(o.OptionData)
		}
	}
	h.reset = h.reset || s.RST
	if s.SYN || s.RST {
		return
	}
	skip := int(int32(h.ack - s.Seq))
	if skip < 0 || skip > len(s.Payload) || h.fin {
		return
	}
	fresh := s.Payload[skip:]
	h.got.Write(fresh)
	h.ack += uint32(len(fresh))
	if s.FIN {
		h.fin = true
		h.ack++
	}
	if !h.mute && (len(s.Payload) > 0 || s.FIN) {
		h.send(t, 0, "")
	}
}

// want receives until text has come in order, and compares.
func (h *hostile) want(t *testing.T, text string) {
	t.Helper()
	for h.got.Len() < h.read+len(text) {
		if h.reset || h.fin {
			t.Fatalf("the crafted end has read %.200q, want %.200q, and then the connection ended", h.got.String()[h.read:], text)
		}
		h.receive(t, text)
	}
	if got := h.got.String()[h.read : h.read+len(text)]; got != text {
		t.Fatalf("the crafted end has read %.400q, want %.400q", got, text)
	}
	h.read += len(text)
}

// acknowledged waits until the far end has acknowledged all that was said.
func (h *hostile) acknowledged(t *testing.T) {
	t.Helper()
	h.await(t, "an acknowledgement", func(s layers.TCP) bool { return s.ACK && s.Ack == h.seq })
}
