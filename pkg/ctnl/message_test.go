package ctnl

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/bpf"

	"github.com/smtpwall/smtpwall/pkg/nlmsg"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// compareEvents compares events in full.
var compareEvents = cmp.Options{
	cmp.AllowUnexported(event{}),
	cmp.Transformer("address", netip.AddrPort.String),
}

// octets are those of a text in hexadecimal; spaces and lines are for the reader.
func octets(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// message is a netlink message on a little-endian machine.
func message(kind uint16, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(nlmsg.HeaderLen+len(body)))
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 10)...) // flags, sequence, port
	return append(b, body...)
}

// The parts of entries, as a little-endian kernel sends them. An attribute is its
// length, its kind (0x8000: nested) and its value, filled up to four octets.
const (
	family4 = "02 00 0000"
	family6 = "0a 00 0000"

	// 203.0.113.5:4000 > 1.1.1.1:25
	original4 = `3400 0180
		1400 0180  0800 0100 cb007105  0800 0200 01010101
		1c00 0280  0500 0100 06 000000  0600 0200 0fa0 0000  0600 0300 0019 0000`
	// 192.168.1.1:2525 > 203.0.113.5:4000
	reply4 = `3400 0280
		1400 0180  0800 0100 c0a80101  0800 0200 cb007105
		1c00 0280  0500 0100 06 000000  0600 0200 09dd 0000  0600 0300 0fa0 0000`
	// [2001:db8::5]:4000 > [2001:db8::1]:25
	original6 = `4c00 0180
		2c00 0180  1400 0300 20010db8000000000000000000000005  1400 0400 20010db8000000000000000000000001
		1c00 0280  0500 0100 06 000000  0600 0200 0fa0 0000  0600 0300 0019 0000`
	// [2001:db8::1]:25 > [2001:db8::5]:4000
	reply6 = `4c00 0280
		2c00 0180  1400 0300 20010db8000000000000000000000001  1400 0400 20010db8000000000000000000000005
		1c00 0280  0500 0100 06 000000  0600 0200 0019 0000  0600 0300 0fa0 0000`
	// 203.0.113.5:4000 > 1.1.1.1:53
	originalUDP = `3400 0180
		1400 0180  0800 0100 cb007105  0800 0200 01010101
		1c00 0280  0500 0100 11 000000  0600 0200 0fa0 0000  0600 0300 0035 0000`

	id          = "0800 0c00 0102 0304"
	status      = "0800 0300 0000 0188"
	synSent     = "3000 0480  2c00 0180  0500 0100 01 000000  0500 0200 07 000000  0500 0300 00 000000  0600 0400 0300 0000  0600 0500 0000 0000"
	established = "1000 0480  0c00 0180  0500 0100 03 000000"
	mark        = "0800 0800 0000 0001"
)

// event4 and event6 are what messages of these parts say.
func event4(s static.State, gone bool) event {
	c := named("203.0.113.5:4000", "192.168.1.1:2525")
	return event{static.Entry{Conn: static.Conn(c), Original: netip.MustParseAddrPort("1.1.1.1:25"), ID: 0x01020304, State: s}, gone}
}

func event6(s static.State) event {
	c := named("[2001:db8::5]:4000", "[2001:db8::1]:25")
	return event{static.Entry{Conn: static.Conn(c), Original: c.Server, ID: 0x01020304, State: s}, false}
}

func TestAppendEvents(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Fatal("the messages of this test are of a little-endian machine")
	}
	entry := func(parts ...string) []byte { return octets(t, strings.Join(parts, " ")) }
	tests := []struct {
		name     string
		datagram []byte
		want     []event
		err      error
	}{
		{"new", message(typeNew, entry(family4, original4, reply4, id, status, synSent)), []event{event4(static.SYNSent, false)}, nil},
		{"its order is not fixed", message(typeNew, entry(family4, id, established, mark, reply4, original4)), []event{event4(static.Established, false)}, nil},
		{"IPv6", message(typeNew, entry(family6, original6, reply6, id, status, established)), []event{event6(static.Established)}, nil},
		{"only the mark has changed", message(typeNew, entry(family4, original4, reply4, id, status, mark)), []event{event4(0, false)}, nil},
		{"destroyed", message(typeDelete, entry(family4, original4, reply4, id, status)), []event{event4(0, true)}, nil},
		{"not TCP", message(typeNew, entry(family4, originalUDP)), nil, nil},
		{
			"several, as in a dump",
			append(message(typeNew, entry(family4, original4, reply4, id, established)), message(typeNew, entry(family6, original6, reply6, id, synSent))...),
			[]event{event4(static.Established, false), event6(static.SYNSent)}, nil,
		},
		{"the end of a dump", append(message(typeNew, entry(family4, original4, reply4, id)), message(nlmsg.Done, entry("00000000"))...), []event{event4(0, false)}, errDone},
		{"a dump that failed", message(nlmsg.Done, entry("f4ffffff")), nil, syscall.ENOMEM},
		{"a refusal", message(nlmsg.Error, entry("ffffffff")), nil, syscall.EPERM},

		{"a cut header", message(typeNew, nil)[:15], nil, errUnreadable},
		{"a length beyond the datagram", message(typeNew, entry(family4, original4, reply4))[:60], nil, errUnreadable},
		{"a length within the header", octets(t, "0f000000 0001 0000 00000000 00000000"), nil, errUnreadable},
		{"a good one before a bad one", append(message(typeNew, entry(family4, original4, reply4, id)), 1, 2, 3), []event{event4(0, false)}, errUnreadable},
		{"no attributes", message(typeNew, nil), nil, errUnreadable},
		{"no reply tuple", message(typeNew, entry(family4, original4, id)), nil, errUnreadable},
		{"an original tuple without a destination", message(typeNew, entry(family4, "2400 0180 0c00 0180 0800 0100 cb007105 1400 0280 0500 0100 06 000000 0600 0200 0fa0 0000", reply4)), nil, errUnreadable},
		{"a reply tuple without ports", message(typeNew, entry(family4, original4, "1800 0280 1400 0180 0800 0100 c0a80101 0800 0200 cb007105")), nil, errUnreadable},
		{"a reply tuple without addresses", message(typeNew, entry(family4, original4, "1400 0280 1000 0280 0500 0100 06 000000 0600 0200 09dd 0000")), nil, errUnreadable},
		{"an attribute longer than the message", message(typeNew, entry(family4, "ff00 0180")), nil, errUnreadable},
		{"an attribute shorter than its head", message(typeNew, entry(family4, "0300 0180", original4)), nil, errUnreadable},
		{"another kind", message(0x0105, entry(family4, original4, reply4)), nil, errUnreadable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := appendEvents(nil, tt.datagram)
			if diff := cmp.Diff(tt.want, got, compareEvents); diff != "" {
				t.Error(diff)
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}

// TestOnlyTCP runs the socket filter.
func TestOnlyTCP(t *testing.T) {
	vm, err := bpf.NewVM(onlyTCP())
	if err != nil {
		t.Fatal(err)
	}
	udp6 := strings.Replace(original6, "0100 06", "0100 11", 1)
	tests := []struct {
		name   string
		parts  string
		passes bool
	}{
		{"TCP", family4 + original4 + reply4, true},
		{"TCP, IPv6", family6 + original6 + reply6, true},
		{"UDP", family4 + originalUDP + reply4, false},
		{"UDP, IPv6", family6 + udp6 + reply6, false},
		{"in another order: left to the parser", family4 + id + originalUDP + reply4, true},
	}
	for _, tt := range tests {
		n, err := vm.Run(message(typeNew, octets(t, tt.parts)))
		if err != nil || n != 0 != tt.passes {
			t.Errorf("%s: %d octets pass, %v; want it to pass: %v", tt.name, n, err, tt.passes)
		}
	}
}

// FuzzAppendEvents: what a message says is a TCP connection whole, or an error.
func FuzzAppendEvents(f *testing.F) {
	for _, parts := range []string{family4 + original4 + reply4 + id + status + synSent, family6 + original6 + reply6 + id + established, family4 + originalUDP} {
		f.Add(message(typeNew, octets(f, parts)))
		f.Add(append(message(typeDelete, octets(f, parts)), message(nlmsg.Done, make([]byte, 4))...))
	}
	f.Fuzz(func(t *testing.T, datagram []byte) {
		events, _ := appendEvents(nil, datagram)
		if len(events) > len(datagram)/nlmsg.HeaderLen {
			t.Errorf("%d events in %d octets", len(events), len(datagram))
		}
		for _, e := range events {
			if !e.Client.IsValid() || !e.Original.IsValid() || !e.Server.IsValid() {
				t.Errorf("event %+v", e)
			}
		}
	})
}

// TestAppendEventsAllocates nothing but room for the events.
func TestAppendEventsAllocates(t *testing.T) {
	b := message(typeNew, octets(t, family6+original6+reply6+id+status+synSent))
	room := make([]event, 0, 1)
	if n := testing.AllocsPerRun(100, func() { appendEvents(room, b) }); n != 0 {
		t.Errorf("%v allocations an event", n)
	}
}

func BenchmarkAppendEvents(b *testing.B) {
	datagram := message(typeNew, octets(b, family4+original4+reply4+id+status+synSent))
	room := make([]event, 0, 1)
	for b.Loop() {
		if _, err := appendEvents(room, datagram); err != nil {
			b.Fatal(err)
		}
	}
}
