package stream

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// The ledger against a map from sequence number to octet: pieces in any order,
// with gaps, acknowledged in between.
func TestLedgerAgainstOracle(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		start := wire.Seq(rnd.Uint32())
		if seed%2 == 0 {
			start = wire.Seq(0).Add(-rnd.IntN(5000)) // wraps
		}
		o := &ledgerOracle{t: t, rnd: rnd, pool: NewPool(1 << 20), base: start, kept: map[wire.Seq]byte{}}
		o.l.Start(start)
		for range 200 {
			switch rnd.IntN(4) {
			case 0:
				o.put(o.end(), rnd.IntN(700))
			case 1:
				o.put(o.base.Add(rnd.IntN(3000)), rnd.IntN(200))
			case 2:
				o.release(o.base.Add(rnd.IntN(900) - 100))
			case 3:
				o.overwrite(o.base.Add(rnd.IntN(5000)-500), rnd.IntN(900))
			}
			o.compare()
		}
		o.l.Drop(o.pool)
		if o.pool.Used() != 0 || o.l.Len() != 0 || o.l.Last() != o.l.Base() {
			t.Fatalf("%d octets of the pool are lost", o.pool.Used())
		}
	}
}

// ledgerOracle is what a ledger should keep.
type ledgerOracle struct {
	t    *testing.T
	rnd  *rand.Rand
	pool *Pool
	l    Ledger
	base wire.Seq
	kept map[wire.Seq]byte
}

// end is the first octet from the base on that is not kept.
func (o *ledgerOracle) end() wire.Seq { return o.reach(o.base) }

func (o *ledgerOracle) reach(seq wire.Seq) wire.Seq {
	for {
		if _, ok := o.kept[seq]; !ok {
			return seq
		}
		seq = seq.Add(1)
	}
}

// put keeps n octets from seq on, as the engine does it.
func (o *ledgerOracle) put(seq wire.Seq, n int) {
	b := randomBytes(o.rnd, n)
	o.l.Overwrite(seq, b)
	if !o.l.Reserve(o.pool, seq, n, 4096) {
		if seq.Add(n).Sub(o.base) <= 4096 && len(o.l.spans()) < maxEarly {
			o.t.Fatal("no room below the bounds")
		}
		return
	}
	o.l.Put(seq, b)
	for i, c := range b {
		o.kept[seq.Add(i)] = c
	}
}

func (o *ledgerOracle) release(to wire.Seq) {
	o.l.Release(o.pool, to)
	for end := o.end(); o.base.Less(to) && o.base.Less(end); o.base = o.base.Add(1) {
		delete(o.kept, o.base)
	}
}

func (o *ledgerOracle) overwrite(seq wire.Seq, n int) {
	b := randomBytes(o.rnd, n)
	want := bytes.Clone(b)
	for i := range want {
		if c, ok := o.kept[seq.Add(i)]; ok {
			want[i] = c
		}
	}
	original := bytes.Clone(b)
	if changed, _ := o.l.Overwrite(seq, b); !bytes.Equal(b, want) || changed != !bytes.Equal(original, want) {
		o.t.Fatalf("overwritten wrongly (changed %v)", changed)
	}
}

func (o *ledgerOracle) compare() {
	last, n := o.base, 0
	for seq := range o.kept {
		n++
		if last.Less(seq.Add(1)) {
			last = seq.Add(1)
		}
	}
	if got := (span{o.l.Base(), o.l.Last()}); got != (span{o.base, last}) || o.l.Len() != o.end().Sub(o.base) {
		o.t.Fatalf("keeps %v, %d without a gap; want %v, %d", got, o.l.Len(), span{o.base, last}, o.end().Sub(o.base))
	}
	for range 5 {
		seq := o.base.Add(o.rnd.IntN(4096))
		want := o.reach(seq)
		if got := o.l.Reach(seq); got != want {
			o.t.Fatalf("reaches %d from %d, want %d", got, seq, want)
		}
		b := make([]byte, want.Sub(seq))
		o.l.Copy(seq, b)
		for i, c := range b {
			if c != o.kept[seq.Add(i)] {
				o.t.Fatal("copied wrongly")
			}
		}
	}
	for i, s := range o.l.spans() {
		if !s.from.Less(s.to) || i > 0 && !o.l.spans()[i-1].to.Less(s.from) {
			o.t.Fatalf("spans %v", o.l.spans())
		}
	}
}

// What a mask has written is no conflict; anything else that differs is.
func TestLedgerConflict(t *testing.T) {
	for _, c := range []struct {
		kept, sent        string
		changed, conflict bool
	}{
		{"NOOP\r\n", "NOOP\r\n", false, false},
		{"XXXX\r\n", "EXPN\r\n", true, false},
		{"250-XXXXXXXA\r\n", "250-STARTTLS\r\n", true, false},
		{"220 ****2***\r\n", "220 mail2.ab\r\n", true, false},
		{"RCPT TO:<a  b>", "RCPT TO:<a\x01<b>", true, false},
		{"NOOP\r\n", "DATA\r\n", true, true},
		{"XXXX\r\n", "EXPN\n\n", true, true},
	} {
		pool := NewPool(1024)
		var l Ledger
		l.Start(100)
		l.Reserve(pool, 100, len(c.kept), 1024)
		l.Put(100, []byte(c.kept))
		b := []byte(c.sent)
		changed, conflict := l.Overwrite(100, b)
		if changed != c.changed || conflict != c.conflict || string(b) != c.kept {
			t.Errorf("%q sent again as %q: changed %v, conflict %v, passes as %q", c.kept, c.sent, changed, conflict, b)
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
	if !a.Reserve(pool, 0, 512, 4096) || !b.Reserve(pool, 0, 512, 4096) || b.Reserve(pool, 0, 513, 4096) {
		t.Error("the pool's bound does not hold")
	}
	a.Put(0, make([]byte, 512))
	a.Drop(pool)
	if pool.Used() != 512 {
		t.Errorf("%d octets in use, want 512", pool.Used())
	}
	b.Drop(pool) // reserved, and then nothing was put
	if pool.Used() != 0 {
		t.Errorf("%d octets in use, want 0", pool.Used())
	}
}

// The fuller the pool, the less a ledger may take.
func TestPoolShares(t *testing.T) {
	pool := NewPool(1 << 20)
	for _, c := range []struct{ used, max, share, offer int }{
		{0, 1 << 22, 1 << 22, 1<<22 - 64<<10}, {1 << 19, 1 << 22, 1 << 22, 1<<22 - 64<<10},
		{1<<19 + 256, 1 << 22, 1 << 22, 48 << 10}, {1<<20 - 1<<17, 1 << 22, 1 << 22, 48 << 10},
		{1<<20 - 1<<17 + 256, 1 << 22, 16 << 10, 12 << 10}, {1 << 20, 1000, 1000, 750},
	} {
		pool.used = c.used
		if share, offer := pool.Share(c.max), pool.Offer(c.max); share != c.share || offer != c.offer {
			t.Errorf("%d octets used: share of %d is %d, offer %d; want %d, %d", c.used, c.max, share, offer, c.share, c.offer)
		}
	}
}

func TestLedgerGapsAreBounded(t *testing.T) {
	pool := NewPool(1 << 20)
	var l Ledger
	for i := 1; ; i++ {
		if !l.Reserve(pool, wire.Seq(2*i), 1, 1<<20) {
			if i != maxEarly+1 {
				t.Errorf("%d gaps", i-1)
			}
			break
		}
		l.Put(wire.Seq(2*i), []byte{1})
	}
	if !l.Reserve(pool, 0, 1, 1<<20) {
		t.Error("the octet that closes a gap has no room")
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

// The bound of a pool holds for all of its memory, in use or free.
func TestPoolBoundsFreeBuffers(t *testing.T) {
	const max = 1 << 20
	p := NewPool(max)
	for size := max / 2; size >= 1<<14; size /= 2 { // each size in turn, all of the pool
		var all [][]byte
		for b := p.get(size); b != nil; b = p.get(size) {
			all = append(all, b)
		}
		for _, b := range all {
			p.put(b)
		}
	}
	total := p.Used()
	for _, list := range p.free {
		for _, b := range list {
			total += len(b)
		}
	}
	if total > max {
		t.Errorf("%d octets in a pool of %d", total, max)
	}
}
