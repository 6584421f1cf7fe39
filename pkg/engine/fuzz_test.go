package engine

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/wire"
)

// fuzzText is what the fuzzer's segments carry: a piece of it.
const fuzzText = "220 mail2\r\nEHLO a\r\n250-a\r\n250 STARTTLS\r\nMAIL FROM:<a<b>\r\nDATA\r\n354 go\r\nA: b\r\n\r\n.\r\nXFOO\r\n\n.\r\n250 ok\r\nRCPT TO:<|>\r\n"

// FuzzProcess gives the engine any list of segments of one connection. Each op
// is four bytes: flags and direction, distance of the sequence number from what
// was sent so far, offset and length in fuzzText. Every packet gets exactly one
// decision and keeps its length, accepted ones have a right checksum, and an
// octet that was forwarded once never passes with another value.
func FuzzProcess(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 0, 11, 8, 0x80, 0, 19, 22, 0x00, 0, 41, 17})
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 5, 11, 8, 0x00, 0, 11, 8, 0x00, 251, 11, 8, 0x21, 0, 0, 0})
	f.Add([]byte{0x80, 0, 0, 11, 0x00, 0, 58, 6, 0x00, 0, 87, 10, 0x80, 0, 64, 8, 0x04, 0, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		w := connect(t, Options{Limits: Limits{HeldPerFlow: 4}})
		forwarded := [2]map[uint32]byte{{}, {}}
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
			fuzzPacket(t, w, dir, s, forwarded)
			if ops[0]&32 != 0 {
				w.tick(3 * time.Second)
			}
		}
		w.done()
	})
}

func fuzzPacket(t *testing.T, w *wireTest, dir flow.Dir, s segment, forwarded [2]map[uint32]byte) {
	w.id++
	w.now += time.Millisecond
	w.wait[w.id] = dir
	data := w.packet(dir, s)
	ds := w.e.Process(&Packet{ID: w.id, Time: w.now, Data: data})
	sessions := w.e.counters.Sessions
	for _, d := range ds {
		if d.Verdict != Accept || d.Mark&MarkReset != 0 {
			continue
		}
		dir := w.wait[d.ID]
		tcp := d.Data[20:]
		if tcp[tcpFlags]&(flagRST|2) != 0 || sessions > 1 { // no stream octets; another connection
			continue
		}
		seq := binary.BigEndian.Uint32(tcp[tcpSeq:])
		for i, c := range tcp[20:] {
			at := seq + uint32(i)
			if old, ok := forwarded[dir][at]; ok && old != c && wire.Seq(w.e.acked(w, dir)).LessEq(wire.Seq(at)) {
				t.Fatalf("octet %d of direction %d passed as %q and as %q", at, dir, old, c)
			}
			if _, ok := forwarded[dir][at]; !ok {
				forwarded[dir][at] = c
			}
		}
	}
	w.take(ds, w.id)
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
