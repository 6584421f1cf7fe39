package ctnl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ti-mo/conntrack"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// witness is a Watcher that keeps what it is told.
type witness struct {
	t      testing.TB
	dumps  chan []static.Entry
	events chan event
	ctx    context.Context // of Watch
}

func newWitness(t testing.TB) *witness {
	return &witness{t: t, dumps: make(chan []static.Entry, 10), events: make(chan event, 10000)}
}

func (w *witness) Resync(entries []static.Entry) {
	select {
	case w.dumps <- entries:
	case <-w.ctx.Done():
	}
}
func (w *witness) Changed(e static.Entry) { w.tell(event{e, false}) }
func (w *witness) Gone(e static.Entry)    { w.tell(event{e, true}) }

func (w *witness) tell(e event) {
	select {
	case w.events <- e:
	case <-w.ctx.Done():
	}
}

// watch runs Watch in the background.
func (w *witness) watch(c *Conn, again <-chan struct{}) {
	inBackground(w.t, func(ctx context.Context) error {
		w.ctx = ctx
		return c.Watch(ctx, w, again)
	})
}

// dump waits for a dump.
func (w *witness) dump() []static.Entry {
	w.t.Helper()
	select {
	case entries := <-w.dumps:
		return entries
	case <-time.After(patience):
		w.t.Fatal("no dump")
		return nil
	}
}

// event waits for an event.
func (w *witness) event() event {
	w.t.Helper()
	select {
	case e := <-w.events:
		return e
	case <-time.After(patience):
		w.t.Fatal("no event")
		return event{}
	}
}

// open opens conntrack.
func open(t testing.TB) *Conn {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pair is both ends of a connection through conntrack.
func pair(t *testing.T, server, dial string) (client, accepted *net.TCPConn, as static.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	as = static.Conn{Client: c.LocalAddr().(*net.TCPAddr).AddrPort(), Server: netip.MustParseAddrPort(server)}
	return c.(*net.TCPConn), a.(*net.TCPConn), as
}

// TestWatchLive opens and closes a connection to a mapped address, and one that was
// there before.
func TestWatchLive(t *testing.T) {
	tests := []struct{ name, server, dial string }{
		{"IPv4", "127.0.0.1:2525", "127.0.0.2:25"},
		{"IPv6", "[::1]:2525", "[::1]:25"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t)
			c := open(t)
			_, _, before := pair(t, "127.0.0.1:2500", "127.0.0.1:2500")
			w, again := newWitness(t), make(chan struct{})
			w.watch(c, again)
			first := w.dump()
			if len(first) != 1 || first[0].Conn != before || first[0].State != static.Established || first[0].ID == 0 {
				t.Errorf("the first dump is %v, want %v established", first, before)
			}

			client, server, conn := pair(t, tt.server, tt.dial)
			original := netip.MustParseAddrPort(tt.dial)
			// Of the kernel's states, 1 to 3 are the handshake, 4 to 7 the close
			// (FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT).
			var id uint32
			want := func(states ...static.State) {
				t.Helper()
				var got []static.State
				for len(got) < len(states) {
					e := w.event()
					if id == 0 {
						id = e.ID
					}
					if e.Conn != conn || e.Original != original || e.gone || e.ID != id {
						t.Fatalf("event %+v, want one of %v with ID %d", e, conn, id)
					}
					got = append(got, e.State)
				}
				if diff := cmp.Diff(states, got); diff != "" {
					t.Fatal(diff)
				}
			}
			want(static.SYNSent, static.SYNRecv, static.Established)
			client.CloseWrite()
			want(4, 5)
			again <- struct{}{}
			entries := w.dump()
			if want := (static.Entry{Conn: conn, Original: original, ID: id, State: 5}); len(entries) != 2 || !slices.Contains(entries, want) {
				t.Errorf("dumped %v, want also %v", entries, want)
			}
			server.Close()
			want(6, static.TimeWait)
			if _, err := c.Delete(flow.Tuple(conn), netip.AddrPort{}, 0); err != nil {
				t.Fatal(err)
			}
			if e := w.event(); !e.gone || e.Conn != conn || e.ID != id {
				t.Errorf("event %+v, want that %v with ID %d is gone", e, conn, id)
			}
			got := c.Counters()
			if want := (Counters{Deleted: 1, Events: max(got.Events, 8), Resyncs: 2}); got != want { // more, if marks change
				t.Errorf("counted %+v, want %+v", got, want)
			}
		})
	}
}

// library is ti-mo's conntrack, which makes entries and flushes them.
func library(t testing.TB) *conntrack.Conn {
	t.Helper()
	c, err := conntrack.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// create makes n entries, with ports from 1000.
func create(t testing.TB, c *conntrack.Conn, n int) {
	t.Helper()
	for i := range n {
		client := netip.AddrFrom4([4]byte{10, 0, byte(i >> 12), 1})
		f := conntrack.NewFlow(6, 0, client, netip.MustParseAddr("10.1.0.1"), 1000+uint16(i&0xfff), 25, 600, 0)
		f.ProtoInfo.TCP = &conntrack.ProtoInfoTCP{State: uint8(static.Established)}
		if err := c.Create(f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWatchOverrun has the kernel lose events that a small buffer does not take.
func TestWatchOverrun(t *testing.T) {
	inNamespace(t)
	c := open(t)
	subscriptions := 0
	c.pause = 0
	c.subscribe = func(groups []group) (*subscription, error) {
		if subscriptions++; subscriptions == 1 {
			return subscribe(1, groups) // the kernel's least: an event or two
		}
		return subscribe(receiveBuffer, groups)
	}
	w := newWitness(t)
	// Whoever takes none keeps Watch waiting, and what is told is taken in its order.
	w.dumps, w.events = make(chan []static.Entry), make(chan event)
	again := make(chan struct{}, 1)
	w.watch(c, again)
	if n := len(w.dump()); n != 0 {
		t.Fatalf("%d entries at first", n)
	}
	create(t, library(t), 300)
	if _, err := c.Delete(flow.Tuple{Client: netip.MustParseAddrPort("10.0.0.1:1007"), Server: netip.MustParseAddrPort("10.1.0.1:25")}, netip.AddrPort{}, 0); err != nil {
		t.Fatal(err)
	}
	want, count := map[static.Conn]uint32{}, map[static.Conn]uint32{} // IDs; count is what a count by dumps and events comes to
	now, err := dump()
	if err != nil || len(now) != 299 {
		t.Fatalf("%d entries, want 299; %v", len(now), err)
	}
	for _, e := range now {
		want[e.Conn] = e.ID
	}
	// The kernel tells that an entry is gone and then takes it out of its table
	// (nf_ct_delete): a dump in between has it still, and only the next one not.
	more := time.NewTicker(time.Second)
	defer more.Stop()
	for deadline := time.After(patience); !maps.Equal(count, want); {
		select {
		case <-more.C:
			select {
			case again <- struct{}{}:
			default:
			}
		case entries := <-w.dumps:
			clear(count)
			for _, e := range entries {
				count[e.Conn] = e.ID
			}
		case e := <-w.events:
			if e.gone {
				delete(count, e.Conn)
			} else {
				count[e.Conn] = e.ID
			}
		case <-deadline:
			t.Fatalf("%d connections counted, want 299; %+v", len(count), c.Counters())
		}
	}
	if n := c.Counters(); n.Overruns == 0 || n.Resyncs < 2 {
		t.Errorf("nothing was lost: %+v", n)
	}
}

// TestListenOverrun is the same for Listen: whoever forgets what gone tells, and
// what lost does not know, knows in the end what is open.
func TestListenOverrun(t *testing.T) {
	inNamespace(t)
	c := open(t)
	c.pause = 0
	c.subscribe = func(groups []group) (*subscription, error) {
		if c.Counters().Overruns == 0 {
			return subscribe(1, groups)
		}
		return subscribe(receiveBuffer, groups)
	}
	subscribed, gone, lost := make(chan struct{}), make(chan flow.Tuple), make(chan map[flow.Key]struct{})
	inBackground(t, func(ctx context.Context) error {
		return c.Listen(ctx, func() { close(subscribed) },
			func(t flow.Tuple) {
				select {
				case gone <- t:
				case <-ctx.Done():
				}
			},
			func(known map[flow.Key]struct{}) {
				select {
				case lost <- known:
				case <-ctx.Done():
				}
			})
	})
	<-subscribed
	create(t, library(t), 300)
	open := map[flow.Key]struct{}{}
	for i := range uint16(300) {
		conn := flow.Tuple{Client: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), 1000+i), Server: netip.MustParseAddrPort("10.1.0.1:25")}
		open[conn.Key()] = struct{}{}
		if i%100 == 0 {
			continue
		}
		if _, err := c.Delete(conn, netip.AddrPort{}, 0); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.After(patience); len(open) != 3; {
		select {
		case conn := <-gone:
			delete(open, conn.Key())
		case known := <-lost:
			maps.DeleteFunc(open, func(k flow.Key, _ struct{}) bool { _, ok := known[k]; return !ok })
		case <-deadline:
			t.Fatalf("%d connections are believed to be open, want 3; %+v", len(open), c.Counters())
		}
	}
	if n := c.Counters(); n.Overruns == 0 || n.Resyncs == 0 {
		t.Errorf("nothing was lost: %+v", n)
	}
}

// TestBatchWaits: without events, batch returns at the deadline only.
func TestBatchWaits(t *testing.T) {
	inNamespace(t)
	s, err := newSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer s.conn.Close()
	if err := s.subscribe(receiveBuffer, []group{groupNew}); err != nil {
		t.Fatal(err)
	}
	s.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if events, err := s.batch(); !errors.Is(err, os.ErrDeadlineExceeded) || events != nil {
		t.Errorf("events %v, error %v", events, err)
	}
}

// BenchmarkEvents measures how fast Watch takes events that wait in the socket: two
// for each of 10,000 connections.
func BenchmarkEvents(b *testing.B) {
	inNamespace(b)
	c := library(b)
	const n = 10000
	total := 0
	for b.Loop() {
		b.StopTimer()
		s, err := newSocket()
		if err != nil {
			b.Fatal(err)
		}
		if err := s.subscribe(receiveBuffer, []group{groupNew, groupUpdate, groupDestroy}); err != nil {
			b.Fatal(err)
		}
		create(b, c, n)
		if err := c.Flush(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for got := 0; got < 2*n; {
			events, err := s.batch()
			if err != nil {
				b.Fatal(err)
			}
			got += len(events)
		}
		total += 2 * n
		s.conn.Close()
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkDump measures how long a dump takes.
func BenchmarkDump(b *testing.B) {
	for _, n := range []int{10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			inNamespace(b)
			create(b, library(b), n)
			for b.Loop() {
				if all, err := dump(); err != nil || len(all) != n {
					b.Fatalf("%d entries, %v", len(all), err)
				}
			}
		})
	}
}
