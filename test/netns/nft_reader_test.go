package netns

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florianl/go-nfqueue/v2"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// patience is how long a test waits for something that must happen.
const patience = 5 * time.Second

// seen is one packet that came to a queue.
type seen struct {
	queue    uint16
	src, dst netip.AddrPort
	tcp      layers.TCP
	client   bool // sent by the side that connects to port 25
}

// answer is what a reader says to a packet.
type answer struct {
	hold bool   // no verdict at all
	mark uint32 // packet mark of the accepted packet
}

// accept lets a packet pass.
func accept(seen) answer { return answer{} }

// reader is a minimal program behind the queues 0 to 4.
type reader struct {
	packets chan seen
	lost    atomic.Int64 // packets that did not fit into the channel: a fault of the test
}

// read binds the queues until the test ends; judge is called for every packet
// from several goroutines, after the packet was put into the channel.
func read(t *testing.T, l *lab.Lab, judge func(seen) answer) *reader {
	t.Helper()
	r := &reader{packets: make(chan seen, 4096)}
	ctx, cancel := context.WithCancel(t.Context())
	for n := range uint16(5) {
		q, err := nfqueue.Open(&nfqueue.Config{
			NetNS: l.FD(lab.Firewall), NfQueue: n, MaxPacketLen: 65531, MaxQueueLen: 1024,
			Copymode: nfqueue.NfQnlCopyPacket, Flags: nfqueue.NfQaCfgFlagGSO,
		})
		if err != nil {
			t.Fatalf("open queue %d: %v", n, err)
		}
		hook := func(a nfqueue.Attribute) int {
			p := decode(n, *a.Payload)
			select {
			case r.packets <- p:
			default:
				r.lost.Add(1)
			}
			if ans := judge(p); !ans.hold {
				_ = q.SetVerdictWithOption(*a.PacketID, nfqueue.NfAccept, nfqueue.WithMark(ans.mark))
			}
			return 0
		}
		stop := func(error) int { return 1 } // the deadline that Close sets
		if err := q.RegisterWithErrorFunc(ctx, hook, stop); err != nil {
			t.Fatalf("bind queue %d: %v (is another program bound to it?)", n, err)
		}
		t.Cleanup(func() { _ = q.Close() })
	}
	t.Cleanup(cancel)
	return r
}

// decode reads addresses and the TCP header.
func decode(queue uint16, data []byte) seen {
	first := layers.LayerTypeIPv4
	if data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(data, first, gopacket.Default)
	s := seen{queue: queue}
	if tcp, ok := p.TransportLayer().(*layers.TCP); ok {
		s.tcp = *tcp
	}
	src, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	dst, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	s.src = netip.AddrPortFrom(src, uint16(s.tcp.SrcPort))
	s.dst = netip.AddrPortFrom(dst, uint16(s.tcp.DstPort))
	s.client = s.tcp.DstPort == 25
	return s
}

// data says that the packet has payload.
func (s seen) data() bool { return len(s.tcp.Payload) > 0 }

// bareACK says that the packet is an ACK and nothing else.
func (s seen) bareACK() bool {
	return s.tcp.ACK && !s.tcp.SYN && !s.tcp.FIN && !s.tcp.RST && !s.tcp.PSH && !s.data()
}

// wait returns the first packet for which want is true.
func (r *reader) wait(t *testing.T, what string, want func(seen) bool) seen {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case p := <-r.packets:
			if want(p) {
				return p
			}
		case <-timeout:
			t.Fatalf("%s did not come to a queue", what)
		}
	}
}

// taken returns the packets that have come and were not taken yet.
func (r *reader) taken(t *testing.T) []seen {
	t.Helper()
	if n := r.lost.Load(); n > 0 {
		t.Fatalf("%d packets lost by the test's reader", n)
	}
	var all []seen
	for {
		select {
		case p := <-r.packets:
			all = append(all, p)
		default:
			return all
		}
	}
}

// count is the number of packets for which want is true.
func count(packets []seen, want func(seen) bool) int {
	n := 0
	for _, p := range packets {
		if want(p) {
			n++
		}
	}
	return n
}

// tcpSegment serialises a TCP segment with a right checksum; options must be a
// multiple of four bytes.
func tcpSegment(t *testing.T, src, dst netip.AddrPort, tcp layers.TCP, options, payload []byte) []byte {
	t.Helper()
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	tcp.Window = 65535
	for i := 0; i < len(options); {
		o := layers.TCPOption{OptionType: layers.TCPOptionKind(options[i]), OptionLength: 1}
		if options[i] > 1 {
			o.OptionLength = options[i+1]
			o.OptionData = options[i+2 : i+int(o.OptionLength)]
		}
		tcp.Options = append(tcp.Options, o)
		i += int(o.OptionLength)
	}
	var ip gopacket.NetworkLayer = &layers.IPv4{SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(), Protocol: layers.IPProtocolTCP}
	if src.Addr().Is6() {
		ip = &layers.IPv6{SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice(), NextHeader: layers.IPProtocolTCP}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opt := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opt, &tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// send puts a TCP segment on the wire of a host.
func send(t *testing.T, l *lab.Lab, from lab.Host, dst netip.Addr, segment []byte) {
	t.Helper()
	err := l.Do(from, func() error {
		family := unix.AF_INET
		var to unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(dst)}
		if dst.Is6() {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: dst.As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, segment, 0, to)
	})
	if err != nil {
		t.Fatalf("send raw segment: %v", err)
	}
}

// as4 is the IPv4 address, or zero.
func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}
