package engine

import (
	"encoding/binary"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// crowd is many clients of one server with an engine between them. It keeps
// nothing of a client, so that the memory that grows is the engine's: a client's
// address, port and sequence numbers are made of its number.
type crowd struct {
	t      testing.TB
	e      *Engine
	now    time.Duration
	frames map[crowdStep][]byte // packets of client 0; a packet of another one is made in place
	packet Packet
}

// crowdStep is a segment that every client, or the server to every client,
// sends at the same place of its conversation.
type crowdStep struct {
	dir      flow.Dir
	syn, rst bool
	at, ack  int // octets of payload sent before by the sender, and by the other one
	text     string
}

// newCrowd returns a crowd around e.
func newCrowd(t testing.TB, e *Engine) *crowd {
	return &crowd{t: t, e: e, now: e.now, frames: map[crowdStep][]byte{}}
}

// crowdISN is the initial sequence number of direction d of a client's
// connection.
func crowdISN(client int, d flow.Dir) uint32 {
	return uint32(client)*2654435761 + uint32(d)<<30
}

// send gives the engine the step of a client.
func (c *crowd) send(client int, s crowdStep) Decision {
	frame := c.frames[s]
	if frame == nil {
		frame = c.build(s)
		c.frames[s] = frame
	}
	addr, port := 12, 20 // of the source, in an IPv4 packet
	if s.dir == flow.Reply {
		addr, port = 16, 22
	}
	binary.BigEndian.PutUint32(frame[addr:], 10<<24|uint32(client)/4)
	binary.BigEndian.PutUint16(frame[port:], uint16(1024+client%4))
	seq, ack := crowdISN(client, s.dir)+uint32(s.at), crowdISN(client, s.dir.Other())+uint32(s.ack)+1
	if !s.syn {
		seq++
	}
	putSeq(frame, seq, ack)
	c.packet = Packet{ID: 1, Time: c.now, Checksum: ChecksumGood, Data: frame}
	ds := c.e.Process(&c.packet)
	if len(ds) != 1 {
		c.t.Fatalf("client %d, %+v: %d decisions", client, s, len(ds))
	}
	c.e.TakeEvents()
	return ds[0]
}

// build makes the packet of a step.
func (c *crowd) build(s crowdStep) []byte {
	w := wireOn(c.t, c.e)
	flags := layers.TCP{SYN: s.syn, RST: s.rst, ACK: !s.syn || s.dir == flow.Reply, PSH: s.text != ""}
	return w.packet(s.dir, segment{flags: flags, payload: s.text})
}

// pass sends the step of a client, which must be accepted, edited as told, with a
// right checksum.
func (c *crowd) pass(client int, s crowdStep, want string) {
	c.t.Helper()
	original := s.text
	d := c.send(client, s)
	got := string(d.Data[len(d.Data)-len(s.text):])
	if d.Verdict != Accept || d.Mark != MarkNone || got != want || !wire.TCPChecksumOK(d.Data, 20) {
		c.t.Fatalf("client %d, %+v: verdict %d (%v), mark %d, text %q; want it accepted with %q", client, s, d.Verdict, d.Reason, d.Mark, got, want)
	}
	copy(d.Data[len(d.Data)-len(original):], original) // the frame is used again
}

// tick lets packet time pass.
func (c *crowd) tick(d time.Duration) {
	c.now += d
	if ds := c.e.Tick(c.now); len(ds) > 0 {
		c.t.Fatalf("%d decisions of time", len(ds))
	}
	c.e.TakeEvents()
}

// The steps of a conversation that many clients have.
const (
	crowdGreeting = "220 mail.example.net ESMTP Postfix (Debian/GNU)\r\n"
	crowdEHLO     = "EHLO client.example.org\r\n"
	crowdReply    = "250-mail.example.net\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-STARTTLS\r\n" +
		"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"
)

var (
	crowdSYN    = crowdStep{dir: flow.Original, syn: true}
	crowdSYNACK = crowdStep{dir: flow.Reply, syn: true}
)

// masked is what the default map makes of a text of the conversation: the
// greeting keeps its code, and the extensions that it does not know become X.
func (c *crowd) masked(text string) string {
	switch text {
	case crowdGreeting:
		return "220 *******************************************\r\n"
	case crowdReply:
		return strings.NewReplacer("STARTTLS", "XXXXXXXA", "SMTPUTF8", "XXXXXXXB", "CHUNKING", "XXXXXXXC").Replace(text)
	}
	return text
}

// memory is what the process uses, in octets.
type memory struct {
	heap     int64 // live objects
	resident int64 // pages that the kernel has given, after idle ones were returned
}

// measure collects garbage first.
func measure(t testing.TB) memory {
	t.Helper()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatalf("read VmRSS: %v", err)
	}
	return memory{int64(m.HeapAlloc), kib << 10}
}
