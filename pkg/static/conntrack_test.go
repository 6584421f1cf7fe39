package static

import (
	"testing"
	"time"
)

// Every state of conntrack, as an entry that is new and as news of a counted one.
func TestStates(t *testing.T) {
	for state, want := range []struct{ open, half uint32 }{
		0: {0, 0},            // none
		1: {0, 1}, 2: {0, 1}, // SYN_SENT, SYN_RECV
		3: {1, 0}, 4: {1, 0}, 5: {1, 0}, 6: {1, 0}, // ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK
		7: {0, 0}, 8: {0, 0}, // TIME_WAIT, CLOSE
		9:  {0, 1}, // SYN_SENT2: both sides at once
		10: {0, 0}, 255: {0, 0},
	} {
		if state > 10 && state < 255 {
			continue
		}
		for name, before := range map[string]func(*rig){
			"new":            func(r *rig) { r.ids[conn(1)] = 1 },
			"half-open":      func(r *rig) { r.half(conn(1)) },
			"open":           func(r *rig) { r.open(conn(1)) },
			"proven":         func(r *rig) { r.proven(conn(1)); r.begins(conn(1)) },
			"proven, opened": func(r *rig) { r.openProven(conn(1)) },
		} {
			r := newRig(t, one(Limits{5, 5}, true))
			before(r)
			r.becomes(conn(1), State(state))
			h := r.hosts[conn(1).Server.Addr()]
			if h == nil {
				h = &host{}
			}
			if h.open != want.open || h.half != want.half || h.proven > h.half {
				t.Errorf("%s, then state %d: %+v, want %+v", name, state, h.counts, want)
			}
			if n := len(r.clients); n != int(want.open+want.half) {
				t.Errorf("%s, then state %d: %d clients", name, state, n)
			}
			r.ends(conn(1))
			r.want(local, 0, 0)
		}
	}
}

// A connection closes and its ports are used again at once: the events of the old
// entry come before or after the SYN is decided on. In the end one is counted.
func TestPortsAreUsedAgain(t *testing.T) {
	const syn, timeWait, destroy, begins, opens = "syn", "time-wait", "destroy", "new", "established"
	for _, tt := range []struct {
		steps  []string
		counts []uint32 // after each
	}{
		{[]string{timeWait, destroy, syn, begins, opens}, []uint32{0, 0, 1, 1, 1}},
		{[]string{timeWait, syn, destroy, begins, opens}, []uint32{0, 1, 1, 1, 1}},
		{[]string{timeWait, syn, begins, destroy, opens}, []uint32{0, 1, 1, 1, 1}}, // a late DESTROY
		{[]string{timeWait, syn, begins, opens, destroy}, []uint32{0, 1, 1, 1, 1}},
		{[]string{timeWait, syn, begins, opens, destroy, destroy}, []uint32{0, 1, 1, 1, 1, 1}}, // twice
		{[]string{timeWait, syn, timeWait, begins, opens}, []uint32{0, 1, 1, 1, 1}},            // told twice
		{[]string{destroy, timeWait, syn, begins, opens}, []uint32{0, 0, 1, 1, 1}},
		{[]string{syn, timeWait, destroy, begins, opens}, []uint32{1, 0, 0, 1, 1}}, // the SYN overtakes
		{[]string{syn, begins, timeWait, destroy, opens}, []uint32{1, 1, 1, 1, 1}}, // all of it
		{[]string{syn, begins, destroy, opens}, []uint32{1, 1, 1, 1}},              // TIME_WAIT was lost
	} {
		r := newRig(t, one(Limits{Max: 2}, false))
		r.open(conn(1))
		old := Entry{Conn: conn(1), ID: r.ids[conn(1)], State: TimeWait}
		for i, step := range tt.steps {
			switch step {
			case syn:
				check(t, "the SYN passes", r.syn(conn(1)), true)
			case timeWait:
				r.Update(r.now, old)
			case destroy:
				r.Destroy(r.now, old)
			case begins:
				r.begins(conn(1))
			case opens:
				r.becomes(conn(1), Established)
			}
			if got := r.Counters().Connections; got != uint64(tt.counts[i]) {
				t.Errorf("%v, after step %d: %d connections, want %d", tt.steps, i, got, tt.counts[i])
			}
		}
		r.want(local, 1, 0)
		r.ends(conn(1))
		r.want(local, 0, 0)
	}
}

// Reset while half-open, and tried again from the same port.
func TestClosedThenReopened(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	for range 3 {
		r.half(conn(1))
		r.becomes(conn(1), Close)
		r.want(local, 0, 0)
	}
	r.open(conn(1))
	r.becomes(conn(1), Close) // a reset ends an open one as well
	r.open(conn(2))
	r.want(local, 1, 0)
	r.ends(conn(1)) // ten seconds after its CLOSE
	r.want(local, 1, 0)
}

// Connections whose SYN nobody saw: they count, also beyond the limit.
func TestDiscovered(t *testing.T) {
	r := newRig(t, one(Limits{Max: 2}, false))
	for n := range 3 {
		r.begins(conn(n))
	}
	r.becomes(conn(2), Established)
	r.want(local, 1, 2)
	check(t, "passes", r.syn(conn(9)), false)
	r.Update(r.now, Entry{Conn: to("10.9.9.9", 1), ID: 77, State: Established}) // nobody's
	r.Destroy(r.now, Entry{Conn: conn(77), ID: 5})
	check(t, "connections", r.Counters().Connections, 3)
	check(t, "missed", r.Counters().Missed, 0)
	r.pass(time.Minute) // conntrack knows them: no five seconds
	check(t, "connections a minute later", r.Counters().Connections, 3)
}

func TestResync(t *testing.T) {
	r := newRig(t, one(Limits{Max: 9}, false))
	for n := range 4 {
		r.open(conn(n)) // ids 1 to 4
	}
	r.half(conn(4)) // 5
	r.syn(conn(5))  // admitted, conntrack has not told of it
	r.open(conn(9)) // 6
	r.Resync(r.now, []Entry{
		{Conn: conn(0), ID: 1, State: Established},
		{Conn: conn(1), ID: 2, State: TimeWait},      // its closing was missed, 1
		{Conn: conn(2), ID: 30, State: SYNRecv},      // ended and begun anew, 2
		{Conn: conn(4), ID: 5, State: Established},   // its opening, 3
		{Conn: conn(6), ID: 40, State: Established},  // begun, 4
		{Conn: conn(7), ID: 41, State: TimeWait},     // never counted
		{Conn: conn(8), ID: 42, State: SYNSent},      // begun, 5
		{Conn: to(other, 1), ID: 43, State: SYNSent}, // nobody's
		{Conn: conn(9), ID: 60, State: TimeWait},     // ended, begun anew and ended again, 6
	}) // conn(3) is gone, 7
	r.want(local, 3, 3)
	check(t, "missed", r.Counters().Missed, 7)

	for _, tt := range []struct {
		n    int
		want phase
	}{{0, opened}, {2, halfOpen}, {4, opened}, {5, admitted}, {6, opened}, {8, halfOpen}} {
		key := conn(tt.n).key()
		if got, known := r.conns[key]; !known || got.phase != tt.want {
			t.Errorf("connection %d: phase %d, known %v, want %d", tt.n, got.phase, known, tt.want)
		}
	}
	r.Destroy(r.now, Entry{Conn: conn(2), ID: 3}) // of the one that ended
	r.want(local, 3, 3)
	r.Resync(r.now, nil) // conntrack was flushed
	r.want(local, 0, 1)
	check(t, "missed", r.Counters().Missed, 12)
	r.pass(confirmWithin)
	r.want(local, 0, 0)
	check(t, "clients", len(r.clients), 0)
}

// The entry of an earlier connection must not end, nor open, the one just
// admitted; that of its own confirms it.
func TestResyncWhileAdmitted(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	r.syn(conn(1))
	r.Resync(r.now, []Entry{{Conn: conn(1), ID: 1, State: TimeWait}})
	r.want(local, 0, 1)
	r.Resync(r.now, []Entry{{Conn: conn(1), ID: 2, State: SYNSent}})
	r.want(local, 0, 1)
	r.pass(confirmWithin)
	r.want(local, 0, 1)
	check(t, "unconfirmed", r.Counters().Unconfirmed, 0)
}

// Conntrack's ids are hashes: 0 is one of them, and not that of a connection that
// was just admitted.
func TestIDZero(t *testing.T) {
	r := newRig(t, one(Limits{Max: 1}, false))
	r.syn(conn(1))
	r.Update(r.now, Entry{Conn: conn(1), ID: 0, State: TimeWait})
	r.Destroy(r.now, Entry{Conn: conn(1)})
	r.want(local, 0, 1)
	r.Update(r.now, Entry{Conn: conn(1), ID: 0, State: Established})
	r.want(local, 1, 0)
	r.Destroy(r.now, Entry{Conn: conn(1)})
	r.want(local, 0, 0)
}

// Of two entries of one connection, one through each of the host's addresses, the
// one that ends does not end the count of the other.
func TestTwoEntriesOfOneConnection(t *testing.T) {
	live, ended := Entry{Conn: conn(1), ID: 2, State: Established}, Entry{Conn: conn(1), ID: 1, State: TimeWait}
	for _, dump := range [][]Entry{{live, ended}, {ended, live}} {
		r := newRig(t, one(Limits{Max: 5}, false))
		r.Resync(r.now, dump)
		r.want(local, 1, 0)
		r.Resync(r.now, dump)
		r.want(local, 1, 0)
	}
}

// A connection of the same ports begins anew and its predecessor's end was lost:
// it is as young as it looks, and no longer proven.
func TestBegunAnewIsYoung(t *testing.T) {
	r := newRig(t, one(Limits{0, 2}, true))
	r.openProven(conn(1))
	r.pass(time.Minute)
	r.begins(conn(1))
	r.want(local, 0, 1)
	check(t, "passes", r.syn(conn(2)), true) // the second half-open one: intercept
	check(t, "events", r.kinds(), "intercept-entered ")
	r.pass(2 * time.Second)
	check(t, "cut", len(r.TakeKills()), 0)
}
