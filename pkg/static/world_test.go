package static

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"
)

// world is a Tracker, the oracle beside it, a conntrack, and the events that are
// on their way from it.
type world struct {
	t       *testing.T
	pick    func(n int) int // a number below n: chance, or a fuzzer's octet
	tr      *Tracker
	o       oracle
	now     time.Duration
	entries []Entry // conntrack's, in no order
	events  []event
	lost    bool // events were: the Tracker does not know the truth
	id      uint32
	cookies uint64
	sets    Sets                         // as last written
	entered map[netip.Addr]time.Duration // the hosts in intercept, and since when
	log     []string                     // the last steps
}

// event is one of conntrack's.
type event struct {
	Entry
	destroyed bool
}

// newWorld begins with the first setup.
func newWorld(t *testing.T, pick func(int) int) *world {
	w := &world{t: t, pick: pick, tr: New(), now: boot, entered: map[netip.Addr]time.Duration{}}
	w.o = oracle{now: boot, peaks: map[netip.Addr]int{}, denied: map[netip.Addr]int{}, vain: map[netip.Addr][]time.Duration{}}
	w.configure(setups[0])
	w.lost = false // there is nothing yet
	w.tick(0)
	return w
}

// say notes a step for the report of a failure.
func (w *world) say(format string, args ...any) {
	if len(w.log) > 40 {
		w.log = w.log[1:]
	}
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// fail ends the test.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, line := range w.log {
		w.t.Log(line)
	}
	w.t.Fatalf(format, args...)
}

// step does one thing.
func (w *world) step() {
	switch w.pick(16) {
	case 0, 1, 2, 3:
		w.syn()
	case 4, 5, 6:
		w.advance()
	case 7, 8, 9, 10:
		w.deliver()
	case 11:
		w.tick(time.Duration(w.pick(30)) * 100 * time.Millisecond)
	case 12:
		w.reorder()
	case 13:
		if w.pick(4) == 0 {
			w.lose()
		}
	case 14:
		w.resync(w.pick(2) == 0)
	case 15:
		w.rare()
	}
	w.check()
}

// rare is what happens now and then.
func (w *world) rare() {
	switch w.pick(6) {
	case 0:
		w.configure(setups[w.pick(len(setups))])
	case 1:
		w.tick(time.Duration(w.pick(40)) * time.Second) // the daemon stood still
	case 2, 3:
		w.cookies += uint64(w.pick(20))
		for _, a := range w.sets.Intercept {
			w.tr.Cookies(map[netip.Addr]uint64{a: w.cookies})
		}
	case 4:
		for _, c := range w.tr.TakeKills() { // the daemon does as it is asked
			w.end(slices.IndexFunc(w.entries, func(e Entry) bool { return e.Conn == c.Conn && e.ID == c.ID }))
		}
	case 5:
		w.tr.TakeEvents()
		w.tr.Resume(w.now, netip.MustParseAddr(global))
	}
}

// peers is any of few connections, so that ports are used again.
func (w *world) peers() Conn {
	server := []string{local, local, other, "192.168.2.9", "fd00::25", "10.9.9.9"}[w.pick(6)]
	client := []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}[w.pick(3)]
	if server == "fd00::25" {
		client = "2001:db8:99::" + client[len(client)-1:]
	}
	return of(client, uint16(1000+w.pick(4)), server)
}

// syn sends a SYN. Conntrack does not show the daemon one of a living connection
// that was answered; an ended one it forgets first.
func (w *world) syn() {
	c := w.peers()
	i := slices.IndexFunc(w.entries, func(e Entry) bool { return e.Conn == c })
	if i >= 0 && w.entries[i].State >= SYNRecv && w.entries[i].State < TimeWait {
		return
	}
	repeated := i >= 0 && w.entries[i].State == SYNSent
	if !repeated {
		w.end(i)
	}
	s := SYN{Conn: c, Interface: 3}
	if w.entered[c.Server.Addr()] != 0 && w.pick(4) > 0 || w.pick(30) == 0 {
		s = SYN{Conn: c, Proven: true}
	}
	if w.tr.ended[s.key()].killed && !s.Proven { // it has to come again
		if w.tr.SYN(w.now, s) {
			w.fail("SYN %v passes while an entry of its addresses is being deleted", s)
		}
		return
	}
	pass, intercept := w.o.syn(s, w.entered[c.Server.Addr()])
	got := w.tr.SYN(w.now, s)
	w.say("syn %v: %v", s, got)
	if got != pass {
		w.fail("SYN %v passes: %v, want %v", s, got, pass)
	}
	if in := w.tr.flooded[c.Server.Addr()] != nil; in != (intercept || w.entered[c.Server.Addr()] != 0) {
		w.fail("after SYN %v: in intercept %v, want %v", s, in, !in)
	} else if in && w.entered[c.Server.Addr()] == 0 {
		w.entered[c.Server.Addr()] = w.now
	}
	if pass && !repeated && w.pick(8) > 0 { // else another chain drops it
		w.id++
		w.entries = append(w.entries, Entry{Conn: c, ID: w.id, State: SYNSent})
		w.events = append(w.events, event{w.entries[len(w.entries)-1], false})
	}
}

// end has conntrack remove entry i.
func (w *world) end(i int) {
	if i < 0 {
		return
	}
	w.events = append(w.events, event{w.entries[i], true})
	w.entries = slices.Delete(w.entries, i, i+1)
}

// advance brings one connection to a later state, or to its end.
func (w *world) advance() {
	if len(w.entries) == 0 {
		return
	}
	i := w.pick(len(w.entries))
	e := &w.entries[i]
	switch n := w.pick(8); {
	case n == 0, e.State >= TimeWait:
		w.end(i)
		return
	case n == 1:
		e.State = Close
	case n == 2 && e.State == SYNSent:
		e.State = SYNSent2
	case e.State == SYNSent2:
		e.State = SYNRecv
	default:
		e.State++
	}
	w.events = append(w.events, event{*e, false})
}

// deliver takes some events to the Tracker.
func (w *world) deliver() {
	for n := 1 + w.pick(6); n > 0 && len(w.events) > 0; n-- {
		ev := w.events[0]
		w.events = w.events[1:]
		w.say("event %v, destroyed %v", ev.Entry, ev.destroyed)
		if ev.destroyed {
			w.tr.Destroy(w.now, ev.Entry)
			w.o.destroy(ev.Entry)
		} else {
			w.tr.Update(w.now, ev.Entry)
			w.o.update(ev.Entry)
		}
	}
}

// reorder has a DESTROY come later than it should, or twice.
func (w *world) reorder() {
	for i, ev := range w.events {
		if ev.destroyed {
			if w.pick(2) == 0 {
				w.events = slices.Delete(w.events, i, i+1)
			}
			w.events = append(w.events, ev)
			return
		}
	}
}

// lose loses some of the events on their way.
func (w *world) lose() {
	for n := 1 + w.pick(5); n > 0 && len(w.events) > 0; n-- {
		i := w.pick(len(w.events))
		w.say("lost %v", w.events[i])
		w.events = slices.Delete(w.events, i, i+1)
		w.lost = true
	}
}

// resync gives the Tracker all entries. Unless in order, events of before come
// after it; where their successors were lost, that is not the truth yet.
func (w *world) resync(inOrder bool) {
	for inOrder && len(w.events) > 0 {
		w.deliver()
	}
	w.say("resync of %d entries", len(w.entries))
	w.tr.Resync(w.now, w.entries)
	w.o.resync(w.entries)
	w.lost = w.lost && !inOrder
}

// configure puts a setup in force.
func (w *world) configure(s setup) {
	more := false
	for host := range s.limits {
		_, before := w.o.setup.limits[host]
		more = more || !before
	}
	w.o.configure(s)
	asked := w.tr.Configure(w.now, s.cfg)
	w.say("configured %v", s.limits)
	if more && !asked {
		w.fail("hosts are counted that were not, and no resync is asked for")
	}
	w.lost = w.lost || asked
}

// tick passes time in steps of the daemon's, or at once.
func (w *world) tick(d time.Duration) {
	w.now += d + time.Millisecond
	w.say("tick %v", w.now)
	w.tr.Tick(w.now)
	w.o.tick(w.now)
}

// check compares everything.
func (w *world) check() {
	if len(w.tr.conns) != len(w.o.list) {
		w.fail("%d connections, want %d", len(w.tr.conns), len(w.o.list))
	}
	clients := map[netip.Addr]bool{}
	for _, l := range w.o.list {
		got, known := w.tr.conns[l.conn.key()]
		if !known || (got.phase != admitted) != l.told || (got.phase == opened) != l.open || !l.open && got.proven != l.proven || got.since != l.since {
			w.fail("%v: %+v, want %+v", l.conn, got, l)
		}
		a := l.conn.Client.Addr()
		if clients[a] = true; w.tr.clients[a] == nil || w.tr.clients[a].counts != w.o.client(a) {
			w.fail("client %v: %+v, want %+v", a, w.tr.clients[a], w.o.client(a))
		}
	}
	if len(w.tr.clients) != len(clients) {
		w.fail("%d clients, want %d", len(w.tr.clients), len(clients))
	}
	w.checkReport()
	w.checkSets()
	if !w.lost && len(w.events) == 0 {
		w.checkTruth()
	}
}

// checkReport compares the report, and with it the counts of each host.
func (w *world) checkReport() {
	seen := map[netip.Addr]bool{}
	for _, r := range w.tr.Report().Hosts {
		a := r.Local.Addr()
		if !r.Local.IsSingleIP() {
			continue
		}
		seen[a] = true
		n := w.o.host(a)
		if r.Connections != n.open+n.half || r.HalfOpen != n.half || r.Peak != uint32(w.o.peaks[a]) || r.Denied != uint64(w.o.denied[a]) ||
			r.Limits != w.o.setup.limits[a.String()] || r.Intercept != (w.tr.flooded[a] != nil) {
			w.fail("report %+v, want %+v, peak %d, denied %d, limits %v", r, n, w.o.peaks[a], w.o.denied[a], w.o.setup.limits[a.String()])
		}
	}
	for _, l := range w.o.list {
		if !seen[l.conn.Server.Addr()] {
			w.fail("no report of %v", l.conn.Server)
		}
	}
}

// checkSets looks at the sets; they may differ from the last ones only if Changed
// said so. A host leaves intercept ten seconds after it came at the earliest.
func (w *world) checkSets() {
	changed := w.tr.Changed()
	s := w.tr.Sets()
	if !changed && !reflect.DeepEqual(s, w.sets) {
		w.fail("sets %v, before %v, and no change was told", s, w.sets)
	}
	w.sets = s
	for _, list := range [][]netip.Addr{s.Full, s.Intercept} {
		if !slices.IsSortedFunc(list, netip.Addr.Compare) || len(slices.Compact(slices.Clone(list))) != len(list) {
			w.fail("not sorted: %v", list)
		}
	}
	for i := range s.Limited[min(1, len(s.Limited)):] {
		if s.Limited[i].Overlaps(s.Limited[i+1]) || s.Limited[i].Addr().Compare(s.Limited[i+1].Addr()) > 0 {
			w.fail("overlaps or not sorted: %v", s.Limited)
		}
	}
	for host, l := range w.o.setup.limits {
		a := netip.MustParseAddr(host)
		n, in := w.o.host(a), slices.Contains(s.Intercept, a)
		if slices.Contains(s.Full, a) != (in && l.Max > 0 && n.open+n.proven >= l.Max) {
			w.fail("%s, %v, in intercept %v: in full: %v", host, n, in, slices.Contains(s.Full, a))
		}
		if in && w.entered[a] == 0 {
			w.entered[a] = w.now // resumed
		}
	}
	for a, since := range w.entered {
		_, counted := w.o.setup.limits[a.String()]
		if slices.Contains(s.Intercept, a) {
			continue
		}
		if counted && w.now-since < 10*time.Second {
			w.fail("%v left intercept after %v", a, w.now-since)
		}
		delete(w.entered, a)
	}
}

// checkTruth compares with conntrack itself: nothing is on its way.
func (w *world) checkTruth() {
	n := 0
	for _, e := range w.entries {
		if _, counted := w.o.setup.limits[e.Server.Addr().String()]; !counted || e.State == TimeWait || e.State == Close {
			continue
		}
		n++
		half := e.State < Established || e.State == SYNSent2
		if got, known := w.tr.conns[e.key()]; !known || got.phase == admitted || (got.phase == halfOpen) != half || got.id != e.ID {
			w.fail("conntrack has %+v, the tracker %+v, known %v", e, got, known)
		}
	}
	for _, got := range w.tr.conns {
		if got.phase != admitted {
			n--
		}
	}
	if n != 0 {
		w.fail("conntrack has %d more than the tracker", n)
	}
}

// finish ends all connections: nothing may be left of them.
func (w *world) finish() {
	for len(w.entries) > 0 {
		w.end(len(w.entries) - 1)
	}
	w.resync(true)
	for range 60 {
		w.tick(time.Second)
	}
	w.check()
	tr := w.tr
	if n := len(tr.conns) + len(tr.clients) + len(tr.flooded) + len(tr.young) + len(tr.silent); n != 0 {
		w.fail("left over: %d connections, %d clients, %d in intercept, %d SYNs", len(tr.conns), len(tr.clients), len(tr.flooded), len(tr.young)+len(tr.silent))
	}
	for a, h := range tr.hosts {
		if h.counts != (counts{}) {
			w.fail("%v: %+v", a, h.counts)
		}
	}
}
