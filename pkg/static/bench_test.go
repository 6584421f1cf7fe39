package static

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// nth is connection n of very many to a host.
func nth(n int, server netip.Addr) Conn {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 100<<24|uint32(n)>>4)
	return Conn{netip.AddrPortFrom(netip.AddrFrom4(b), 1024+uint16(n&15)), netip.AddrPortFrom(server, 25)}
}

// BenchmarkConnection is a whole connection, as the Tracker sees it: its SYN, five
// states and the end, beside none or very many others.
func BenchmarkConnection(b *testing.B) {
	for _, others := range []int{0, 500_000} {
		b.Run(fmt.Sprint("beside=", others), func(b *testing.B) {
			tr, server := benchTracker(others, Limits{Max: 2_000_000})
			now, i := boot, others
			b.ReportAllocs()
			for b.Loop() {
				c := nth(i&(1<<24-1), server)
				tr.SYN(now, SYN{Conn: c, Interface: 3})
				for _, s := range []State{SYNSent, SYNRecv, Established, 4, TimeWait} {
					tr.Update(now, Entry{Conn: c, ID: uint32(i), State: s})
				}
				tr.Destroy(now, Entry{Conn: c, ID: uint32(i), State: TimeWait})
				if now += 50 * time.Microsecond; i%2000 == 0 { // 20,000 connections a second
					tr.Tick(now)
				}
				i++
			}
		})
	}
}

// BenchmarkRefused is a SYN over the limit.
func BenchmarkRefused(b *testing.B) {
	tr, server := benchTracker(50, Limits{Max: 50})
	i := 100
	b.ReportAllocs()
	for b.Loop() {
		i++
		if tr.SYN(boot+time.Second, SYN{Conn: nth(i&(1<<24-1), server), Interface: 3}) {
			b.Fatal("passes")
		}
	}
}

// BenchmarkResyncOfOthers is a dump of connections to hosts without limits, beside
// few and many mapped networks: no SYN is decided meanwhile.
func BenchmarkResyncOfOthers(b *testing.B) {
	for _, networks := range []int{1, 1000} {
		b.Run(fmt.Sprint("networks=", networks), func(b *testing.B) {
			tr := New()
			var cfg Config
			for i := range networks {
				net := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
				cfg.Mappings = append(cfg.Mappings, Mapping{net, net, Limits{Max: 10}})
			}
			tr.Configure(boot, cfg)
			entries := make([]Entry, 100_000)
			for i := range entries {
				entries[i] = Entry{Conn: nth(i, netip.MustParseAddr("198.18.0.1")), ID: uint32(i), State: Established}
			}
			for b.Loop() {
				tr.Resync(boot, entries)
			}
		})
	}
}

// BenchmarkFloodedTick is what Tick costs once a second beside half a million
// connections while ten hosts, and while a thousand are in intercept.
func BenchmarkFloodedTick(b *testing.B) {
	for _, hosts := range []int{10, 1000} {
		b.Run(fmt.Sprint("hosts=", hosts), func(b *testing.B) {
			tr, _ := benchTracker(500_000, Limits{Embryonic: 1})
			now := boot
			for n := range hosts {
				tr.SYN(now, SYN{Conn: nth(n, netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})), Interface: 3})
			}
			if len(tr.flooded) != hosts {
				b.Fatalf("%d hosts in intercept", len(tr.flooded))
			}
			for b.Loop() {
				now += time.Second
				tr.Tick(now)
				for _, h := range tr.flooded { // they stay
					h.flood.calm = now
				}
			}
		})
	}
}

// BenchmarkEnter is an attack on each address of a network, beside half a million
// connections.
func BenchmarkEnter(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		tr, _ := benchTracker(500_000, Limits{Embryonic: 1})
		b.StartTimer()
		for n := range 1000 {
			tr.SYN(boot, SYN{Conn: nth(n, netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)})), Interface: 3})
		}
		tr.Tick(boot + time.Second)
	}
}

// BenchmarkResync is a dump of half a million entries, all of them known.
func BenchmarkResync(b *testing.B) {
	tr, server := benchTracker(500_000, Limits{Max: 2_000_000})
	entries := make([]Entry, 0, 500_000)
	for i := range 500_000 {
		entries = append(entries, Entry{Conn: nth(i, server), ID: uint32(i), State: Established})
	}
	b.ReportAllocs()
	for b.Loop() {
		tr.Resync(boot, entries)
	}
}

// benchTracker has that many open connections to a host; the limits are those of
// it and of the hosts of a network.
func benchTracker(n int, l Limits) (*Tracker, netip.Addr) {
	tr, server := New(), netip.MustParseAddr(local)
	tr.Configure(boot, Config{Synproxy: true, Mappings: []Mapping{mapping(global, local, l), mapping("1.2.0.0/16", "10.1.0.0/16", l)}})
	tr.Tick(boot)
	for i := range n {
		tr.Update(boot, Entry{Conn: nth(i, server), ID: uint32(i), State: Established})
	}
	return tr, server
}

// What a connection costs, of one client each and in the worst case: its SYN was
// just admitted. The bound on connections rests on it.
func TestMemoryPerConnection(t *testing.T) {
	const n = 1 << 17 // a power of two: the tables have just grown
	for _, tt := range []struct {
		name string
		add  func(tr *Tracker, c Conn, i int)
		most float64 // octets
	}{
		{"open, 16 of a client", func(tr *Tracker, c Conn, i int) { tr.Update(boot, Entry{Conn: c, ID: uint32(i), State: Established}) }, 200},
		{"admitted, one of a client", func(tr *Tracker, c Conn, i int) {
			c.Client = nth(i<<4, c.Server.Addr()).Client
			tr.SYN(boot, SYN{Conn: c, Interface: 3})
		}, 500},
	} {
		var before, after runtime.MemStats
		tr, server := benchTracker(0, Limits{Max: 2_000_000})
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			tt.add(tr, nth(i, server), i)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		each := float64(after.HeapAlloc-before.HeapAlloc) / float64(len(tr.conns))
		t.Logf("%s: %.0f octets a connection", tt.name, each)
		if len(tr.conns) != n || each > tt.most {
			t.Errorf("%s: %d connections, %.0f octets each, want at most %.0f", tt.name, len(tr.conns), each, tt.most)
		}
	}
}

// The events of a connection that is counted cost no memory.
func TestUpdateDoesNotAllocate(t *testing.T) {
	tr, server := benchTracker(100, Limits{Max: 2_000_000})
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		e := Entry{Conn: nth(i%100, server), ID: uint32(i % 100), State: State(1 + i%6)}
		tr.Update(boot, e)
		e.ID++
		tr.Destroy(boot, e) // of another one
		tr.SYN(boot, SYN{Conn: e.Conn, Interface: 3})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
