package wire

import (
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

func TestSeq(t *testing.T) {
	for _, c := range []struct {
		s, t         Seq
		less, lessEq bool
		sub          int
	}{
		{1, 2, true, true, -1},
		{2, 2, false, true, 0},
		{3, 2, false, false, 1},
		{0xffffffff, 0, true, true, -1}, // the wrap is one octet wide
		{0, 0xffffffff, false, false, 1},
		{0xfffffff0, 0x10, true, true, -32},
		{0, 0x7fffffff, true, true, -0x7fffffff},
	} {
		if c.s.Less(c.t) != c.less || c.s.LessEq(c.t) != c.lessEq || c.s.Sub(c.t) != c.sub {
			t.Errorf("%#x, %#x: less %v, lessEq %v, sub %d; want %v, %v, %d", c.s, c.t,
				c.s.Less(c.t), c.s.LessEq(c.t), c.s.Sub(c.t), c.less, c.lessEq, c.sub)
		}
		if got := c.t.Add(c.sub); got != c.s {
			t.Errorf("%#x.Add(%d) = %#x, want %#x", c.t, c.sub, got, c.s)
		}
	}
}

// naiveSum is RFC 1071 section 4.1 word for word.
func naiveSum(data []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(data); i += 2 {
		s += uint32(data[i])<<8 | uint32(data[i+1])
		s = s>>16 + s&0xffff
	}
	if len(data)%2 == 1 {
		s += uint32(data[len(data)-1]) << 8
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func TestSumEqualsNaive(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, 300)
	for i := range buf {
		buf[i] = byte(rnd.Uint32() | 0x80)
	}
	for off := range 8 {
		for n := range 290 {
			data := buf[off : off+n]
			got, want := Fold(Sum(data, 0)), naiveSum(data)
			if got%0xffff != want%0xffff { // 0 and ffff are the same number
				t.Fatalf("offset %d, %d octets: %#x, want %#x", off, n, got, want)
			}
		}
	}
	ones := make([]byte, 65531)
	for i := range ones {
		ones[i] = 0xff
	}
	if got := Fold(Sum(ones, ^uint64(0))); got%0xffff != naiveSum(ones)%0xffff {
		t.Errorf("all ones: %#x", got)
	}
}

func TestSetTCPChecksum(t *testing.T) {
	pkt, err := hex.DecodeString("4500002800010000400600000a0901020a090202" + "303900190000000100000002501820000000" + "0000")
	if err != nil {
		t.Fatal(err)
	}
	// By hand: pseudo header 0a09+0102+0a09+0202+0006+0014 = 172c+..., see the sum below.
	words := []uint32{0x0a09, 0x0102, 0x0a09, 0x0202, 6, 20, 0x3039, 0x0019, 0, 1, 0, 2, 0x5018, 0x2000}
	var sum uint32
	for _, w := range words {
		sum += w
	}
	want := ^uint16(sum>>16 + sum&0xffff)
	pkt[36], pkt[37] = 0xde, 0xad // what stood there must not matter
	SetTCPChecksum(pkt, 20)
	if got := uint16(pkt[36])<<8 | uint16(pkt[37]); got != want {
		t.Errorf("checksum %#x, want %#x", got, want)
	}
	if !TCPChecksumOK(pkt, 20) {
		t.Error("a checksum just set is not right")
	}
	pkt[39]++
	if TCPChecksumOK(pkt, 20) {
		t.Error("a changed packet has a right checksum")
	}
}

func BenchmarkSum(b *testing.B) {
	buf := make([]byte, 65000)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		Sum(buf, 0)
	}
}
