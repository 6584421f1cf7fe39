package flow

import (
	"net/netip"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/wire"
)

// numbered is the key of connection i.
func numbered(i int) Key {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1024)
	return KeyOf(client, netip.MustParseAddrPort("192.168.1.1:25"))
}

// TestWalk sees every connection that is there all the time once, and none twice,
// whatever comes and goes behind the 32nd step.
func TestWalk(t *testing.T) {
	for _, tt := range []struct {
		name              string
		stay, leave, come int // connections that are there all the time, up to that step, from it on
		steps             int // one for each bucket that is left; their number is a power of two
	}{
		{"an empty table", 0, 0, 0, 64},
		{"one connection", 1, 0, 0, 64},
		{"as many as buckets", 64, 0, 0, 64},
		{"many", 1000, 0, 0, 1024},
		{"it grows from 64 buckets to 2048", 60, 0, 1000, 32 + 2048*32/64},
		{"it grows from 256 buckets to 32768", 200, 0, 20000, 32 + 32768*224/256},
		{"half of them leave", 500, 500, 0, 1024},
		{"some come, some leave", 300, 300, 5000, 32 + 8192*992/1024},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := NewTable[int](1 << 20)
			insert := func(from, n int) {
				for i := from; i < from+n; i++ {
					table.Insert(numbered(i)).Value = i
				}
			}
			insert(0, tt.stay+tt.leave)
			seen := map[int]int{}
			steps, at := 0, uint64(0)
			for {
				at = table.Walk(at, func(e *Entry[int]) { seen[e.Value]++ })
				if steps++; at == 0 {
					break
				}
				if steps == 32 {
					insert(tt.stay+tt.leave, tt.come)
					for i := tt.stay; i < tt.stay+tt.leave; i++ {
						table.Delete(table.Lookup(numbered(i)))
					}
				}
			}
			for i := range tt.stay + tt.leave + tt.come {
				if n := seen[i]; n > 1 || i < tt.stay && n != 1 {
					t.Errorf("connection %d was seen %d times", i, n)
				}
			}
			if steps != tt.steps {
				t.Errorf("%d steps, want %d", steps, tt.steps)
			}
		})
	}
}

// TestProgress tells what a connection's control block knows of its beginning and
// end.
func TestProgress(t *testing.T) {
	segment := func(flags Flags, seq, ack uint32, n int) *Segment {
		return &Segment{Seq: wire.Seq(seq), Ack: wire.Seq(ack), Flags: flags, Len: n, Window: 1000}
	}
	var tcb TCB
	tcb.Open(segment(SYN, 100, 0, 0))
	for _, step := range []struct {
		name                     string
		dir                      Dir
		segment                  *Segment
		established              bool
		sent, acked              bool // the client's FIN
		serverSent, clientsAcked bool // the server's FIN
	}{
		{"SYN-ACK", Reply, segment(SYN|ACK, 500, 101, 0), false, false, false, false, false},
		{"bare ACK", Original, segment(ACK, 101, 501, 0), false, false, false, false, false},
		{"greeting", Reply, segment(ACK, 501, 101, 10), true, false, false, false, false},
		{"the client's FIN", Original, segment(FIN|ACK, 101, 511, 0), true, true, false, false, false},
		{"octets that do not acknowledge it", Reply, segment(ACK, 511, 101, 5), true, true, false, false, false},
		{"its ACK", Reply, segment(ACK, 516, 102, 0), true, true, true, false, false},
		{"the server's FIN", Reply, segment(FIN|ACK, 516, 102, 0), true, true, true, true, false},
		{"its ACK", Original, segment(ACK, 102, 517, 0), true, true, true, true, true},
	} {
		tcb.Forward(step.dir, step.segment, tcb.Check(step.dir, step.segment))
		if got := tcb.Established(); got != step.established {
			t.Errorf("%s: established %v", step.name, got)
		}
		sent, acked := tcb.Finished(Original)
		if sent != step.sent || acked != step.acked {
			t.Errorf("%s: the client's FIN: sent %v, acknowledged %v", step.name, sent, acked)
		}
		sent, acked = tcb.Finished(Reply)
		if sent != step.serverSent || acked != step.clientsAcked {
			t.Errorf("%s: the server's FIN: sent %v, acknowledged %v", step.name, sent, acked)
		}
	}
}
