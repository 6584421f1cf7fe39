package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/ctnl"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// fakeRuleset is a Ruleset in memory.
type fakeRuleset struct {
	cfg     static.Config
	cookies map[netip.Addr]uint64
	full    map[netip.Addr]uint64
	refuse  error // what Read and Apply return
	applied []static.Sets
	changed func()
}

func (r *fakeRuleset) Read() (static.Config, error) { return r.cfg, r.refuse }

func (r *fakeRuleset) Apply(s static.Sets) error {
	if r.refuse == nil {
		r.applied = append(r.applied, s)
	}
	return r.refuse
}

func (r *fakeRuleset) Cookies() (map[netip.Addr]uint64, error) { return r.cookies, nil }

func (r *fakeRuleset) Full() (map[netip.Addr]uint64, error) { return r.full, nil }

// last is what was applied last.
func (r *fakeRuleset) last() string {
	if len(r.applied) == 0 {
		return "nothing"
	}
	s := r.applied[len(r.applied)-1]
	return fmt.Sprintf("limited %v full %v intercept %v", s.Limited, s.Full, s.Intercept)
}

// fakeEntries is conntrack in memory.
type fakeEntries struct {
	do     chan func(ctnl.Watcher)
	asked  int  // how often all entries were asked for
	silent bool // all entries do not come by themselves
	all    []static.Entry
}

func (e *fakeEntries) Watch(ctx context.Context, w ctnl.Watcher, again <-chan struct{}) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			if e.asked++; !e.silent {
				w.Resync(e.all)
			}
		case do := <-e.do:
			do(w)
		}
	}
}

// limitRig is a Daemon of one shard that limits connections in queue 1.
type limitRig struct {
	*rig
	ruleset *fakeRuleset
	entries *fakeEntries
	events  []static.Event
	nextID  uint32
}

// newLimitRig makes one with a configuration.
func newLimitRig(cfg static.Config) *limitRig {
	r := &limitRig{
		rig: newRig(1), ruleset: &fakeRuleset{cfg: cfg, cookies: map[netip.Addr]uint64{}},
		entries: &fakeEntries{do: make(chan func(ctnl.Watcher))},
	}
	r.queues = append(r.queues, newFakeQueue("queue 1"))
	limit := Limit{
		Queue: 1, Entries: r.entries, Ruleset: r.ruleset,
		Watch: func(ctx context.Context, changed func()) error {
			r.ruleset.changed = changed
			<-ctx.Done()
			return nil
		},
		Audit: func(e *static.Event) { r.events = append(r.events, *e) },
	}
	r.opt.Limit = &limit
	r.limiter = newLimiter(r.Daemon, limit)
	return r
}

// host is a mapping of global 192.0.2.1 to local 10.0.0.1.
func host(max, embryonic uint32) static.Config {
	return static.Config{Synproxy: true, Mappings: []static.Mapping{{
		Global: netip.MustParsePrefix("192.0.2.1/32"), Local: netip.MustParsePrefix("10.0.0.1/32"),
		Limits: static.Limits{Max: max, Embryonic: embryonic},
	}}}
}

// conn is a connection to the host from that port.
func conn(port uint16) static.Conn {
	return static.Conn{
		Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
		Server: netip.MustParseAddrPort("10.0.0.1:25"),
	}
}

// syn puts a SYN of that connection into queue 1, by an interface, and reports
// whether it passed.
func (r *limitRig) syn(t *testing.T, c static.Conn, in uint32) bool {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: c.Client.Addr().AsSlice(), DstIP: c.Server.Addr().AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(c.Client.Port()), DstPort: layers.TCPPort(c.Server.Port()), SYN: true}
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, ip, tcp); err != nil {
		t.Fatal(err)
	}
	return r.packet(t, b.Bytes(), in)
}

// packet puts a packet into queue 1 and reports whether it passed.
func (r *limitRig) packet(t *testing.T, data []byte, in uint32) bool {
	t.Helper()
	r.nextID++
	r.queues[1].in <- engine.Packet{ID: r.nextID, In: in, Data: data}
	synctest.Wait()
	q := r.queues[1]
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.verdicts) != int(r.nextID) || q.verdicts[r.nextID-1].ID != r.nextID {
		t.Fatalf("packet %d has no verdict: %v", r.nextID, q.verdicts)
	}
	return q.verdicts[r.nextID-1].Verdict == engine.Accept
}

// conntrack tells a change.
func (r *limitRig) conntrackSays(do func(ctnl.Watcher)) {
	r.entries.do <- do
	synctest.Wait()
}

// TestLimit refuses one connection more than there may be, until one ends.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(2, 0))
		r.start()
		if !isClosed(r.Ready()) {
			t.Fatalf("not ready:\n%s", r.log)
		}
		if got, want := r.ruleset.last(), "limited [10.0.0.1/32] full [] intercept []"; got != want {
			t.Errorf("sets %q, want %q", got, want)
		}
		for port, want := range []bool{true, true, false, false} {
			if got := r.syn(t, conn(uint16(port)), 3); got != want {
				t.Errorf("SYN %d passed: %v", port, got)
			}
		}
		if r.packet(t, []byte("no packet"), 3) {
			t.Error("what is no packet passed")
		}
		if len(r.events) != 1 || r.events[0].Kind != static.Refused || r.events[0].Count != 2 || r.events[0].Limit != 2 || r.events[0].Interface != 3 {
			t.Errorf("events %+v", r.events)
		}
		entry := static.Entry{Conn: conn(0), ID: 7, State: static.Established}
		r.conntrackSays(func(w ctnl.Watcher) { w.Changed(entry) })
		r.conntrackSays(func(w ctnl.Watcher) { w.Gone(entry) })
		if !r.syn(t, conn(2), 3) {
			t.Error("refused though one has ended")
		}
		s, ok := r.Limits()
		if !ok || s.Hosts[0].Connections != 2 || s.Hosts[0].Denied != 2 || s.Undecodable != 1 || s.Tracker.SYNs != 5 {
			t.Errorf("snapshot %+v", s)
		}
		if err := r.finish(t); err != nil {
			t.Error(err)
		}
	})
}

// TestLimitCountsFirst lets no SYN pass, and limits no host that was not, before
// the connections that exist are known.
func TestLimitCountsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(1, 0))
		r.entries.silent = true
		r.start()
		if isClosed(r.Ready()) || strings.Contains(r.log.String(), "queue 1") || r.ruleset.last() != "nothing" {
			t.Errorf("limits before it has counted; sets: %s; log:\n%s", r.ruleset.last(), r.log)
		}
		r.conntrackSays(func(w ctnl.Watcher) {
			w.Resync([]static.Entry{{Conn: conn(9), ID: 1, State: static.Established}})
		})
		if !isClosed(r.Ready()) || r.ruleset.last() == "nothing" {
			t.Errorf("sets %s; log:\n%s", r.ruleset.last(), r.log)
		}
		if r.syn(t, conn(1), 3) {
			t.Error("the connection that was there is not counted")
		}
		r.finish(t)
	})
}

// TestLimitFollowsRuleset puts a host that is limited from now on into the set
// once its connections are known.
func TestLimitFollowsRuleset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(static.Config{})
		r.entries.silent = true
		r.start()
		if !isClosed(r.Ready()) || r.entries.asked != 0 {
			t.Fatalf("not ready without limits, or conntrack was asked (%d):\n%s", r.entries.asked, r.log)
		}
		r.ruleset.cfg = host(1, 0)
		r.ruleset.changed()
		synctest.Wait()
		if got, want := r.ruleset.last(), "limited [] full [] intercept []"; got != want || r.entries.asked != 1 {
			t.Errorf("sets %q, want %q; entries asked for %d times", got, want, r.entries.asked)
		}
		r.conntrackSays(func(w ctnl.Watcher) { w.Resync(nil) })
		if got, want := r.ruleset.last(), "limited [10.0.0.1/32] full [] intercept []"; got != want {
			t.Errorf("sets %q, want %q", got, want)
		}
		r.finish(t)
	})
}

// TestLimitRetries writes the sets again each second while that fails, and says
// once that it does.
func TestLimitRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(1, 0))
		r.ruleset.refuse = errors.New("read map static4: no luck")
		r.start()
		pass(3 * time.Second)
		if isClosed(r.Ready()) {
			t.Error("ready though the ruleset could not be read")
		}
		if n := strings.Count(r.log.String(), "limit connections: read map static4: no luck"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, r.log)
		}
		r.ruleset.refuse = nil
		pass(2 * time.Second)
		if !isClosed(r.Ready()) || !strings.HasPrefix(r.ruleset.last(), "limited [10.0.0.1/32]") {
			t.Errorf("sets %q; log:\n%s", r.ruleset.last(), r.log)
		}
		r.finish(t)
	})
}

// inOrder sorts connections by their clients: those that are ended together come in
// no order.
func inOrder(list []flow.Tuple) []flow.Tuple {
	slices.SortFunc(list, func(a, b flow.Tuple) int { return a.Client.Compare(b.Client) })
	return list
}

// TestLimitIntercepts enters intercept at the embryonic limit, ends old half-open
// connections, counts cookies, marks the host full, and leaves when it is calm.
func TestLimitIntercepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		global := netip.MustParseAddr("192.0.2.1")
		r := newLimitRig(host(3, 2))
		r.start()
		const bound = "limited [10.0.0.1/32] full "
		for port := range uint16(2) {
			r.syn(t, conn(port), 3)
			r.conntrackSays(func(w ctnl.Watcher) {
				w.Changed(static.Entry{Conn: conn(port), ID: uint32(port), State: static.SYNRecv})
			})
		}
		both := "[10.0.0.1 192.0.2.1]"
		if got, want := r.ruleset.last(), bound+"[] intercept "+both; got != want {
			t.Errorf("sets %q, want %q", got, want)
		}
		if r.syn(t, conn(2), 3) {
			t.Error("another SYN passed")
		}
		if !r.syn(t, conn(2), 0) {
			t.Error("synproxy's SYN did not pass")
		}
		r.conntrackSays(func(w ctnl.Watcher) {
			w.Changed(static.Entry{Conn: conn(2), ID: 2, State: static.Established})
		})
		pass(6 * time.Second)
		want := []flow.Tuple{flow.Tuple(conn(0)), flow.Tuple(conn(1))}
		deleted := []flow.Tuple{<-r.conntrack.deleted, <-r.conntrack.deleted}
		synctest.Wait()
		if got := inOrder(deleted); !slices.Equal(got, want) {
			t.Errorf("deleted %v, want %v", got, want)
		}
		if got := inOrder(r.engines[0][0].cut); !slices.Equal(got, want) {
			t.Errorf("cut %v, want %v", got, want)
		}
		for port := range uint16(2) {
			r.conntrackSays(func(w ctnl.Watcher) { w.Gone(static.Entry{Conn: conn(port), ID: uint32(port)}) })
		}

		// A flood of 100 SYNs a second for 20 seconds keeps it in.
		for range 20 {
			r.ruleset.cookies[global] += 100
			pass(time.Second)
		}
		pass(35 * time.Second)
		if !strings.Contains(r.ruleset.last(), "intercept "+both) {
			t.Errorf("left during the flood or too soon after: %s", r.ruleset.last())
		}
		if !r.syn(t, conn(3), 0) || !r.syn(t, conn(4), 0) || !strings.Contains(r.ruleset.last(), "full "+both) {
			t.Errorf("three proven connections do not fill the host: %s", r.ruleset.last())
		}
		r.ruleset.full = map[netip.Addr]uint64{global: 7}
		pass(time.Second)
		if s, _ := r.Limits(); s.Hosts[0].Denied != 7 {
			t.Errorf("%d denied, want those that the kernel dropped, 7", s.Hosts[0].Denied)
		}
		pass(10 * time.Second)
		if got, want := r.ruleset.last(), bound+"[] intercept []"; got != want {
			t.Errorf("sets %q, want %q", got, want)
		}
		var kinds []string
		for _, ev := range r.events {
			kinds = append(kinds, ev.Kind.String())
		}
		if got := strings.Join(kinds, " "); got != "intercept-entered connection-limit-kernel intercept-left" {
			t.Errorf("events %s", got)
		}
		r.finish(t)
	})
}

// TestLimitCutsBeforeConntrackTells has the shards know that intercept ended a
// half-open connection, or that its time was up, before conntrack tells them that
// it is gone: its record is to name the cause.
func TestLimitCutsBeforeConntrackTells(t *testing.T) {
	for _, tt := range []struct {
		embryonic uint32
		after     time.Duration
		cause     engine.Teardown
	}{
		{1, 6 * time.Second, engine.TeardownIntercept},
		{2, 31 * time.Second, engine.TeardownSYNTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newLimitRig(host(3, tt.embryonic))
			r.conntrack.tells = true
			r.start()
			r.syn(t, conn(0), 3)
			r.conntrackSays(func(w ctnl.Watcher) {
				w.Changed(static.Entry{Conn: conn(0), ID: 1, State: static.SYNRecv})
			})
			pass(tt.after)
			if got, want := strings.Join(r.engines[0][0].ends, " "), fmt.Sprintf("cut %d forget", tt.cause); got != want {
				t.Errorf("the shard was told %q, want %q", got, want)
			}
			r.finish(t)
		})
	}
}

// TestLimitForgetsClosed has conntrack forget connections that it takes for closed,
// and then the shards; but not where conntrack has another one in their place.
func TestLimitForgetsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(3, 0))
		r.start()
		global := netip.MustParseAddrPort("192.0.2.1:25")
		for port, id := range map[uint16]uint32{0: 1, 1: missing} {
			r.syn(t, conn(port), 3)
			for _, state := range []static.State{static.Established, static.TimeWait} {
				r.conntrackSays(func(w ctnl.Watcher) {
					w.Changed(static.Entry{Conn: conn(port), Original: global, ID: id, State: state})
				})
			}
		}
		ended := time.Since(r.opt.Start)
		pass(3 * time.Second)
		deleted := []flow.Tuple{<-r.conntrack.deleted, <-r.conntrack.deleted}
		synctest.Wait()
		if got, want := inOrder(deleted), []flow.Tuple{{Client: conn(0).Client, Server: global}, {Client: conn(1).Client, Server: global}}; !slices.Equal(got, want) {
			t.Errorf("deleted %v, want %v", got, want)
		}
		e := r.engines[0][0]
		if got, want := strings.Join(e.ends, " "), fmt.Sprint("close ", conn(0).Client.Port()); got != want {
			t.Errorf("the shard was told %q, want %q", got, want)
		}
		if len(e.closed) != 1 || e.closed[0] < ended+2*time.Second || e.closed[0] > ended+3*time.Second {
			t.Errorf("as of %v, want two seconds after %v", e.closed, ended)
		}
		r.finish(t)
	})
}

// TestLimitResumes finds a host in intercept that was when the daemon ended.
func TestLimitResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(3, 2))
		r.limiter.opt.Intercepted = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.1")}
		r.start()
		if got, want := r.ruleset.last(), "limited [10.0.0.1/32] full [] intercept [10.0.0.1 192.0.2.1]"; got != want {
			t.Errorf("sets %q, want %q", got, want)
		}
		r.finish(t)
	})
}

// TestLimitTellsShards has the shards know which servers synproxy may answer for,
// until a minute after the last of its connections may have begun.
func TestLimitTellsShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLimitRig(host(3, 1))
		server := netip.MustParseAddr("10.0.0.1")
		r.start()
		if r.limiter.isProxied(server) {
			t.Error("proxied though not in intercept")
		}
		r.syn(t, conn(0), 3) // unconfirmed: forgotten after five seconds
		for _, step := range []struct {
			after time.Duration
			want  bool
		}{{0, true}, {10 * time.Second, true}, {60 * time.Second, true}, {10 * time.Second, false}} {
			pass(step.after)
			if got := r.limiter.isProxied(server); got != step.want {
				t.Errorf("after %v more: proxied %v; sets: %s", step.after, got, r.ruleset.last())
			}
		}
		if r.limiter.isProxied(netip.MustParseAddr("10.0.0.2")) {
			t.Error("another host is proxied")
		}
		r.finish(t)
	})
}
