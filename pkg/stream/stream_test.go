package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// The ledger against a map from sequence number to octet.
func TestLedgerAgainstOracle(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pool := NewPool(1 << 20)
		start := wire.Seq(rnd.Uint32())
		if seed%2 == 0 {
			start = wire.Seq(0).Add(-rnd.IntN(5000)) // wraps
		}
		var l Ledger
		l.Start(start)
		base, end := start, start
		kept := map[wire.Seq]byte{}
		for range 300 {
			switch rnd.IntN(3) {
			case 0:
				b := randomBytes(rnd, rnd.IntN(700))
				if !l.Reserve(pool, len(b), 4096) {
					if l.Len()+len(b) <= 4096 {
						t.Fatal("no room below the bounds")
					}
					continue
				}
				l.Append(b)
				for _, c := range b {
					kept[end] = c
					end = end.Add(1)
				}
			case 1:
				to := base.Add(rnd.IntN(900) - 100)
				l.Release(pool, to)
				for base.Less(to) && base.Less(end) {
					delete(kept, base)
					base = base.Add(1)
				}
			case 2:
				seq := base.Add(rnd.IntN(5000) - 500)
				b := randomBytes(rnd, rnd.IntN(900))
				want := bytes.Clone(b)
				for i := range want {
					if c, ok := kept[seq.Add(i)]; ok {
						want[i] = c
					}
				}
				original := bytes.Clone(b)
				if changed := l.Overwrite(seq, b); !bytes.Equal(b, want) || changed != !bytes.Equal(original, want) {
					t.Fatalf("seed %d: overwritten wrongly (changed %v)", seed, changed)
				}
			}
			if l.Len() != len(kept) || l.Base() != base {
				t.Fatalf("seed %d: %d octets from %d, want %d from %d", seed, l.Len(), l.Base(), len(kept), base)
			}
		}
		l.Drop(pool)
		if pool.Used() != 0 || l.Len() != 0 {
			t.Fatalf("%d octets of the pool are lost", pool.Used())
		}
	}
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

func TestPoolIsBounded(t *testing.T) {
	pool := NewPool(1024)
	var a, b Ledger
	if !a.Reserve(pool, 512, 4096) || !b.Reserve(pool, 512, 4096) || b.Reserve(pool, 513, 4096) {
		t.Error("the pool's bound does not hold")
	}
	a.Append(make([]byte, 512))
	a.Drop(pool)
	if pool.Used() != 512 {
		t.Errorf("%d octets in use, want 512", pool.Used())
	}
}

func TestHoldSortsBySequence(t *testing.T) {
	var h Hold[string]
	for _, s := range []struct {
		seq  wire.Seq
		name string
	}{{5, "d"}, {0xffffffff, "a"}, {3, "b"}, {3, "c"}} {
		h.Add(s.seq, s.name)
	}
	h.TakeIf(func(s string) bool { return s == "b" })
	got := ""
	for {
		first, ok := h.First()
		if !ok {
			break
		}
		name := first.Packet
		if name != h.TakeFirst() {
			t.Fatal("First and TakeFirst disagree")
		}
		got += name
	}
	if got != "acd" || h.Len() != 0 {
		t.Errorf("taken %q, %d left", got, h.Len())
	}
}

func TestAssembler(t *testing.T) {
	a := NewAssembler()
	net := gopacket.NewFlow(layers.EndpointIPv4, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2})
	var got []byte
	sink := func(b []byte) { got = append(got, b...); b[0] = '!' }
	feed := func(seq uint32, syn bool, payload string) []byte {
		buf := gopacket.NewSerializeBuffer()
		tcp := layers.TCP{SrcPort: 1000, DstPort: 25, Seq: seq, SYN: syn, ACK: !syn, DataOffset: 5}
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{}, &tcp, gopacket.Payload(payload)); err != nil {
			t.Fatal(err)
		}
		var in layers.TCP
		if err := in.DecodeFromBytes(buf.Bytes(), gopacket.NilDecodeFeedback); err != nil {
			t.Fatal(err)
		}
		a.Feed(net, &in, sink)
		return in.Payload
	}
	feed(0xfffffffe, true, "")
	if p := feed(0xffffffff, false, "abc"); p[0] != '!' {
		t.Error("the sink did not get the packet's own bytes")
	}
	feed(2, false, "def")
	if string(got) != "abcdef" {
		t.Errorf("got %q", got)
	}
	// The same addresses again: without Close, nothing of the new connection came.
	a.Close(net, 1000, 25)
	feed(500, true, "")
	feed(501, false, "ghi")
	if string(got) != "abcdefghi" {
		t.Errorf("got %q", got)
	}
}
