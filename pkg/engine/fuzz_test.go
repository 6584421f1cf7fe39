package engine

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// fuzzText is what the segments of FuzzSegments carry: a piece of it.
const fuzzText = "220 mail2\r\nEHLO a\r\n250-a\r\n250 STARTTLS\r\nMAIL FROM:<a<b>\r\nDATA\r\n354 go\r\nA: b\r\n\r\n.\r\nXFOO\r\n\n.\r\n250 ok\r\nRCPT TO:<|>\r\n"

// FuzzSegments gives the engine any list of segments of one connection. Each op
// is four bytes: flags and direction, distance of the sequence number from what
// was sent so far, offset and length in fuzzText.
func FuzzSegments(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 0, 11, 8, 0x80, 0, 19, 22, 0x00, 0, 41, 17})
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 5, 11, 8, 0x00, 0, 11, 8, 0x00, 251, 11, 8, 0x21, 0, 0, 0})
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 0, 58, 6, 0x00, 0, 87, 10, 0x80, 0, 64, 8, 0x04, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := newFuzzed(t, Options{Limits: Limits{HeldPerFlow: 4}})
		w.handshake()
		for ; len(ops) >= 4; ops = ops[4:] {
			dir := flow.Dir(ops[0] >> 7)
			s := w.at(dir, w.sent[dir]+int(int8(ops[1])), "")
			s.flags.SYN, s.flags.FIN, s.flags.RST = ops[0]&2 != 0, ops[0]&1 != 0, ops[0]&4 != 0
			s.flags.URG, s.flags.ACK = ops[0]&8 != 0, ops[0]&16 == 0
			from := int(ops[2]) % len(fuzzText)
			s.payload = fuzzText[from:min(len(fuzzText), from+int(ops[3])%64)]
			if ops[1] == 0 && s.flags.ACK {
				w.sent[dir] += len(s.payload)
			}
			w.packetOf(dir, w.packet(dir, s))
			if ops[0]&32 != 0 {
				w.tick(3 * time.Second)
			}
		}
		w.check()
	})
}

// fuzzTalk is the session whose packets FuzzProcess changes.
const fuzzTalk = `S: 220 mail2
C: EHLO a
S: 250-a
S: 250-CHUNKING
S: 250 PIPELINING
C: MAIL FROM:<a<b>
S: 250 ok
C: RCPT TO:<c@d>
S: 250 ok
C: DATA
S: 354 go
C: A: b
C:
C: text and more of it
C: ..stuffed
C: the last line
C: .
S: 250 ok
C: XFOO bar
S: 500 no
C: MAIL FROM:<>
S: 250 ok
C: RCPT TO:<c@d>
S: 250 ok
C: BDAT 30
C: any octets, for example
C: .
S: 250 ok
C: BDAT 0 LAST
S: 250 ok
C: QUIT
S: 221 bye`

// fuzzPackets are the packets of fuzzTalk, without the handshake.
func fuzzPackets(t testing.TB) (dirs []flow.Dir, packets [][]byte) {
	w := newWire(t, Options{})
	for _, line := range bytes.Split([]byte(fuzzTalk), []byte("\n")) {
		dir := side(string(line))
		text := ""
		if len(line) > 3 {
			text = string(line[3:])
		}
		s := w.at(dir, w.sent[dir], text+"\r\n")
		s.flags.Options = []layers.TCPOption{
			{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{0, 0, 1, byte(len(packets)), 0, 0, 0, 0}}}
		w.sent[dir] += len(s.payload)
		dirs, packets = append(dirs, dir), append(packets, w.packet(dir, s))
	}
	return dirs, packets
}

// FuzzProcess gives the engine the packets of a whole session, changed: each op
// is four bytes, which packet, what is done, and two arguments. Packets that no
// op names pass as they are, in order, between the ops.
func FuzzProcess(f *testing.F) {
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{10, 0, 0, 0, 10, 4, 13, 20, 12, 3, 20, 5, 15, 2, 8, 0})
	f.Add(uint8(2), []byte{11, 2, 13, 0, 12, 4, 40, 'X', 14, 5, 2, 9, 20, 6, 4, 0, 31, 1, 3, 0})
	f.Add(uint8(3), []byte{3, 7, 9, 30, 5, 8, 6, 0, 9, 3, 250, 255, 13, 0, 13, 1, 25, 2, 28, 0})
	dirs, packets := fuzzPackets(f)
	modern := policy.Default().Map("modern_esmtp_map")
	f.Fuzz(func(t *testing.T, how uint8, ops []byte) {
		opt := Options{TCP: policy.DefaultTCPMap()}
		if how&1 != 0 {
			opt.Map = modern
		}
		if how&2 != 0 {
			opt.Limits = Limits{HeldPerFlow: 3, LedgerPerFlow: 300, Ledger: 2048}
		}
		opt.TCP.CheckRetransmission = how&4 != 0
		w := newFuzzed(t, opt)
		w.handshake()
		w.sent = [2]int{1000, 1000} // what an acknowledgement may name
		next := 0
		for ; len(ops) >= 4; ops = ops[4:] {
			i := int(ops[0]) % len(packets)
			for ; next < i; next++ {
				w.packetOf(dirs[next], bytes.Clone(packets[next]))
			}
			w.mutate(dirs, packets, i, ops[1], ops[2], ops[3])
			if ops[1]&0x80 != 0 {
				next = max(next, i+1) // the packet itself is lost
			}
		}
		for ; next < len(packets); next++ {
			w.packetOf(dirs[next], bytes.Clone(packets[next]))
		}
		w.check()
	})
}

// mutate sends a changed copy of packet i.
func (w *fuzzed) mutate(dirs []flow.Dir, packets [][]byte, i int, what, a, b byte) {
	p, dir := bytes.Clone(packets[i]), dirs[i]
	header := 20 + int(p[32]>>4)*4
	fix := true
	switch what & 0x0f {
	case 0: // as it is: too early, or again
	case 1:
		w.tick(time.Duration(a) * 100 * time.Millisecond)
		return
	case 2: // with the text of another
		other := packets[int(a)%len(packets)]
		copy(p[header:], other[header:])
	case 3: // moved
		binary.BigEndian.PutUint32(p[24:], binary.BigEndian.Uint32(p[24:])+uint32(int32(int8(a))*int32(b%16+1)))
	case 4: // an octet
		p[header+int(a)%(len(p)-header)] = b
	case 5: // flags
		p[33] ^= 1 << (a % 8)
		p[32] |= b & 0x0f
	case 6: // cut
		p = p[:max(header, len(p)-int(a))]
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	case 7: // the acknowledgement, the window
		binary.BigEndian.PutUint32(p[28:], binary.BigEndian.Uint32(p[28:])+uint32(int32(int8(a))*int32(b)))
		p[34] = b
	case 8: // grown by the next one of its side
		for j := i + 1; j < len(packets); j++ {
			if dirs[j] == dir {
				p = append(p, packets[j][header:]...)
				binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
				break
			}
		}
	case 9: // an older or newer timestamp
		p[44], p[45] = a, b
	case 10: // any octet of the headers, and a wrong checksum
		p[int(a)%header] = b
		fix = false
	}
	if fix {
		wire.SetTCPChecksum(p, 20)
	}
	w.packetOf(dir, p)
}

// fuzzed is a wireTest that knows what has passed.
type fuzzed struct {
	*wireTest
	forwarded [2]map[uint32]byte
}

func newFuzzed(t *testing.T, opt Options) *fuzzed {
	return &fuzzed{newWire(t, opt), [2]map[uint32]byte{{}, {}}}
}

// packetOf gives the engine a packet. Every packet gets exactly one decision and
// keeps its length, accepted ones have a right checksum, and an octet that was
// forwarded once never passes with another value.
func (w *fuzzed) packetOf(dir flow.Dir, data []byte) {
	w.id++
	w.now += time.Millisecond
	w.wait[w.id] = dir
	n := len(data)
	ds := w.e.Process(&Packet{ID: w.id, Time: w.now, Data: data, Checksum: ChecksumUnverified})
	for _, d := range ds {
		if d.ID == w.id && len(d.Data) != n {
			w.t.Fatalf("a packet of %d octets has now %d", n, len(d.Data))
		}
		if d.Verdict == Accept && d.Mark&MarkReset == 0 && w.e.counters.Sessions == 1 {
			w.remember(w.wait[d.ID], d.Data)
		}
	}
	w.take(ds, w.id)
}

// remember notes what an accepted packet says.
func (w *fuzzed) remember(dir flow.Dir, data []byte) {
	tcp := data[20:]
	if tcp[tcpFlags]&(flagRST|2) != 0 {
		return // no stream octets
	}
	seq := be32(tcp[tcpSeq:])
	for i, c := range tcp[int(tcp[12]>>4)*4:] {
		at := seq + uint32(i)
		old, ok := w.forwarded[dir][at]
		if !ok {
			w.forwarded[dir][at] = c
		} else if old != c && w.e.acked(w.wireTest, dir).LessEq(wire.Seq(at)) {
			w.t.Fatalf("octet %d of direction %d passed as %q and as %q", at, dir, old, c)
		}
	}
}

// check plays what the receivers have got once more, packet by packet as it
// became readable: a fresh engine must find nothing to change in it and nothing
// to end.
func (w *fuzzed) check() {
	w.t.Helper()
	w.done()
	if w.e.counters.Sessions != 1 || w.e.counters.Undecided > 0 {
		return
	}
	opt := w.e.opt
	opt.Limits = Limits{}
	clean := connect(w.t, opt)
	for i, g := range w.growth {
		got := len(clean.got[g.dir].bytes)
		d := clean.send(g.dir, g.text)
		if d == nil || d.Verdict != Accept || d.Edited && string(clean.got[g.dir].bytes[got:]) != g.text {
			w.t.Fatalf("piece %d of direction %d was delivered and would not have been judged so: %q, decision %+v, events %v", i, g.dir, g.text, d, clean.log())
		}
	}
}

// acked is what the receiver of dir has acknowledged: octets before it may come
// as they like.
func (e *Engine) acked(w *wireTest, dir flow.Dir) wire.Seq {
	en := e.table.Lookup(flow.KeyOf(w.addr[0], w.addr[1]))
	if en == nil {
		return 0
	}
	return en.Value.tcb.Acked(dir)
}
