package engine

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// wireTest is a client and a server with an engine between them: it builds the
// packets that either sends and keeps what the other one's TCP delivers.
type wireTest struct {
	t      testing.TB
	e      *Engine
	addr   [2]netip.AddrPort
	isn    [2]uint32
	sent   [2]int // payload octets sent so far
	now    time.Duration
	id     uint32
	wait   map[uint32]flow.Dir // packets without a decision
	got    [2]receiver         // what each direction's receiver has
	growth []grown             // how it came to it
	events []Event
	drops  []Reason
	marks  Mark
	rsts   int
}

// grown is what a receiver could read at once.
type grown struct {
	dir  flow.Dir
	text string
}

// receiver is the simplest TCP receiver: octets by position.
type receiver struct {
	base  uint32
	data  map[uint32]byte
	bytes []byte
}

func (r *receiver) take(seq uint32, b []byte) {
	for i, c := range b {
		if at := seq + uint32(i) - r.base; int32(at) >= int32(len(r.bytes)) {
			if _, ok := r.data[at]; !ok { // the first copy wins, as on Linux
				r.data[at] = c
			}
		}
	}
	for {
		c, ok := r.data[uint32(len(r.bytes))]
		if !ok {
			return
		}
		delete(r.data, uint32(len(r.bytes)))
		r.bytes = append(r.bytes, c)
	}
}

func newWire(t testing.TB, opt Options) *wireTest { return wireOn(t, New(opt)) }

// wireOn puts an engine that may have had other connections between a new pair.
func wireOn(t testing.TB, e *Engine) *wireTest {
	w := &wireTest{t: t, e: e, now: e.now, wait: map[uint32]flow.Dir{},
		addr: [2]netip.AddrPort{
			netip.AddrPortFrom(netip.MustParseAddr("203.0.113.5"), 41522+uint16(e.nextConn)), netip.MustParseAddrPort("192.168.1.1:25")},
		isn: [2]uint32{0xfffffff0, 0x7ffffff0}, // the client's numbers wrap after 16 octets
	}
	for i := range w.got {
		w.got[i] = receiver{base: w.isn[i] + 1, data: map[uint32]byte{}}
	}
	return w
}

// connect makes the handshake.
func connect(t testing.TB, opt Options) *wireTest { return connectOn(t, New(opt)) }

// connectOn makes the handshake through an engine that may have had other
// connections.
func connectOn(t testing.TB, e *Engine) *wireTest {
	w := wireOn(t, e)
	w.handshake()
	if len(w.drops) > 0 {
		t.Fatalf("handshake dropped: %v", w.drops)
	}
	return w
}

// segment is one TCP segment to build; Seq and Ack of flags are not used.
type segment struct {
	flags    layers.TCP
	seq, ack uint32
	payload  string
	in       uint32
}

func (w *wireTest) packet(dir flow.Dir, s segment) []byte {
	src, dst := w.addr[dir], w.addr[dir.Other()]
	tcp := s.flags
	tcp.SrcPort, tcp.DstPort = layers.TCPPort(src.Port()), layers.TCPPort(dst.Port())
	tcp.Seq, tcp.Ack, tcp.Window = s.seq, s.ack, 65535
	var ip gopacket.SerializableLayer
	if src.Addr().Is4() {
		ip4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		tcp.SetNetworkLayerForChecksum(ip4)
		ip = ip4
	} else {
		ip6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		tcp.SetNetworkLayerForChecksum(ip6)
		ip = ip6
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, &tcp, gopacket.Payload(s.payload)); err != nil {
		w.t.Fatal(err)
	}
	return buf.Bytes()
}

// raw gives the engine a segment and returns the decision on it; nil if it is
// held.
func (w *wireTest) raw(dir flow.Dir, s segment) *Decision {
	w.id++
	id := w.id
	w.now += time.Millisecond
	w.wait[id] = dir
	return w.take(w.e.Process(&Packet{ID: id, Time: w.now, In: s.in, Data: w.packet(dir, s)}), id)
}

// tick lets packet time pass.
func (w *wireTest) tick(d time.Duration) {
	w.now += d
	w.take(w.e.Tick(w.now), 0)
}

// take checks decisions and delivers what they accept.
func (w *wireTest) take(ds []Decision, id uint32) (own *Decision) {
	w.t.Helper()
	for i := range ds {
		d := ds[i]
		dir, ok := w.wait[d.ID]
		if !ok {
			w.t.Fatalf("packet %d has a second decision", d.ID)
		}
		delete(w.wait, d.ID)
		if d.ID == id {
			own = &d
		}
		if d.Verdict == Drop {
			w.drops = append(w.drops, d.Reason)
			continue
		}
		w.marks |= d.Mark
		w.deliver(dir, &d)
	}
	w.events = append(w.events, w.e.TakeEvents()...)
	return own
}

func (w *wireTest) deliver(dir flow.Dir, d *Decision) {
	w.t.Helper()
	header := 20
	if d.Data[0]>>4 == 6 {
		header = 40
	}
	tcp := d.Data[header:]
	if !wire.TCPChecksumOK(d.Data, header) {
		w.t.Fatalf("packet %d (edited %v) has a wrong checksum", d.ID, d.Edited)
	}
	if tcp[13]&flagRST != 0 {
		w.rsts++
		return
	}
	if tcp[13]&2 != 0 {
		return // no octets on a SYN
	}
	if d.Mark&MarkReset != 0 {
		return
	}
	r := &w.got[dir]
	n := len(r.bytes)
	r.take(binary.BigEndian.Uint32(tcp[4:]), tcp[int(tcp[12]>>4)*4:])
	if len(r.bytes) > n {
		w.growth = append(w.growth, grown{dir, string(r.bytes[n:])})
	}
}

// at is the segment of dir with payload s at position pos of its stream; it
// acknowledges everything the other side has sent.
func (w *wireTest) at(dir flow.Dir, pos int, s string) segment {
	return segment{
		flags: layers.TCP{ACK: true, PSH: true}, seq: w.isn[dir] + 1 + uint32(pos),
		ack: w.isn[dir.Other()] + 1 + uint32(w.sent[dir.Other()]), payload: s,
	}
}

// send sends the next octets of dir.
func (w *wireTest) send(dir flow.Dir, s string) *Decision {
	pos := w.sent[dir]
	w.sent[dir] += len(s)
	return w.raw(dir, w.at(dir, pos, s))
}

// ack makes the receiver of dir acknowledge all of it.
func (w *wireTest) ack(dir flow.Dir) {
	w.raw(dir.Other(), w.at(dir.Other(), w.sent[dir.Other()], ""))
}

// talk plays "C: " and "S: " lines, one packet each.
func (w *wireTest) talk(text string) {
	w.t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		w.send(side(line), line[3:]+"\r\n")
	}
}

func side(line string) flow.Dir {
	if line[0] == 'C' {
		return flow.Original
	}
	return flow.Reply
}

// want compares what the receiver of dir has got.
func (w *wireTest) want(dir flow.Dir, s string) {
	w.t.Helper()
	s = strings.ReplaceAll(s, "\n", "\r\n")
	if got := string(w.got[dir].bytes); got != s {
		w.t.Errorf("%s got\n%q, want\n%q", [...]string{"server", "client"}[dir], got, s)
	}
}

// log is the events in short.
func (w *wireTest) log() (log []string) {
	for _, ev := range w.events {
		log = append(log, eventLine(ev))
	}
	return log
}

func eventLine(ev Event) string {
	names := map[EventKind]string{EventBuilt: "built", EventTeardown: "teardown", EventMatch: "match", EventParameter: "parameter",
		EventReplaced: "replaced", EventMalicious: "malicious", EventUnknownCommand: "unknown", EventTLSStarted: "tls",
		EventNotice: "notice", EventUndecided: "undecided"}
	s := names[ev.Kind]
	switch ev.Kind {
	case EventMatch:
		s += fmt.Sprintf(" %d %s@%d", ev.Class, ev.Rule, ev.Offset)
	case EventParameter:
		s += fmt.Sprintf(" %s@%d", ev.Rule, ev.Offset)
	case EventTeardown:
		s += fmt.Sprintf(" %d", ev.Teardown)
	case EventUnknownCommand, EventReplaced, EventMalicious:
		s += fmt.Sprintf(" %q", ev.Text)
	}
	return s
}

// done checks that every packet has its decision.
func (w *wireTest) done() {
	w.t.Helper()
	w.tick(time.Hour)
	w.tick(time.Hour)
	if len(w.wait) > 0 {
		w.t.Errorf("packets without a decision: %v", w.wait)
	}
	if c := w.e.Counters(); c.HeldNow != 0 || c.Packets != c.Accepted+c.DropTotal() {
		w.t.Errorf("counters do not add up: %+v", c)
	}
}

func newWire6(t testing.TB) *wireTest {
	w := newWire(t, Options{})
	w.addr = [2]netip.AddrPort{netipMustParse("[2001:db8::5]:41522"), netipMustParse("[2001:db8:1::1]:25")}
	return w
}

func netipMustParse(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// handshake opens the connection.
func (w *wireTest) handshake() {
	w.raw(flow.Original, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]})
	w.raw(flow.Reply, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
	w.raw(flow.Original, segment{flags: layers.TCP{ACK: true}, seq: w.isn[0] + 1, ack: w.isn[1] + 1})
}

// fin sends a FIN of dir; it takes a sequence number.
func (w *wireTest) fin(dir flow.Dir) {
	s := w.at(dir, w.sent[dir], "")
	s.flags.FIN = true
	w.raw(dir, s)
	w.sent[dir]++
}

// putSeq moves a built IPv4 packet to other sequence numbers.
func putSeq(data []byte, seq, ack uint32) {
	binary.BigEndian.PutUint32(data[24:], seq)
	binary.BigEndian.PutUint32(data[28:], ack)
	wire.SetTCPChecksum(data, 20)
}

// anyServer is Options.Synproxy of a box all of whose servers may be intercepted.
func anyServer(netip.Addr) bool { return true }
