package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/nlmsg"
)

// kernel is an nfnetlink_queue in memory: the other end of a Queue's socket.
type kernel struct{ fd int }

// inMemory is a Queue whose socket is the kernel returned.
func inMemory(t *testing.T, opt Options) (*Queue, kernel) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "queue")
	t.Cleanup(func() { f.Close(); unix.Close(fds[1]) })
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	q := newQueue(opt)
	q.socket = newSocket(raw)
	return q, kernel{fds[1]}
}

// verdicts reads what the Queue has sent.
func (k kernel) verdicts(t *testing.T) (list []string) {
	t.Helper()
	buf := make([]byte, bufferLen)
	for {
		n, err := unix.Read(k.fd, buf)
		if err == unix.EAGAIN {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, showVerdict(t, buf[:n]))
	}
}

// showVerdict writes a verdict message as "ID VERDICT [mark] [payload]".
func showVerdict(t *testing.T, b []byte) string {
	t.Helper()
	m, rest, ok := nlmsg.Next(b)
	if !ok || len(rest) > 0 || m.Type != typeVerdict || binary.BigEndian.Uint16(m.Body[2:]) != 5 {
		t.Fatalf("no verdict for queue 5: %x", b)
	}
	s := ""
	for b := m.Attrs(); len(b) > 0; {
		kind, value, rest, ok := nlmsg.NextAttr(b)
		if !ok {
			t.Fatalf("no attribute: %x", b)
		}
		switch kind {
		case attrVerdictHeader:
			s += fmt.Sprint(word(value[4:]), " ", []string{"drop", "accept"}[word(value)])
		case attrMark:
			s += fmt.Sprint(" mark ", word(value))
		case attrPayload:
			s += " " + string(value)
		}
		b = rest
	}
	return s
}

// datagram is a packet message with the given attributes.
func datagram(attrs ...[]byte) []byte {
	return netlinkMessage(typePacket, append([]byte{unix.AF_INET, 0, 0, 5}, join(attrs)...))
}

func netlinkMessage(kind uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(nlmsg.HeaderLen+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return append(append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), body...)
}

func join(attrs [][]byte) (b []byte) {
	for _, a := range attrs {
		b = append(b, a...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// id, payload, capLen and mark are attributes of a packet message.
func id(n byte) []byte        { return attribute(attrPacketHeader, []byte{0, 0, 0, n, 8, 0, 2}) }
func payload(s string) []byte { return attribute(attrPayload, []byte(s)) }
func capLen(n uint32) []byte  { return attribute(attrCapLen, binary.BigEndian.AppendUint32(nil, n)) }
func mark(n uint32) []byte    { return attribute(attrMark, binary.BigEndian.AppendUint32(nil, n)) }
func attribute(kind uint16, value []byte) []byte {
	return append(appendAttr(nil, kind, len(value)), value...)
}

// step is something that the socket gives.
type step func(reader)

func gives(b []byte) step  { return func(r reader) { r.datagram(b) } }
func fails(err error) step { return func(r reader) { r.failure(err) } }
func refusal(e syscall.Errno) step {
	return gives(netlinkMessage(nlmsg.Error, binary.NativeEndian.AppendUint32(nil, uint32(-int32(e)))))
}

// garbage is a packet message without an id that can be read.
var garbage = gives(datagram(attribute(attrPacketHeader, []byte{0, 0, 0})))

// TestReader runs a Queue on a kernel in memory: each packet gets a verdict,
// from the callback (which accepts) or, unreadable, from the Queue itself.
func TestReader(t *testing.T) {
	tests := []struct {
		name     string
		failOpen bool
		script   []step
		verdicts []string
		count    Counters
	}{
		{
			name:     "packets",
			script:   []step{gives(datagram(id(1), payload("a"))), gives(datagram(id(2), payload("b"), capLen(1)))},
			verdicts: []string{"1 accept", "2 accept"},
			count:    Counters{Packets: 2},
		},
		{
			name:     "a message that cannot be parsed",
			script:   []step{gives(datagram(id(1), payload("a"))), garbage, gives(datagram(id(3), payload("c")))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "the same, fail-open",
			failOpen: true,
			script:   []step{gives(datagram(id(1), payload("a"))), garbage, gives(datagram(id(3), payload("c")))},
			verdicts: []string{"1 accept", "2 accept", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "no id",
			script:   []step{gives(datagram(id(1), payload("a"))), gives(datagram(payload("x"))), gives(datagram(id(3), payload("c")))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "no payload",
			script:   []step{gives(datagram(id(1))), gives(datagram(id(2), payload("b")))},
			verdicts: []string{"1 drop", "2 accept"},
			count:    Counters{Packets: 1, Unreadable: 1},
		},
		{
			name:     "cut short by the kernel, even fail-open",
			failOpen: true,
			script:   []step{gives(datagram(id(1), payload("a"), capLen(2))), gives(datagram(id(2), payload("b")))},
			verdicts: []string{"1 drop", "2 accept"},
			count:    Counters{Packets: 1, Truncated: 1},
		},
		{
			name:     "packets taken by the start-up filter",
			script:   []step{gives(datagram(id(3), payload("c")))},
			verdicts: []string{"1 drop", "2 drop", "3 accept"},
			count:    Counters{Packets: 1, Unreadable: 2},
		},
		{
			name:     "packets lost by the kernel want no verdict",
			script:   []step{gives(datagram(id(1), payload("a"))), gives(datagram(id(4), payload("d")))},
			verdicts: []string{"1 accept", "4 accept"},
			count:    Counters{Packets: 2, Lost: 2},
		},
		{
			name: "refused verdicts do not stop the reader",
			script: []step{
				refusal(syscall.ENOENT), refusal(syscall.EPERM), refusal(syscall.ENOMEM), refusal(syscall.ENOENT),
				gives(datagram(id(1), payload("a"))),
			},
			verdicts: []string{"1 accept"},
			count:    Counters{Packets: 1, RefusedUnknown: 2, RefusedForeign: 1, RefusedOthers: 1},
		},
		{
			name:     "receive errors may hide a packet",
			script:   []step{gives(datagram(id(1), payload("a"))), fails(errors.New("message truncated")), gives(datagram(id(3), payload("c")))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1, ReceiveErrors: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, k := inMemory(t, Options{Number: 5, FailOpen: tt.failOpen}.withDefaults())
			q.handle = func(p engine.Packet) {
				if err := q.Verdict(engine.Decision{ID: p.ID, Data: p.Data}); err != nil {
					t.Error(err)
				}
			}
			for _, s := range tt.script {
				s(reader{q})
			}
			if diff := cmp.Diff(tt.verdicts, k.verdicts(t)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.count, q.Counters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestVerdict looks at the messages that Decisions become.
func TestVerdict(t *testing.T) {
	tests := []struct {
		name   string
		packet []byte
		give   engine.Decision
		want   string
	}{
		{"accept", datagram(id(1), payload("a")), engine.Decision{}, "1 accept"},
		{"drop", datagram(id(1), payload("a")), engine.Decision{Verdict: engine.Drop, Edited: true, Mark: engine.MarkReset}, "1 drop"},
		{"edited", datagram(id(1), payload("a")), engine.Decision{Edited: true, Data: []byte("b")}, "1 accept b"},
		{"not edited: bytes stay in the kernel", datagram(id(1), payload("a")), engine.Decision{Data: []byte("b")}, "1 accept"},
		{"mark", datagram(id(1), payload("a")), engine.Decision{Mark: engine.MarkReset}, "1 accept mark 2"},
		{"mark beside another's", datagram(id(1), payload("a"), mark(4)), engine.Decision{Mark: engine.MarkOffload}, "1 accept mark 5"},
		{"no mark asked: another's stays in the kernel", datagram(id(1), payload("a"), mark(4)), engine.Decision{}, "1 accept"},
		{"mark and edit", datagram(id(1), payload("a")), engine.Decision{Mark: engine.MarkReset, Edited: true, Data: []byte("RST")}, "1 accept mark 2 RST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q, k := inMemory(t, Options{Number: 5, Marks: Marks{Offload: 1, Reset: 2}}.withDefaults())
			q.handle = func(p engine.Packet) {
				tt.give.ID = p.ID
				if err := q.Verdict(tt.give); err != nil {
					t.Error(err)
				}
			}
			reader{q}.datagram(tt.packet)
			if diff := cmp.Diff([]string{tt.want}, k.verdicts(t)); diff != "" {
				t.Error(diff)
			}
			if n := len(q.marks.byID); n != 0 {
				t.Errorf("%d marks remembered after the verdict", n)
			}
		})
	}
}

// TestPacketInfo: what the kernel's flags become, from the reader's own parser and
// from go-nfqueue's, which gives the first packet.
func TestPacketInfo(t *testing.T) {
	tests := []struct {
		name     string
		flags    []byte // the value of NFQA_SKB_INFO; nil: absent
		checksum engine.Checksum
		merged   bool
	}{
		{"no flag, no attribute: verified", nil, engine.ChecksumGood, false},
		{"no flag", []byte{0, 0, 0, 0}, engine.ChecksumGood, false},
		{"not ready", []byte{0, 0, 0, 1}, engine.ChecksumPartial, false},
		{"GSO", []byte{0, 0, 0, 2}, engine.ChecksumGood, true},
		{"GSO, not ready", []byte{0, 0, 0, 3}, engine.ChecksumPartial, true},
		{"not verified", []byte{0, 0, 0, 4}, engine.ChecksumUnverified, false},
		{"GSO, not verified", []byte{0, 0, 0, 6}, engine.ChecksumUnverified, true},
		{"a flag that is not known yet", []byte{0, 0, 0, 8}, engine.ChecksumGood, false},
		{"the other byte order", []byte{7, 0, 0, 0}, engine.ChecksumGood, false},
	}
	for _, tt := range tests {
		data, first, second := []byte("a"), uint32(1), byte(2)
		want := []engine.Packet{
			{ID: 1, Checksum: tt.checksum, Merged: tt.merged, Data: data},
			{ID: 2, Checksum: tt.checksum, Merged: tt.merged, Data: data},
		}
		a, attrs := nfqueue.Attribute{PacketID: &first, Payload: &data}, [][]byte{id(second), payload("a")}
		if tt.flags != nil {
			a.SkbInfo, attrs = &tt.flags, append(attrs, attribute(attrInfo, tt.flags))
		}
		q, k := inMemory(t, Options{Number: 5}.withDefaults())
		var got []engine.Packet
		q.handle = func(p engine.Packet) {
			if got = append(got, p); len(got) == len(want) {
				close(q.closed) // the reader ends with what it reads next
			}
		}
		close(q.running)
		for _, b := range [][]byte{datagram(attrs...), datagram(id(3))} {
			if _, err := unix.Write(k.fd, b); err != nil {
				t.Fatal(err)
			}
		}
		reader{q}.first(a)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
	}
}

// A socket that only fails ends the reader with an error.
func TestBrokenSocket(t *testing.T) {
	for _, c := range []struct {
		err   error
		times int
	}{{os.NewSyscallError("read", syscall.EBADF), 1}, {errors.New("worn out"), maxFailures}} {
		q, _ := inMemory(t, Options{Number: 5}.withDefaults())
		for i := range c.times {
			if end := (reader{q}).failure(c.err); end != (i == c.times-1) {
				t.Fatalf("%v: failure %d ends the reader: %v", c.err, i, end)
			}
		}
		if err := <-q.failed; !errors.Is(err, errStopped) || !errors.Is(err, c.err) {
			t.Errorf("the reader ended with %v", err)
		}
	}
}

// The loop hands on what the socket gives and allocates nothing but the packet's
// own bytes.
func TestLoop(t *testing.T) {
	q, k := inMemory(t, Options{Number: 5}.withDefaults())
	got := make(chan string)
	q.handle = func(p engine.Packet) { got <- string(p.Data) }
	ended := make(chan struct{})
	go func() { defer close(ended); reader{q}.loop() }()
	for i, want := range []string{"a", strings.Repeat("b", 65531), "odd"} {
		if _, err := unix.Write(k.fd, datagram(id(byte(i+1)), payload(want))); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != want {
			t.Fatalf("got %d bytes, want %d", len(s), len(want))
		}
	}
	close(q.closed)
	if _, err := unix.Write(k.fd, datagram(id(9), payload("late"))); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestVerdictDoesNotAllocate(t *testing.T) {
	q, k := inMemory(t, Options{Number: 5}.withDefaults())
	d := engine.Decision{ID: 1, Edited: true, Mark: engine.MarkOffload, Data: []byte("packet")}
	buf := make([]byte, 200)
	if n := testing.AllocsPerRun(100, func() {
		if err := q.Verdict(d); err != nil {
			t.Fatal(err)
		}
		unix.Read(k.fd, buf)
	}); n != 0 {
		t.Errorf("%v allocations a verdict", n)
	}
}

// What is no message or attribute must neither be read beyond its end nor keep
// the loop from going on.
func FuzzDatagram(f *testing.F) {
	f.Add(datagram(id(1), mark(7), payload("abc"), capLen(3)))
	f.Add(datagram(id(1), attribute(attrInfo, []byte{0, 0, 0, 3}), payload("abc")))
	f.Add(netlinkMessage(nlmsg.Error, []byte{1, 2, 3, 4}))
	f.Add(datagram(attribute(attrPayload, nil))[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, ok := nlmsg.Next(b)
			if !ok {
				return
			}
			if len(rest) >= len(b) {
				t.Fatal("no progress")
			}
			if p := parsePacket(m.Attrs()); len(p.payload) > len(m.Body) {
				t.Fatal("payload is longer than its message")
			}
			b = rest
		}
	})
}
