package nfq

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// kernel is an nfnetlink_queue in memory: it gives the messages of script one
// by one and keeps the verdicts.
type kernel struct {
	sync.Mutex
	script   []func() ([]netlink.Message, error)
	verdicts []string
	done     chan struct{} // closed when the script is at its end
}

// answer is a nltest.Func.
func (k *kernel) answer(req []netlink.Message) ([]netlink.Message, error) {
	if len(req) == 1 && req[0].Header.Flags&netlink.Acknowledge != 0 {
		return nltest.Error(0, req)
	}
	k.Lock()
	defer k.Unlock()
	for _, m := range req {
		k.verdicts = append(k.verdicts, showVerdict(m))
	}
	if len(req) > 0 {
		return nil, nil
	}
	if len(k.script) == 0 {
		select {
		case <-k.done:
		default:
			close(k.done)
		}
		return nil, io.EOF
	}
	next := k.script[0]
	k.script = k.script[1:]
	return next()
}

// showVerdict writes a verdict message as "ID VERDICT [mark] [payload]".
func showVerdict(m netlink.Message) string {
	attrs, err := netlink.UnmarshalAttributes(m.Data[4:])
	if err != nil {
		return err.Error()
	}
	var s string
	for _, a := range attrs {
		switch a.Type {
		case 2: // NFQA_VERDICT_HDR
			s += string(rune('0'+a.Data[7])) + " " + []string{"drop", "accept"}[a.Data[3]]
		case 3: // NFQA_MARK
			s += " mark " + string(rune('0'+a.Data[3]))
		case 10: // NFQA_PAYLOAD
			s += " " + string(a.Data)
		}
	}
	return s
}

// message is a packet message of the given attributes.
func message(attrs ...netlink.Attribute) func() ([]netlink.Message, error) {
	return func() ([]netlink.Message, error) {
		data := append([]byte{syscall.AF_INET, 0, 0, 0}, nltest.MustMarshalAttributes(attrs)...)
		return []netlink.Message{{Header: netlink.Header{Type: 3 << 8}, Data: data}}, nil
	}
}

// id, payload, capLen and mark are attributes of a packet message.
func id(n byte) netlink.Attribute {
	return netlink.Attribute{Type: 1, Data: []byte{0, 0, 0, n, 8, 0, 2}}
}
func payload(s string) netlink.Attribute { return netlink.Attribute{Type: 10, Data: []byte(s)} }
func word(typ uint16, v uint32) netlink.Attribute {
	return netlink.Attribute{Type: typ, Data: binary.BigEndian.AppendUint32(nil, v)}
}
func capLen(n uint32) netlink.Attribute { return word(13, n) }
func mark(n uint32) netlink.Attribute   { return word(3, n) }

// garbage is a packet message that go-nfqueue cannot parse: a short header.
func garbage() ([]netlink.Message, error) {
	return message(netlink.Attribute{Type: 1, Data: []byte{0, 0, 0}})()
}

// fails is a receive error.
func fails(err error) func() ([]netlink.Message, error) {
	return func() ([]netlink.Message, error) { return nil, err }
}

// TestReader runs a Queue on a kernel in memory: each packet gets a verdict,
// from the callback (which accepts) or, unreadable, from the Queue itself.
func TestReader(t *testing.T) {
	type script = []func() ([]netlink.Message, error)
	tests := []struct {
		name     string
		failOpen bool
		script   script
		verdicts []string
		count    Counters
	}{
		{
			name:     "packets",
			script:   script{message(id(1), payload("a")), message(id(2), payload("b"), capLen(1))},
			verdicts: []string{"1 accept", "2 accept"},
			count:    Counters{Packets: 2},
		},
		{
			name:     "a message that cannot be parsed",
			script:   script{message(id(1), payload("a")), garbage, message(id(3), payload("c"))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "the same, fail-open",
			failOpen: true,
			script:   script{message(id(1), payload("a")), garbage, message(id(3), payload("c"))},
			verdicts: []string{"1 accept", "2 accept", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "no id",
			script:   script{message(id(1), payload("a")), message(payload("x")), message(id(3), payload("c"))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1},
		},
		{
			name:     "no payload",
			script:   script{message(id(1)), message(id(2), payload("b"))},
			verdicts: []string{"1 drop", "2 accept"},
			count:    Counters{Packets: 1, Unreadable: 1},
		},
		{
			name:     "cut short by the kernel, even fail-open",
			failOpen: true,
			script:   script{message(id(1), payload("a"), capLen(2)), message(id(2), payload("b"))},
			verdicts: []string{"1 drop", "2 accept"},
			count:    Counters{Packets: 1, Truncated: 1},
		},
		{
			name:     "packets taken by the start-up filter",
			script:   script{message(id(3), payload("c"))},
			verdicts: []string{"1 drop", "2 drop", "3 accept"},
			count:    Counters{Packets: 1, Unreadable: 2},
		},
		{
			name:     "packets lost by the kernel want no verdict",
			script:   script{message(id(1), payload("a")), message(id(4), payload("d"))},
			verdicts: []string{"1 accept", "4 accept"},
			count:    Counters{Packets: 2, Lost: 2},
		},
		{
			name: "refused verdicts do not stop the reader",
			script: script{
				refusal(syscall.ENOENT), refusal(syscall.EPERM), refusal(syscall.ENOMEM), refusal(syscall.ENOENT),
				message(id(1), payload("a")),
			},
			verdicts: []string{"1 accept"},
			count:    Counters{Packets: 1, RefusedUnknown: 2, RefusedForeign: 1, RefusedOthers: 1},
		},
		{
			name:     "receive errors may hide a packet",
			script:   script{message(id(1), payload("a")), fails(errors.New("message truncated")), message(id(3), payload("c"))},
			verdicts: []string{"1 accept", "2 drop", "3 accept"},
			count:    Counters{Packets: 2, Unreadable: 1, ReceiveErrors: 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{script: tt.script, done: make(chan struct{})}
			q := inMemory(t, k, Options{FailOpen: tt.failOpen}.withDefaults())
			ctx, stop := context.WithCancel(context.Background())
			go func() { <-k.done; stop() }()
			err := q.Run(ctx, func(p engine.Packet) {
				if err := q.Verdict(engine.Decision{ID: p.ID, Data: p.Data}); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.verdicts, k.verdicts); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.count, q.Counters()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// refusal is the kernel's answer to a verdict.
func refusal(e syscall.Errno) func() ([]netlink.Message, error) {
	return func() ([]netlink.Message, error) {
		return nltest.Error(int(e), []netlink.Message{{Header: netlink.Header{Length: 16}}})
	}
}

// inMemory is a Queue whose socket is k.
func inMemory(t *testing.T, k *kernel, opt Options) *Queue {
	t.Helper()
	q := newQueue(opt)
	nf, err := nfqueue.Open(opt.library(reader{q}))
	if err != nil {
		t.Fatal(err)
	}
	if err := nf.Con.Close(); err != nil {
		t.Fatal(err)
	}
	nf.Con = nltest.Dial(k.answer)
	q.nf = nf
	if err := q.register(); err != nil {
		t.Fatal(err)
	}
	return q
}

// TestVerdict looks at the messages that Decisions become.
func TestVerdict(t *testing.T) {
	tests := []struct {
		name   string
		packet func() ([]netlink.Message, error)
		give   engine.Decision
		want   string
	}{
		{"accept", message(id(1), payload("a")), engine.Decision{}, "1 accept"},
		{"drop", message(id(1), payload("a")), engine.Decision{Verdict: engine.Drop, Edited: true, Mark: engine.MarkReset}, "1 drop"},
		{"edited", message(id(1), payload("a")), engine.Decision{Edited: true, Data: []byte("b")}, "1 accept b"},
		{"not edited: bytes stay in the kernel", message(id(1), payload("a")), engine.Decision{Data: []byte("b")}, "1 accept"},
		{"mark", message(id(1), payload("a")), engine.Decision{Mark: engine.MarkReset}, "1 accept mark 2"},
		{"mark beside another's", message(id(1), payload("a"), mark(4)), engine.Decision{Mark: engine.MarkOffload}, "1 accept mark 5"},
		{"no mark asked: another's stays in the kernel", message(id(1), payload("a"), mark(4)), engine.Decision{}, "1 accept"},
		{"mark and edit", message(id(1), payload("a")), engine.Decision{Mark: engine.MarkReset, Edited: true, Data: []byte("RST")}, "1 accept mark 2 RST"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &kernel{script: []func() ([]netlink.Message, error){tt.packet}, done: make(chan struct{})}
			q := inMemory(t, k, Options{Marks: Marks{Offload: 1, Reset: 2}}.withDefaults())
			ctx, stop := context.WithCancel(context.Background())
			go func() { <-k.done; stop() }()
			err := q.Run(ctx, func(p engine.Packet) {
				tt.give.ID = p.ID
				if err := q.Verdict(tt.give); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.want}, k.verdicts); diff != "" {
				t.Error(diff)
			}
			if n := len(q.marks.byID); n != 0 {
				t.Errorf("%d marks remembered after the verdict", n)
			}
		})
	}
}

// TestBrokenSocket checks that a socket that only fails ends Run with an error.
func TestBrokenSocket(t *testing.T) {
	for _, err := range []error{os.NewSyscallError("recvmsg", syscall.EBADF), errors.New("worn out")} {
		k := &kernel{done: make(chan struct{})}
		for range maxFailures {
			k.script = append(k.script, fails(err))
		}
		q := inMemory(t, k, Options{Number: 5}.withDefaults())
		if got := q.Run(context.Background(), nil); !errors.Is(got, errStopped) {
			t.Errorf("%v: Run returned %v", err, got)
		}
	}
}
