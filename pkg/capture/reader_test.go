package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// le and be are the two byte orders of a capture file.
var (
	le = binary.LittleEndian
	be = binary.BigEndian
)

// words writes 16-bit (uint16) and 32-bit (uint32, int) numbers and bytes in one
// byte order.
func words(order binary.AppendByteOrder, parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = order.AppendUint32(b, uint32(p))
		case uint16:
			b = order.AppendUint16(b, p)
		case byte:
			b = append(b, p)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

// classic is a pcap file: magic, version 2.4, zone, figures, snapshot length,
// link type, and records of seconds, fraction, captured and wire length.
func classic(order binary.AppendByteOrder, magic, link int, records ...[]byte) []byte {
	b := words(order, magic, uint16(2), uint16(4), 0, 0, 65535, link)
	return append(b, bytes.Join(records, nil)...)
}

// rec is one record of a pcap file, whole.
func rec(order binary.AppendByteOrder, sec, frac int, data []byte) []byte {
	return words(order, sec, frac, len(data), len(data), data)
}

// block is a pcapng block around a body of whole words.
func block(order binary.AppendByteOrder, kind int, body ...any) []byte {
	b := words(order, body...)
	return words(order, kind, len(b)+12, b, len(b)+12)
}

// section is a pcapng section header.
func section(order binary.AppendByteOrder) []byte {
	return block(order, ngSection, 0x1a2b3c4d, uint16(1), uint16(0), -1, -1)
}

// packet4 and packet6 are SYNs of 44 and 64 bytes.
var (
	packet4 = NewSession(netip.MustParseAddrPort("203.0.113.5:41522"), netip.MustParseAddrPort("192.0.2.25:25")).SYN(smtp.Client)
	packet6 = NewSession(netip.MustParseAddrPort("[2001:db8::5]:41522"), netip.MustParseAddrPort("[2001:db8::25]:25")).SYN(smtp.Client)
)

// join puts byte slices together.
func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// TestLinkTypes: what stands before the packet, and what is left of it behind.
func TestLinkTypes(t *testing.T) {
	macs := []byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02")
	padding := make([]byte, 6)
	tests := []struct {
		name   string
		link   LinkType
		prefix []byte
		ip     []byte
		tail   []byte
	}{
		{"ethernet v4, padded", Ethernet, join(macs, []byte{8, 0}), packet4, padding},
		{"ethernet v6", Ethernet, join(macs, []byte{0x86, 0xdd}), packet6, nil},
		{"VLAN", Ethernet, join(macs, []byte{0x81, 0, 0, 5, 8, 0}), packet4, padding},
		{"QinQ", Ethernet, join(macs, []byte{0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x86, 0xdd}), packet6, nil},
		{"SLL", LinuxSLL, join(make([]byte, 14), []byte{8, 0}), packet4, nil},
		{"SLL with VLAN", LinuxSLL, join(make([]byte, 14), []byte{0x81, 0, 0, 5, 8, 0}), packet4, nil},
		{"SLL2", LinuxSLL2, join([]byte{0x86, 0xdd}, make([]byte, 18)), packet6, nil},
		{"raw", Raw, nil, packet4, nil},
		{"raw, by BSD's number", 12, nil, packet6, nil},
		{"raw v6", IPv6, nil, packet6, nil},
		{"null", Null, []byte{2, 0, 0, 0}, packet4, nil},
		{"loop", Loop, []byte{0, 0, 0, 24}, packet6, nil},
		{"ARP", Ethernet, join(macs, []byte{8, 6}, packet4), nil, nil},
		{"five VLAN tags", Ethernet, join(macs, bytes.Repeat([]byte{0x81, 0, 0, 5}, 5), []byte{8, 0}, packet4), nil, nil},
		{"a link type nobody reads", 147, join(macs, []byte{8, 0}, packet4), nil, nil},
		{"half a MAC address", Ethernet, macs[:4], nil, nil},
		{"SLL2 that is not IP", LinuxSLL2, join(make([]byte, 20), packet4), nil, nil},
		{"version 5", Raw, join([]byte{0x55}, packet4[1:]), nil, nil},
		{"IPv4 header of 16 bytes", Raw, join([]byte{0x44}, packet4[1:]), nil, nil},
		{"total length below the header's", Raw, join(packet4[:2], []byte{0, 19}, packet4[4:]), nil, nil},
		{"nothing", Raw, nil, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := classic(le, 0xa1b2c3d4, int(tt.link), rec(le, 1, 0, join(tt.prefix, tt.ip, tt.tail)))
			frames, err := readAll(file)
			if err != nil || len(frames) != 1 {
				t.Fatalf("%d frames, %v", len(frames), err)
			}
			want := Frame{Time: time.Unix(1, 0).UTC(), Link: tt.link, Prefix: tt.prefix, IP: tt.ip}
			if diff := cmp.Diff(want, frames[0], cmp.Transformer("nil", func(b []byte) string { return string(b) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// readAll reads a capture from memory.
func readAll(file []byte) ([]Frame, error) {
	r, err := NewReader("t.pcap", bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var out []Frame
	for {
		f, err := r.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, f)
	}
}

// TestTruncated: a snapshot length shows, and so does an offload length of zero.
func TestTruncated(t *testing.T) {
	offload := join(packet4[:2], []byte{0, 0}, packet4[4:])
	tests := []struct {
		name      string
		data      []byte
		wire      int
		wantIP    int // length, -1 for none
		truncated bool
	}{
		{"whole", packet4, 44, 44, false},
		{"cut in the TCP header", packet4[:30], 44, 30, true},
		{"cut in the IP header", packet4[:19], 44, -1, true},
		{"padding cut, packet whole", packet4, 60, 44, false},
		{"offload, whole", offload, 44, 44, false},
		{"offload, cut", offload, 9000, 44, true},
	}
	for _, tt := range tests {
		file := classic(le, 0xa1b2c3d4, int(Raw), words(le, 1, 0, len(tt.data), tt.wire, tt.data))
		frames, err := readAll(file)
		if err != nil || len(frames) != 1 {
			t.Fatalf("%s: %d frames, %v", tt.name, len(frames), err)
		}
		got := -1
		if frames[0].IP != nil {
			got = len(frames[0].IP)
		}
		if got != tt.wantIP || frames[0].Truncated != tt.truncated {
			t.Errorf("%s: %d bytes, truncated %v, want %d, %v", tt.name, got, frames[0].Truncated, tt.wantIP, tt.truncated)
		}
	}
}

// TestFormats: each format and byte order gives time and link type; time never
// runs backwards.
func TestFormats(t *testing.T) {
	at := func(sec, nanos int64) time.Time { return time.Unix(sec, nanos).UTC() }
	iface := func(order binary.AppendByteOrder, link uint16, options ...any) []byte {
		return block(order, ngInterface, append([]any{link, uint16(0), 0}, options...)...)
	}
	enhanced := func(order binary.AppendByteOrder, ifindex int, stamp uint64) []byte {
		return block(order, ngEnhanced, ifindex, int(stamp>>32), int(stamp&0xffffffff), 44, 44, packet4)
	}
	tests := []struct {
		name    string
		file    []byte
		times   []time.Time
		links   []LinkType
		clamped uint64
	}{
		{"pcap, microseconds", classic(le, 0xa1b2c3d4, 101, rec(le, 7, 5, packet4)), []time.Time{at(7, 5000)}, []LinkType{Raw}, 0},
		{"pcap, big-endian nanoseconds", classic(be, 0xa1b23c4d, 101, rec(be, 7, 5, packet4)), []time.Time{at(7, 5)}, []LinkType{Raw}, 0},
		{"pcap, frame check bits above the link type", classic(be, 0xa1b2c3d4, 0x54000065, rec(be, 7, 5, packet4)), []time.Time{at(7, 5000)}, []LinkType{Raw}, 0},
		{"pcap, a clock set back", classic(le, 0xa1b2c3d4, 101, rec(le, 7, 0, packet4), rec(le, 5, 0, packet4), rec(le, 8, 0, packet4)),
			[]time.Time{at(7, 0), at(7, 0), at(8, 0)}, []LinkType{Raw, Raw, Raw}, 1},
		{"pcap without packets", classic(le, 0xa1b2c3d4, 101), nil, nil, 0},
		{"pcapng, two link types, other blocks around", join(section(le), iface(le, 101), iface(le, 228), block(le, 4, 0),
			enhanced(le, 1, 7000005), enhanced(le, 0, 7000006), block(le, 5, 0, 0, 0)),
			[]time.Time{at(7, 5000), at(7, 6000)}, []LinkType{IPv4, Raw}, 0},
		{"pcapng, big-endian, nanoseconds, offset 100 s", join(section(be),
			iface(be, 101, uint16(9), uint16(1), []byte{9, 0, 0, 0}, uint16(14), uint16(8), 0, 100), enhanced(be, 0, 7000000005)),
			[]time.Time{at(107, 5)}, []LinkType{Raw}, 0},
		{"pcapng, 2^-32 seconds", join(section(le), iface(le, 101, uint16(9), uint16(1), []byte{0xa0, 0, 0, 0}), enhanced(le, 0, 3<<32|1<<31)),
			[]time.Time{at(3, 500000000)}, []LinkType{Raw}, 0},
		{"pcapng, the finest resolution", join(section(le), iface(le, 101, uint16(9), uint16(1), []byte{19, 0, 0, 0}), enhanced(le, 0, 15e18)),
			[]time.Time{at(1, 500000000)}, []LinkType{Raw}, 0},
		{"pcapng, simple packets have no time", join(section(le), iface(le, 101), enhanced(le, 0, 7000000), block(le, ngSimple, 44, packet4)),
			[]time.Time{at(7, 0), at(7, 0)}, []LinkType{Raw, Raw}, 0},
		{"pcapng, a simple packet cut by the interface's snapshot length", join(section(le), block(le, ngInterface, uint16(101), uint16(0), 44),
			block(le, ngSimple, 9000, packet4)), []time.Time{at(0, 0)}, []LinkType{Raw}, 0},
		{"pcapng, obsolete packet block", join(section(le), iface(le, 101), block(le, ngPacket, uint16(0), uint16(9), 0, 7000000, 44, 44, packet4)),
			[]time.Time{at(7, 0)}, []LinkType{Raw}, 0},
		{"pcapng, a second section in the other byte order", join(section(le), iface(le, 101), section(be), iface(be, 228), enhanced(be, 0, 1000000)),
			[]time.Time{at(1, 0)}, []LinkType{IPv4}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader("t", bytes.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			var times []time.Time
			var links []LinkType
			for {
				f, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(f.IP, packet4) {
					t.Errorf("packet %x", f.IP)
				}
				times, links = append(times, f.Time), append(links, f.Link)
			}
			if diff := cmp.Diff(tt.times, times); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.links, links); diff != "" {
				t.Error(diff)
			}
			if r.Clamped() != tt.clamped {
				t.Errorf("clamped %d, want %d", r.Clamped(), tt.clamped)
			}
		})
	}
}

// TestBroken: what is wrong with a file, and where.
func TestBroken(t *testing.T) {
	whole := classic(le, 0xa1b2c3d4, 101, rec(le, 7, 0, packet4), rec(le, 8, 0, packet4))
	ng := join(section(le), block(le, ngInterface, uint16(101), uint16(0), 0), block(le, ngEnhanced, 0, 0, 0, 44, 44, packet4))
	// The section is 28 bytes long, the interface 20: the packet begins at 48.
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "offset 0: shorter than a capture's header: unexpected EOF"},
		{"text", []byte("From: someone, to somebody else"), "offset 0: neither pcap nor pcapng: Unknown magic 6d6f7246"},
		{"gzip", []byte("\x1f\x8b\x08\x00\x00\x00"), "offset 0: compressed with gzip: decompress it first"},
		{"half a header", whole[:20], "offset 0: read pcap header: unexpected EOF"},
		{"version 3", join(whole[:4], []byte{3}, whole[5:]), "offset 0: neither pcap nor pcapng: Unknown major version 3"},
		{"half a record header", whole[:24+60+7], "offset 84: unexpected EOF"},
		{"a record header alone", whole[:24+60+16], "offset 84: unexpected EOF"},
		{"half a packet", whole[:24+60+20], "offset 84: unexpected EOF"},
		{"a record of 4 GiB", join(whole[:24], words(le, 0, 0, -1, -1)), "offset 24: capture length exceeds snap length: 4294967295 > 262144"},
		{"more captured than sent", join(whole[:24], words(le, 0, 0, 44, 43, packet4)), "offset 24: capture length exceeds original packet length: 44 > 43"},
		{"pcapng, half a section", ng[:20], "offset 0: unexpected EOF"},
		{"pcapng, no byte order", join(ng[:8], make([]byte, 20)), "offset 0: pcapng section without a byte order"},
		{"pcapng, version 2", block(le, ngSection, 0x1a2b3c4d, uint16(2), uint16(0), -1, -1), "offset 0: pcapng version 2, want 1"},
		{"pcapng, section without its length", block(le, ngSection, 0x1a2b3c4d, 0), "offset 0: pcapng section header cut short"},
		{"pcapng, half a block header", ng[:52], "offset 48: unexpected EOF"},
		{"pcapng, half a packet", ng[:90], "offset 48: unexpected EOF"},
		{"pcapng, no trailer", ng[:len(ng)-4], "offset 48: unexpected EOF"},
		{"pcapng, cut in a block that is skipped", join(ng[:48], block(le, 4, 0, 0)[:14]), "offset 48: unexpected EOF"},
		{"pcapng, odd length", join(ng[:48], words(le, ngEnhanced, 33)), "offset 48: pcapng block of 33 bytes"},
		{"pcapng, length below a block's", join(ng[:48], words(le, ngEnhanced, 8)), "offset 48: pcapng block of 8 bytes"},
		{"pcapng, a packet of 4 GiB", join(ng[:48], words(le, ngEnhanced, 0xfffffffc)), "offset 48: pcapng block of 4294967280 bytes, more than 393216"},
		{"pcapng, trailer differs", join(ng[:len(ng)-4], words(le, 80)), "offset 48: pcapng block of 76 bytes ends as one of 80"},
		{"pcapng, captured length above the block's", join(ng[:48], block(le, ngEnhanced, 0, 0, 0, 48, 48, packet4)), "offset 48: pcapng packet of 48 bytes in a block of 44"},
		{"pcapng, packet without interface", join(section(le), ng[48:]), "offset 28: pcapng packet of interface 0, of 0"},
		{"pcapng, simple packet without interface", join(section(le), block(le, ngSimple, 44, packet4)), "offset 28: pcapng simple packet block without length or interface"},
		{"pcapng, resolution beyond 64 bits", join(section(le), block(le, ngInterface, uint16(101), uint16(0), 0, uint16(9), uint16(1), []byte{20, 0, 0, 0})), "offset 28: pcapng timestamp resolution 0x14"},
		{"pcapng, binary resolution beyond 64 bits", join(section(le), block(le, ngInterface, uint16(101), uint16(0), 0, uint16(9), uint16(1), []byte{0xff, 0, 0, 0})), "offset 28: pcapng timestamp resolution 0xff"},
		{"pcapng, half an interface", join(section(le), block(le, ngInterface, 0)), "offset 28: pcapng interface description cut short"},
		{"pcapng, half a packet block", join(ng[:48], block(le, ngEnhanced, 0)), "offset 48: pcapng packet block cut short"},
		{"pcapng, too many interfaces", join(section(le), bytes.Repeat(ng[28:48], maxInterfaces+1)), "offset 81948: more than 4096 interfaces in a pcapng section"},
	}
	for _, tt := range tests {
		_, err := readAll(tt.file)
		if err == nil || err.Error() != "read capture t.pcap: "+tt.want {
			t.Errorf("%s:\n got %v\nwant read capture t.pcap: %s", tt.name, err, tt.want)
		}
	}
}

// TestOpen: the file's name is in the error.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.pcap")
	if _, err := Open(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("open: %v", err)
	}
}

// TestWriter: what is written reads back, prefix and link type included, also
// one of more than eight bits.
func TestWriter(t *testing.T) {
	from := Frame{Link: LinuxSLL2, Prefix: join([]byte{8, 0}, make([]byte, 18)), IP: packet4}
	edited := bytes.Clone(packet4)
	edited[8] = 63
	var b bytes.Buffer
	w := NewWriter(&b)
	at := time.Unix(7, 5).UTC()
	if err := w.Write(at, from, edited); err != nil {
		t.Fatal(err)
	}
	err := w.Write(at, Frame{Link: Raw}, packet4)
	if err == nil || err.Error() != "write capture: a packet of link type 101 in a file of link type 276; replay such captures one at a time" {
		t.Errorf("second link type: %v", err)
	}
	frames, err := readAll(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Frame{{Time: at, Link: LinuxSLL2, Prefix: from.Prefix, IP: edited}}, frames); diff != "" {
		t.Error(diff)
	}
}

// TestWriterEmpty: a capture without packets is still a capture.
func TestWriterEmpty(t *testing.T) {
	var b bytes.Buffer
	if err := NewWriter(&b).Finish(); err != nil {
		t.Fatal(err)
	}
	if frames, err := readAll(b.Bytes()); err != nil || len(frames) != 0 || b.Len() != 24 {
		t.Errorf("%d bytes, %d frames, %v", b.Len(), len(frames), err)
	}
}

// FuzzReader: no file makes the reader panic, take memory beyond its bounds,
// run back in time, or hand out a packet longer than its header says.
func FuzzReader(f *testing.F) {
	f.Add(classic(le, 0xa1b2c3d4, 1, rec(le, 7, 5, join(make([]byte, 12), []byte{8, 0}, packet4)), rec(le, 1, 5, packet6)))
	f.Add(classic(be, 0xa1b23c4d, 276, rec(be, 7, 5, join([]byte{0x86, 0xdd}, make([]byte, 18), packet6))))
	f.Add(join(section(be), block(be, ngInterface, uint16(113), uint16(0), 0, uint16(9), uint16(1), []byte{0x86, 0, 0, 0}),
		block(be, ngEnhanced, 0, 1, 2, 60, 60, join(make([]byte, 14), []byte{8, 0}, packet4)), block(be, ngSimple, 44, packet4)))
	f.Fuzz(func(t *testing.T, file []byte) {
		frames, err := readAll(file)
		if err != nil && !strings.HasPrefix(err.Error(), "read capture t.pcap: offset ") {
			t.Fatalf("error without its place: %v", err)
		}
		var last time.Time
		for _, fr := range frames {
			if fr.Time.Before(last) {
				t.Fatalf("%v after %v", fr.Time, last)
			}
			last = fr.Time
			if fr.IP != nil {
				if n, ok := ipLength(fr.IP, len(fr.IP)); (!ok || n != len(fr.IP)) && !fr.Truncated {
					t.Fatalf("packet of %d bytes, header says %d", len(fr.IP), n)
				}
				ParseTCP(fr.IP)
			}
		}
	})
}
