package replay

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// player sends packets through an engine, so that either end can answer what it
// got, and keeps them as a capture.
type player struct {
	eng   *engine.Engine
	frame capture.Frame // what stands before each IP packet
	out   *capture.Writer
	pcap  bytes.Buffer
	network
	err error
}

// started is when every played capture begins.
var started = time.Date(2026, time.November, 23, 13, 0, 0, 0, time.UTC)

func newPlayer(cfg *policy.Config) *player {
	p := &player{eng: engine.New(engine.Options{Map: cfg.Classes[0].Map, TCP: cfg.Classes[0].TCP}), frame: capture.Frame{Link: capture.Raw}}
	p.network = network{ports: casePorts, conns: map[flow.Key]*ends{}}
	p.out = capture.NewWriter(&p.pcap)
	return p
}

// inspect sends one packet.
func (p *player) inspect(packet *engine.Packet) []engine.Decision {
	if err := p.out.Write(started.Add(packet.Time), p.frame, packet.Data); err != nil && p.err == nil {
		p.err = err
	}
	decisions := p.eng.Process(packet)
	p.pass(decisions)
	return decisions
}

// wait lets time pass.
func (p *player) wait(now time.Duration) { p.pass(p.eng.Tick(now)) }

// pass gives what passed to the ends.
func (p *player) pass(decisions []engine.Decision) {
	for _, d := range decisions {
		if d.Verdict == engine.Accept && d.Mark&engine.MarkReset == 0 {
			p.deliver(d.Data)
		}
	}
	p.eng.TakeEvents()
	p.eng.TakeKills()
}

// finish returns the capture and what its ends got.
func (p *player) finish(t *testing.T) ([]byte, *[2]string) {
	t.Helper()
	p.wait(time.Hour)
	if p.err != nil {
		t.Fatal(p.err)
	}
	got := p.transcript()
	return p.pcap.Bytes(), &got
}

// script is a list of packets written as text, for what a dialogue cannot say:
//
//	# a comment
//	ends [2001:db8::5]:41522 [2001:db8:25::1]:25     other addresses
//	vlan 100 200                                     Ethernet with these tags
//	C SYN                                            a packet with flags alone
//	C@5000 SYN                                       a SYN of another sequence number
//	S: 220 mx.example.org ESMTP                      the next bytes of a side
//	C@6: NOOP                                        bytes at offset 6 of its stream
//	C@6 FIN URG: NOOP                                with flags besides ACK and PSH
//	C ack=12: NOOP                                   acknowledging 12 bytes
//	wait 5s                                          before the next packet
//
// The text behind the colon is that of a dialogue's turn (capture.Transcript).
// Unless the script says otherwise, a packet acknowledges what its sender got.
// The handshake is the script's own to write. Packets are a millisecond apart.
type script struct {
	addr  [2]netip.AddrPort // by smtp.Side
	frame capture.Frame
	steps []step

	base [2]uint32 // sequence number of offset 0 of each side
	sent [2]int    // octets and FINs sent by each side since then
}

// step is a packet of a script.
type step struct {
	wait    time.Duration // before it
	side    smtp.Side
	at      int // offset in its side's stream, next for the next one
	flags   []string
	ack     int // bytes acknowledged, next for what the sender got
	payload []byte
}

// next stands for an offset that the player knows.
const next = -1 << 31

// parseScript reads a script; the error names file and line.
func parseScript(file string, text []byte) (*script, error) {
	s := &script{frame: capture.Frame{Link: capture.Raw}, addr: [2]netip.AddrPort{
		netip.MustParseAddrPort("203.0.113.5:41522"), netip.MustParseAddrPort("192.0.2.25:25")}}
	var wait time.Duration
	for i, line := range strings.Split(string(text), "\n") {
		words := strings.Fields(line)
		var err error
		switch {
		case len(words) == 0 || line[0] == '#':
		case words[0] == "ends" && len(words) == 3:
			for side := range s.addr {
				if s.addr[side], err = netip.ParseAddrPort(words[1+side]); err != nil {
					break
				}
			}
		case words[0] == "vlan":
			err = s.vlan(words[1:])
		case words[0] == "wait" && len(words) == 2:
			var d time.Duration
			d, err = time.ParseDuration(words[1])
			wait += d
		default:
			var st step
			st, err = parseStep(line)
			st.wait, wait = wait, 0
			s.steps = append(s.steps, st)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return s, nil
}

// vlan puts an Ethernet header with tags before every packet.
func (s *script) vlan(ids []string) error {
	prefix := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 12)
		if err != nil {
			return err
		}
		prefix = append(prefix, 0x81, 0x00, byte(n>>8), byte(n))
	}
	s.frame = capture.Frame{Link: capture.Ethernet, Prefix: append(prefix, 0x08, 0x00)}
	return nil
}

// flags are the TCP flags that a step can name.
var flags = []string{"SYN", "ACK", "FIN", "RST", "URG"}

// parseStep reads a packet.
func parseStep(line string) (step, error) {
	st := step{at: next, ack: next}
	head, text, hasText := strings.Cut(line, ":")
	words := strings.Fields(head)
	who, at, hasAt := strings.Cut(words[0], "@")
	switch who {
	case "C":
	case "S":
		st.side = smtp.Server
	default:
		return st, fmt.Errorf("unknown line %q; want C, S, ends, vlan or wait", line)
	}
	var err error
	if hasAt {
		if st.at, err = strconv.Atoi(at); err != nil {
			return st, err
		}
	}
	for _, w := range words[1:] {
		if n, ok := strings.CutPrefix(w, "ack="); ok {
			if st.ack, err = strconv.Atoi(n); err != nil {
				return st, err
			}
			continue
		}
		if !slices.Contains(flags, w) {
			return st, fmt.Errorf("unknown flag %q; want %s or ack=N", w, strings.Join(flags, ", "))
		}
		st.flags = append(st.flags, w)
	}
	if hasText {
		turns, err := capture.ParseTranscript("text", []byte(who+":"+text))
		if err != nil {
			return st, err
		}
		st.payload = turns[0].Data
	}
	return st, nil
}

// Initial sequence numbers: the client's wraps after 256 bytes.
var isn = [2]uint32{smtp.Client: 0xfffffeff, smtp.Server: 0x0fffffff}

// play sends the script's packets.
func (s *script) play(p *player) {
	var now time.Duration
	for i, st := range s.steps {
		if now += time.Millisecond; st.wait > 0 {
			now += st.wait
			p.wait(now)
		}
		tcp := s.header(p, st)
		packet := &engine.Packet{ID: uint32(i + 1), Time: now, In: capture.OutsideIndex, Out: capture.InsideIndex, Data: s.packet(st, tcp)}
		if st.side == smtp.Server {
			packet.In, packet.Out = packet.Out, packet.In
		}
		p.inspect(packet)
	}
}

// header is the TCP header of a step. What its offset counts from is the
// connection that its receiver knows of: a SYN that was dropped begins nothing.
func (s *script) header(p *player, st step) *layers.TCP {
	tcp := &layers.TCP{ACK: true, PSH: len(st.payload) > 0, Window: 65535}
	end := len(st.payload)
	for _, f := range st.flags {
		end += tcpFlag(tcp, f)
	}
	base, sent := uint32(s.receivers(p)[1-st.side].base), &s.sent[st.side]
	if s.base[st.side] != base {
		s.base[st.side], *sent = base, 0
	}
	switch at := st.at; {
	case tcp.SYN:
		if tcp.Seq = isn[st.side]; at != next {
			tcp.Seq += uint32(at)
		}
	default:
		if at == next {
			at = *sent
		}
		*sent = max(*sent, at+end)
		tcp.Seq = base + uint32(at)
	}
	tcp.Ack = s.acknowledged(p, st)
	return tcp
}

// receivers are the ends of the script's connection; none before its SYN.
func (s *script) receivers(p *player) *[2]receiver {
	if e := p.conns[flow.KeyOf(s.addr[0], s.addr[1])]; e != nil {
		return &e.receivers
	}
	return &[2]receiver{}
}

// tcpFlag sets a flag and returns what it adds to the sequence number.
func tcpFlag(tcp *layers.TCP, flag string) int {
	switch flag {
	case "SYN":
		tcp.SYN, tcp.ACK = true, false
	case "ACK":
		tcp.ACK = true
	case "FIN":
		tcp.FIN = true
		return 1
	case "RST":
		tcp.RST = true
	case "URG":
		tcp.URG, tcp.Urgent = true, 3
	}
	return 0
}

// acknowledged is the acknowledgement number of a step.
func (s *script) acknowledged(p *player, st step) uint32 {
	got := &s.receivers(p)[st.side]
	n := st.ack
	if n == next {
		if n = got.next; got.fin == got.next {
			n++
		}
	}
	return uint32(got.base) + uint32(n)
}

// packet builds the IP packet of a step.
func (s *script) packet(st step, tcp *layers.TCP) []byte {
	from, to := s.addr[st.side], s.addr[1-st.side]
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(from.Port()), layers.TCPPort(to.Port())
	if !tcp.ACK {
		tcp.Ack = 0
	}
	var ip interface {
		gopacket.SerializableLayer
		gopacket.NetworkLayer
	} = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	if from.Addr().Is6() {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	}
	buf := gopacket.NewSerializeBuffer()
	err := tcp.SetNetworkLayerForChecksum(ip)
	if err == nil {
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload(st.payload))
	}
	if err != nil {
		panic("replay: " + err.Error()) // two ends of one family always fit
	}
	return buf.Bytes()
}
