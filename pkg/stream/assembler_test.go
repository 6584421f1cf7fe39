package stream

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// sender is one direction that feeds an Assembler.
type sender struct {
	net gopacket.Flow
	tcp layers.TCP
	seq uint32 // of the next octet
}

// newSender returns the direction number n.
func newSender(n int, seq uint32) *sender {
	host := binary.BigEndian.AppendUint32(nil, uint32(n)/4)
	return &sender{
		net: gopacket.NewFlow(layers.EndpointIPv4, host, []byte{10, 0, 0, 2}),
		tcp: layers.TCP{SrcPort: layers.TCPPort(1000 + n%4), DstPort: 25},
		seq: seq,
	}
}

// feed sends a segment, and returns what the sink got and the packet's payload.
func (s *sender) feed(t testing.TB, a *Assembler, flags layers.TCP, payload string) (got string, packet []byte) {
	t.Helper()
	flags.SrcPort, flags.DstPort, flags.Seq, flags.DataOffset = s.tcp.SrcPort, s.tcp.DstPort, s.seq, 5
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, &flags, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	var in layers.TCP
	if err := in.DecodeFromBytes(buf.Bytes(), gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	s.seq += uint32(len(payload))
	if flags.SYN {
		s.seq++
	}
	a.Feed(s.net, &in, func(b []byte) { got += string(b); b[0] = '!' })
	return got, in.Payload
}

// openNow closes everything and says how many directions tcpassembly had open.
func openNow(a *Assembler) int { return a.assembler.FlushAll() }

// One direction, step by step.
func TestAssemblerSteps(t *testing.T) {
	var (
		syn, ack, fin, rst = layers.TCP{SYN: true}, layers.TCP{ACK: true}, layers.TCP{FIN: true, ACK: true}, layers.TCP{RST: true}
	)
	type step struct {
		seq   uint32
		flags layers.TCP
		text  string
	}
	for _, c := range []struct {
		name  string
		steps []step
		open  int // directions left in tcpassembly
		times int // that one was opened
	}{
		{"SYN and octets across the wrap", []step{{0xfffffffe, syn, ""}, {0xffffffff, ack, "abc"}, {2, ack, "def"}}, 1, 1},
		{"a SYN costs nothing", []step{{5, syn, ""}}, 0, 0},
		{"octets at number 0", []step{{0xffffffff, syn, ""}, {0, ack, "abc"}, {3, ack, "d"}}, 1, 1},
		{"a pure ACK", []step{{7, ack, ""}}, 0, 0},
		{"the same addresses again, with a SYN", []step{{0, syn, ""}, {1, ack, "abc"}, {500, syn, ""}, {501, ack, "def"}}, 1, 2},
		{"the same addresses again, without one", []step{{1, ack, "abc"}, {0x80000001, ack, "def"}, {7, ack, "g"}}, 1, 3},
		{"a FIN behind octets", []step{{1, ack, "abc"}, {4, fin, ""}}, 0, 1},
		{"a FIN with octets", []step{{1, ack, "abc"}, {4, fin, "def"}}, 0, 1},
		{"octets behind a FIN", []step{{1, fin, "abc"}, {5, ack, "def"}}, 1, 2},
		{"a RST", []step{{1, ack, "abc"}, {4, rst, ""}}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := NewAssembler()
			s := newSender(0, 0)
			for i, step := range c.steps {
				s.seq = step.seq
				got, packet := s.feed(t, a, step.flags, step.text)
				if got != step.text {
					t.Errorf("step %d: got %q, want %q", i, got, step.text)
				}
				if len(packet) > 0 && packet[0] != '!' {
					t.Errorf("step %d: the sink did not get the packet's own bytes", i)
				}
			}
			if len(a.open) != c.open {
				t.Errorf("%d directions are noted as open, want %d", len(a.open), c.open)
			}
			if len(a.slots) != c.times {
				t.Errorf("a direction was opened %d times, want %d", len(a.slots), c.times)
			}
			if open := openNow(a); open != c.open {
				t.Errorf("%d directions are open, want %d", open, c.open)
			}
		})
	}
}

func TestAssemblerClose(t *testing.T) {
	a := NewAssembler()
	one, other := newSender(1, 100), newSender(2, 200)
	one.feed(t, a, layers.TCP{}, "abc")
	other.feed(t, a, layers.TCP{}, "abc")
	for range 2 { // the second time there is nothing to close
		a.Close(one.net, uint16(one.tcp.SrcPort), 25)
		if len(a.open) != 1 {
			t.Errorf("%d directions are noted as open, want 1", len(a.open))
		}
	}
	if open := openNow(a); open != 1 {
		t.Errorf("%d directions are open, want 1", open)
	}
}

// The direction that was opened longest ago goes first, however busy it is.
func TestAssemblerClosesTheOldest(t *testing.T) {
	const more = 10
	a := NewAssembler()
	senders := make([]*sender, maxOpen+more)
	for i := range senders {
		senders[i] = newSender(i, 1)
		senders[i].feed(t, a, layers.TCP{}, "a")
		senders[i].feed(t, a, layers.TCP{}, "b")
	}
	for i, s := range senders {
		if _, open := a.open[direction{s.net, uint16(s.tcp.SrcPort), 25}]; open != (i >= more) {
			t.Errorf("direction %d of %d: open %v", i, len(senders), open)
		}
	}
}

// More directions than may be open, in any order: every octet comes, in the
// packet's own bytes, and the bound holds.
func TestAssemblerIsBounded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	a := NewAssembler()
	senders := make([]*sender, 3*maxOpen)
	for i := range senders {
		senders[i] = newSender(i, rnd.Uint32())
	}
	most := 0
	for i := range 6 * len(senders) {
		n := rnd.IntN(len(senders))
		if i%2 == 0 {
			n %= 100 // these are busy
		}
		s := senders[n]
		switch rnd.IntN(20) {
		case 0:
			a.Close(s.net, uint16(s.tcp.SrcPort), 25)
		case 1:
			s.feed(t, a, layers.TCP{SYN: true}, "")
		}
		text := randomBytes(rnd, 1+rnd.IntN(9))
		got, packet := s.feed(t, a, layers.TCP{FIN: rnd.IntN(50) == 0}, string(text))
		if got != string(text) || packet[0] != '!' {
			t.Fatalf("segment %d, direction %d: got %q, want %q in place", i, n, got, text)
		}
		most = max(most, len(a.open))
	}
	if most > maxOpen || most < maxOpen/2 || len(a.slots) != maxOpen { // a slot that is closed early waits for its turn
		t.Errorf("up to %d directions in %d slots were open, want nearly %d in %[3]d", most, len(a.slots), maxOpen)
	}
	if want, open := len(a.open), openNow(a); open != want {
		t.Errorf("%d directions are open in tcpassembly, want %d", open, want)
	}
}

// A flood of segments on new addresses makes the assembler go round: once the
// ring is full, that allocates nothing.
func TestAssemblerDoesNotAllocate(t *testing.T) {
	a := NewAssembler()
	tcp, host := layers.TCP{}, make([]byte, 4)
	header := make([]byte, 32)
	header[12] = 5 << 4
	sink := func([]byte) {}
	n := uint32(0)
	flood := func() {
		n++
		binary.BigEndian.PutUint32(host, n)
		if err := tcp.DecodeFromBytes(header, gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		a.Feed(gopacket.NewFlow(layers.EndpointIPv4, host, []byte{10, 0, 0, 2}), &tcp, sink)
	}
	for range 4 * maxOpen {
		flood()
	}
	if allocs := testing.AllocsPerRun(4*maxOpen, flood); allocs != 0 {
		t.Errorf("%v allocations a direction", allocs)
	}
}
