package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// conns are all connections that e lists, slice by slice.
func conns(e *Engine) (all []ConnInfo) {
	for at := uint64(0); ; {
		at = e.Conns(at, func(c *ConnInfo) { all = append(all, *c) })
		if at == 0 {
			return all
		}
	}
}

// facts writes down how far a connection is: c and s are what its client and its
// server did.
func facts(c ConnInfo) string {
	words := []string{fmt.Sprintf("%d bytes", c.Bytes)}
	add := func(yes bool, word string) {
		if yes {
			words = append(words, word)
		}
	}
	add(c.Answered, "answered")
	add(c.Up, "up")
	for dir, who := range []string{"c", "s"} {
		add(c.Data[dir], who+" data")
		add(c.FIN[dir], who+" FIN")
		add(c.FINAcked[dir], who+" FIN acked")
	}
	add(c.Offloaded, "offloaded")
	return strings.Join(words, ", ")
}

// TestConnsFollow lists a connection after each step of its life.
func TestConnsFollow(t *testing.T) {
	syn := func(w *wireTest) { w.raw(flow.Original, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]}) }
	synAck := func(w *wireTest) {
		w.raw(flow.Reply, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1})
	}
	says := func(line string) func(*wireTest) { return func(w *wireTest) { w.talk(line) } }
	fin := func(dir flow.Dir) func(*wireTest) { return func(w *wireTest) { w.fin(dir) } }
	rst := func(w *wireTest) {
		s := w.at(flow.Reply, w.sent[flow.Reply], "")
		s.flags = layers.TCP{RST: true, ACK: true}
		w.raw(flow.Reply, s)
	}
	tls := &policy.Map{AllowTLS: true}
	const clientHello, serverHello = "\x16\x03\x01\x02\x00\x01hello", "\x16\x03\x03\x00\x7a\x02hello"
	type step struct {
		name string
		do   func(*wireTest)
		want string // "" is not listed
	}
	for _, tt := range []struct {
		name  string
		opt   Options
		steps []step
	}{
		{"a session", Options{}, []step{
			{"SYN", syn, "0 bytes"},
			{"SYN-ACK", synAck, "0 bytes, answered"},
			{"bare ACK", func(w *wireTest) { w.ack(flow.Reply) }, "0 bytes, answered"},
			{"greeting", says("S: 220 hi"), "8 bytes, answered, up, s data"},
			{"QUIT", says("C: QUIT"), "14 bytes, answered, up, c data, s data"},
			{"221", says("S: 221 bye"), "23 bytes, answered, up, c data, s data"},
			{"the server's FIN", fin(flow.Reply), "23 bytes, answered, up, c data, s data, s FIN"},
			{"its ACK", func(w *wireTest) { w.ack(flow.Reply) }, "23 bytes, answered, up, c data, s data, s FIN, s FIN acked"},
			{"the client's FIN", fin(flow.Original), ""},
		}},
		{"the client closes first", Options{}, []step{
			{"handshake", func(w *wireTest) { w.handshake() }, "0 bytes, answered"},
			{"FIN", fin(flow.Original), "0 bytes, answered, up, c FIN"},
			{"its ACK", func(w *wireTest) { w.ack(flow.Original) }, "0 bytes, answered, up, c FIN, c FIN acked"},
		}},
		{"reset", Options{}, []step{
			{"handshake", func(w *wireTest) { w.handshake() }, "0 bytes, answered"},
			{"RST", rst, ""},
		}},
		{"ended by the inspection", Options{}, []step{
			{"handshake", func(w *wireTest) { w.handshake() }, "0 bytes, answered"},
			{"greeting", says("S: 220 hi"), "8 bytes, answered, up, s data"},
			{"a pipe", says("C: MAIL FROM:<|a>"), ""},
		}},
		{"ended while a reply is owed", Options{}, []step{
			{"handshake", func(w *wireTest) { w.handshake() }, "0 bytes, answered"},
			{"greeting", says("S: 220 hi"), "8 bytes, answered, up, s data"},
			{"NOOP", says("C: NOOP"), "14 bytes, answered, up, c data, s data"},
			{"a pipe", says("C: MAIL FROM:<|a>"), ""},
			{"the reply, after which nothing is owed", func(w *wireTest) {
				s := w.at(flow.Reply, w.sent[flow.Reply], "250 ok\r\n")
				s.ack = w.isn[0] + 1 + uint32(len("NOOP\r\n")) // the server did not get more
				if d := w.raw(flow.Reply, s); d == nil || d.Verdict != Accept {
					w.t.Errorf("the reply that was owed: %+v", d)
				}
			}, ""},
		}},
		{"encrypted", Options{Map: tls}, []step{
			{"handshake", func(w *wireTest) { w.handshake() }, "0 bytes, answered"},
			{"greeting", says("S: 220 hi"), "8 bytes, answered, up, s data"},
			{"STARTTLS", says("C: STARTTLS"), "18 bytes, answered, up, c data, s data"},
			{"220", says("S: 220 go"), "26 bytes, answered, up, c data, s data"},
			{"ClientHello", func(w *wireTest) { w.send(flow.Original, clientHello) }, "37 bytes, answered, up, c data, s data"},
			{"ServerHello", func(w *wireTest) { w.send(flow.Reply, serverHello) }, "48 bytes, answered, up, c data, s data, offloaded"},
			{"more", func(w *wireTest) { w.send(flow.Original, "secret") }, "48 bytes, answered, up, c data, s data, offloaded"},
			{"the server's FIN", fin(flow.Reply), "48 bytes, answered, up, c data, s data, s FIN, offloaded"},
		}},
		{"begun by a synproxy", Options{Synproxy: anyServer}, []step{
			{"SYN-ACK", synAck, "0 bytes, answered"},
		}},
		{"nobody answers", Options{}, []step{
			{"SYN", syn, "0 bytes"},
			{"30 s", func(w *wireTest) { w.tick(30 * time.Second) }, ""},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWire(t, tt.opt)
			for _, step := range tt.steps {
				step.do(w)
				var got string
				all := conns(w.e)
				for _, c := range all {
					got += facts(c)
				}
				if got != step.want {
					t.Errorf("%s: listed %q, want %q", step.name, got, step.want)
				}
				if n := w.e.Open(); n != len(all) {
					t.Errorf("%s: %d connections are open, %d listed", step.name, n, len(all))
				}
			}
		})
	}
}

// TestConnsNames says which connection is meant, since when it is and when it was
// last heard of.
func TestConnsNames(t *testing.T) {
	w := newWire(t, Options{FirstConn: 7})
	w.now = 10 * time.Second // a packet comes a millisecond later
	packet := func(dir flow.Dir, s segment, in, out uint32) {
		w.id++
		w.now += time.Millisecond
		w.e.Process(&Packet{ID: w.id, Time: w.now, In: in, Out: out, Data: w.packet(dir, s)})
	}
	packet(flow.Original, segment{flags: layers.TCP{SYN: true}, seq: w.isn[0]}, 2, 3)
	if got := conns(w.e)[0].Heard; got != 10*time.Second+time.Millisecond {
		t.Errorf("behind its SYN: heard of at %v", got)
	}
	w.now = 12 * time.Second
	packet(flow.Reply, segment{flags: layers.TCP{SYN: true, ACK: true}, seq: w.isn[1], ack: w.isn[0] + 1}, 3, 2)
	w.now = 15 * time.Second
	packet(flow.Reply, w.at(flow.Reply, 0, "220 hi\r\n"), 2, 3) // the client plays the server: nobody hears it
	want := ConnInfo{
		Conn:    Conn{ID: 7, Client: Endpoint{w.addr[0], 2}, Server: Endpoint{w.addr[1], 3}},
		Started: 10*time.Second + time.Millisecond, Heard: 12*time.Second + time.Millisecond, Answered: true,
	}
	if got := conns(w.e); len(got) != 1 || got[0] != want {
		t.Errorf("listed %+v, want %+v", got, want)
	}
	packet(flow.Reply, w.at(flow.Reply, 0, "220 hi\r\n"), 3, 2)
	if got := conns(w.e)[0].Heard; got != 15*time.Second+2*time.Millisecond {
		t.Errorf("heard of at %v", got)
	}
}

// TestConnsSlices lists many connections, each once, some at a time.
func TestConnsSlices(t *testing.T) {
	const n = 10000 // in 16384 buckets
	c := newCrowd(t, New(Options{}))
	for i := range n {
		c.pass(i, crowdSYN, "")
	}
	var ids []uint64
	slicesOf := 0
	for at := uint64(0); ; {
		before := len(ids)
		at = c.e.Conns(at, func(c *ConnInfo) { ids = append(ids, c.ID) })
		slicesOf++
		if got := len(ids) - before; got > 2*listSlice {
			t.Errorf("%d connections in a slice", got)
		}
		if at == 0 {
			break
		}
	}
	if slicesOf != 16384/listSlice {
		t.Errorf("%d slices, want %d", slicesOf, 16384/listSlice)
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != n || len(ids) != n || c.e.Open() != n {
		t.Errorf("%d connections listed, %d open, want %d", len(ids), c.e.Open(), n)
	}
}

// BenchmarkConns is how long a packet may have to wait for a slice of 100,000
// connections.
func BenchmarkConns(b *testing.B) {
	c := newCrowd(b, New(Options{}))
	for i := range 100000 {
		c.pass(i, crowdSYN, "")
	}
	at := uint64(0)
	list := make([]ConnInfo, 0, 2*listSlice)
	for b.Loop() {
		list = list[:0]
		at = c.e.Conns(at, func(c *ConnInfo) { list = append(list, *c) })
	}
}
