package capture

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// TestParseTranscript: the syntax, and that EscapeLine writes it back.
func TestParseTranscript(t *testing.T) {
	tests := []struct {
		line string // as a transcript has it
		want string // the bytes sent
		back string // EscapeLine's spelling, where it differs
	}{
		{"C: NOOP", "NOOP\r\n", ""},
		{"C:NOOP", "NOOP\r\n", "C: NOOP"},
		{"C:", "\r\n", "C: "},
		{"C: ", "\r\n", ""},
		{"C:  x ", " x \r\n", ""},
		{"C: .\r", ".\r\n", "C: ."}, // a file with CR LF
		{`C: QU\`, "QU", ""},
		{`C: \`, "", ""},
		{`C: a\\`, "a\\\r\n", ""},
		{`C: a\n\`, "a\n", ""},
		{`C: NOOP\r\nQUIT`, "NOOP\r\nQUIT\r\n", ""},
		{`C: \x41\xfF\0\t`, "A\xff\x00\t\r\n", `C: A\xff\0\t`},
	}
	for _, tt := range tests {
		got, err := ParseTranscript("t", []byte("# comment\n\n"+tt.line+"\n"))
		if err != nil {
			t.Errorf("%q: %v", tt.line, err)
			continue
		}
		if diff := cmp.Diff(Transcript{{Line: 3, Side: smtp.Client, Data: []byte(tt.want)}}, got,
			cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
			t.Errorf("%q: %s", tt.line, diff)
		}
		back := tt.back
		if back == "" {
			back = tt.line
		}
		if got := "C: " + EscapeLine([]byte(tt.want)); got != back {
			t.Errorf("%q is written back as %q, want %q", tt.want, got, back)
		}
	}
}

// TestTranscriptErrors: file, line and column of what is wrong.
func TestTranscriptErrors(t *testing.T) {
	tests := []struct{ text, want string }{
		{"S: 220 x\nX: y", `f:2:1: want "C: " or "S: " or a comment that begins with #`},
		{"C", `f:1:1: want "C: " or "S: " or a comment that begins with #`},
		{"Cx", `f:1:1: want "C: " or "S: " or a comment that begins with #`},
		{`C: ab\q`, `f:1:6: unknown escape "\\q"; want \r, \n, \t, \0, \\, \xNN or a \ at the end`},
		{`C: \x4`, `f:1:4: unknown escape "\\x"; want \r, \n, \t, \0, \\, \xNN or a \ at the end`},
		{`C: \xg0`, `f:1:4: escape "\\xg0": want two hexadecimal digits behind \x`},
	}
	for _, tt := range tests {
		if _, err := ParseTranscript("f", []byte(tt.text)); err == nil || err.Error() != tt.want {
			t.Errorf("%q:\n got %v\nwant %s", tt.text, err, tt.want)
		}
	}
}

// flags spells TCP flags the way tcpdump does.
func flags(tcp *layers.TCP) string {
	var s string
	for _, f := range []struct {
		on   bool
		name string
	}{{tcp.SYN, "S"}, {tcp.FIN, "F"}, {tcp.RST, "R"}, {tcp.PSH, "P"}, {tcp.ACK, "."}} {
		if f.on {
			s += f.name
		}
	}
	return s
}

// decode reads a packet with gopacket, which checks lengths on its own.
func decode(t *testing.T, data []byte) *layers.TCP {
	t.Helper()
	first := gopacket.Decoder(layers.LayerTypeIPv4)
	if data[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(data, first, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Fatalf("%x: %v", data, p.ErrorLayer().Error())
	}
	return p.TransportLayer().(*layers.TCP)
}

// TestPackets: a whole connection, numbers relative to the first of each side.
func TestPackets(t *testing.T) {
	tr, err := ParseTranscript("t", []byte("S: 220 x\nC: NOOP\nC: QU\\\nS: \\\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, p := range tr.Packets() {
		tcp := decode(t, p.Data)
		side, seq, ack := "C", tcp.Seq-clientISN, tcp.Ack-serverISN
		if p.In == InsideIndex {
			side, seq, ack = "S", tcp.Seq-serverISN, tcp.Ack-clientISN
		}
		if tcp.Ack == 0 {
			ack = 0
		}
		got = append(got, fmt.Sprintf("%s %s %d:%d %q", side, flags(tcp), seq, ack, tcp.Payload))
		if p.ID != uint32(i+1) || p.Time != time.Duration(i+1)*time.Millisecond || p.In+p.Out != 3 {
			t.Errorf("packet %d: id %d, time %v, interfaces %d and %d", i, p.ID, p.Time, p.In, p.Out)
		}
	}
	want := []string{
		`C S 0:0 ""`, `S S. 0:1 ""`, `C . 1:1 ""`,
		`S P. 1:1 "220 x\r\n"`, `C P. 1:8 "NOOP\r\n"`, `C P. 7:8 "QU"`,
		`C F. 9:8 ""`, `S F. 8:10 ""`, `C . 10:9 ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestChecksums: the receiver's sum over header and payload is zero's complement.
func TestChecksums(t *testing.T) {
	for _, s := range []*Session{
		NewSession(transcriptClient, transcriptServer),
		NewSession(netip.MustParseAddrPort("[2001:db8::5]:41522"), netip.MustParseAddrPort("[2001:db8::25]:25")),
	} {
		data := s.Data(smtp.Client, []byte("odd"))
		var pseudo, segment []byte
		if data[0]>>4 == 4 {
			if got := sum(data[:20]); got != 0xffff {
				t.Errorf("IPv4 header sums to %#x", got)
			}
			pseudo, segment = data[12:20], data[20:]
		} else {
			pseudo, segment = data[8:40], data[40:]
		}
		pseudo = append(bytes.Clone(pseudo), 0, 6, 0, byte(len(segment)))
		if got := sum(append(pseudo, segment...)); got != 0xffff {
			t.Errorf("TCP sums to %#x", got)
		}
	}
}

// sum is the Internet checksum's one's complement sum (RFC 1071), the slow way.
func sum(b []byte) uint32 {
	var s uint32
	for i, c := range b {
		s += uint32(c) << (8 * (1 - i%2))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return s
}

// TestPlayHolds: an end does not acknowledge what is held back, and does once it
// is let go; a long turn is cut to packets.
func TestPlayHolds(t *testing.T) {
	tr := Transcript{
		{Side: smtp.Client, Data: []byte("held")},
		{Side: smtp.Server, Data: []byte("one")},
		{Side: smtp.Server, Data: bytes.Repeat([]byte("x"), mss+1)},
	}
	var held *engine.Packet
	var acks []uint32
	var turns []int
	tr.Play(func(turn int, p *engine.Packet) []engine.Decision {
		tcp := decode(t, p.Data)
		turns = append(turns, turn)
		if p.In == InsideIndex {
			acks = append(acks, tcp.Ack-clientISN)
		}
		d := []engine.Decision{{ID: p.ID, Data: p.Data}}
		switch {
		case turn == 0:
			held = p
			return nil
		case turn == 1:
			return append(d, engine.Decision{ID: held.ID, Data: held.Data})
		}
		return d
	})
	// SYN-ACK, one, two packets of x, FIN.
	if diff := cmp.Diff([]uint32{1, 1, 5, 5, 6}, acks); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{-1, -1, -1, 0, 1, 2, 2, -2, -2, -2}, turns); diff != "" {
		t.Error(diff)
	}
}

// TestDeliver: a packet out of order, a stranger's and one that is not TCP are
// not acknowledged; the next in order is.
func TestDeliver(t *testing.T) {
	s := NewSession(transcriptClient, transcriptServer)
	s.Deliver(s.SYN(smtp.Client))
	first, second := s.Data(smtp.Client, []byte("ab")), s.Data(smtp.Client, []byte("c"))
	stranger := NewSession(netip.MustParseAddrPort("203.0.113.6:41522"), transcriptServer).Data(smtp.Client, []byte("xx"))
	for i, step := range []struct {
		packet []byte
		ack    uint32 // of the server afterwards
	}{{second, 1}, {stranger, 1}, {[]byte("no packet"), 1}, {first, 3}, {first, 3}, {second, 4}} {
		s.Deliver(step.packet)
		if got := decode(t, s.ACK(smtp.Server)).Ack - clientISN; got != step.ack {
			t.Errorf("step %d: the server acknowledges %d, want %d", i, got, step.ack)
		}
	}
}

// TestPlayDrops: what is dropped, or rejected by its mark, is not acknowledged.
func TestPlayDrops(t *testing.T) {
	tr := Transcript{{Side: smtp.Client, Data: []byte("a")}, {Side: smtp.Client, Data: []byte("b")}, {Side: smtp.Server, Data: []byte("c")}}
	tr.Play(func(turn int, p *engine.Packet) []engine.Decision {
		d := engine.Decision{ID: p.ID, Data: p.Data}
		switch turn {
		case 0:
			d.Verdict = engine.Drop
		case 1:
			d.Mark = engine.MarkReset
		case 2:
			if ack := decode(t, p.Data).Ack - clientISN; ack != 1 {
				t.Errorf("the server acknowledges %d, want 1", ack)
			}
		}
		return []engine.Decision{d}
	})
}

// TestParseTCP: what is not TCP, or not whole, is not read.
func TestParseTCP(t *testing.T) {
	udp := bytes.Clone(packet4)
	udp[9] = 17
	fragment := bytes.Clone(packet4)
	fragment[6], fragment[7] = 0, 1
	offset := bytes.Clone(packet4)
	offset[32] = 0xf0 // a TCP header of 60 bytes
	tests := []struct {
		name string
		ip   []byte
		want string
	}{
		{"v4", packet4, "203.0.113.5:41522 192.0.2.25:25"},
		{"v6", packet6, "[2001:db8::5]:41522 [2001:db8::25]:25"},
		{"UDP", udp, ""},
		{"fragment", fragment, ""},
		{"cut", packet4[:43], ""},
		{"TCP header beyond the packet", offset, ""},
		{"nothing", nil, ""},
	}
	for _, tt := range tests {
		var got string
		if p, ok := ParseTCP(tt.ip); ok {
			got = p.Src.String() + " " + p.Dst.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzTranscript: EscapeLine spells any bytes so that they are read back, and no
// text makes the parser panic or give an error without its place.
func FuzzTranscript(f *testing.F) {
	f.Add([]byte("NOOP\r\n"))
	f.Add([]byte("\\\r\n\x00\xff\\x4"))
	f.Add([]byte("C: \\xzz"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseTranscript("f", []byte("S: "+EscapeLine(data)))
		if err != nil || len(got) != 1 || got[0].Side != smtp.Server || !bytes.Equal(got[0].Data, data) {
			t.Fatalf("%q is read back as %+v, %v", data, got, err)
		}
		if _, err := ParseTranscript("f", data); err != nil && err.Error()[:2] != "f:" {
			t.Fatal(err)
		}
	})
}
