package static

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// taken are the kills since the last call: the clients' ports, with an h for a
// half-open connection, a t for one that has been for too long.
func (r *rig) taken() string {
	var all []string
	for _, k := range r.TakeKills() {
		mark := [...]string{Closed: "", Intercepted: "h", TimedOut: "t"}[k.Cause]
		if k.ID != r.ids[k.Conn] {
			mark += "?"
		}
		all = append(all, fmt.Sprint(k.Client.Port(), mark))
	}
	return strings.Join(all, " ")
}

// A connection that conntrack takes for closed counts no more, and loses its entry:
// two seconds later, or a quarter of a second where as many entries of its host stay
// as it may have connections.
func TestClosedLosesItsEntry(t *testing.T) {
	r := newRig(t, one(Limits{2, 0}, true))
	for port := range 3 {
		r.open(conn(port))
		r.becomes(conn(port), TimeWait)
		r.want(local, 0, 0)
	}
	r.pass(200 * time.Millisecond)
	check(t, "at first", r.taken(), "")
	r.pass(50 * time.Millisecond)
	check(t, "the third", r.taken(), fmt.Sprint(conn(2).Client.Port()))
	r.pass(1700 * time.Millisecond)
	check(t, "before two seconds", r.taken(), "")
	r.pass(50 * time.Millisecond)
	check(t, "after them", r.taken(), fmt.Sprint(conn(0).Client.Port(), " ", conn(1).Client.Port()))

	r.open(conn(3))
	r.becomes(conn(3), Close)
	r.pass(time.Second)
	check(t, "there is room again", r.taken(), "")
	r.pass(time.Second)
	check(t, "a reset one", r.taken(), fmt.Sprint(conn(3).Client.Port()))
	r.open(conn(4))
	r.ends(conn(4))
	r.pass(5 * time.Second)
	check(t, "one that conntrack has removed itself", r.taken(), "")
}

// conntrack gives a connection from a port that is used again the id of the one
// before, if it pleases: its entry stays, and its SYN does not pass while the other
// entry is being deleted.
func TestClosedPortUsedAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		after  time.Duration // from the end of the first to the SYN of the second
		proven bool
		passes bool
		taken  string // kills before; there are none since
	}{
		{"at once", 0, false, true, ""},
		{"within two seconds", time.Second, false, true, ""},
		{"as it is being deleted", 2100 * time.Millisecond, false, false, "40001"},
		{"a SYN that comes once", 2100 * time.Millisecond, true, true, "40001"},
		{"later", 2600 * time.Millisecond, false, true, "40001"},
	} {
		r := newRig(t, one(Limits{5, 0}, true))
		c := conn(1)
		c.Client = netip.AddrPortFrom(c.Client.Addr(), 40001)
		r.open(c)
		r.becomes(c, TimeWait)
		r.pass(tt.after)
		check(t, tt.name+": before", r.taken(), tt.taken)
		check(t, tt.name, r.SYN(r.now, SYN{Conn: c, Interface: 3, Proven: tt.proven}), tt.passes)
		r.pass(500 * time.Millisecond)
		check(t, tt.name+": again", r.syn(c), true)
		r.begins(c)
		r.becomes(c, Established)
		r.pass(5 * time.Second)
		check(t, tt.name+": since", r.taken(), "")
		r.want(local, 1, 0)
		check(t, tt.name+": remembered", len(r.ended)+len(r.fresh)+len(r.closing)+len(r.killed), 0)
	}
}

// A SYN may be decided on before conntrack's word of the end that came before it,
// and the kernel gives the new entry the old one's id.
func TestClosedAfterTheNextSYN(t *testing.T) {
	r := newRig(t, one(Limits{5, 0}, true))
	c := conn(1)
	r.open(c)
	id := r.ids[c]
	check(t, "SYN", r.syn(c), true)
	r.becomes(c, Close)
	r.Destroy(r.now, Entry{Conn: c, ID: id, State: 0})
	r.Update(r.now, Entry{Conn: c, ID: id, State: SYNSent})
	r.Update(r.now, Entry{Conn: c, ID: id, State: Established})
	r.pass(5 * time.Second)
	check(t, "kills", r.taken(), "")
	r.want(local, 1, 0)
	check(t, "remembered", len(r.ended)+len(r.fresh)+len(r.closing)+len(r.killed), 0)
}

// conntrack ignores a SYN where the end of the connection before may have been a
// fake: it keeps nobody's entry, whether it is refused or admitted.
func TestClosedKeptByNoSYN(t *testing.T) {
	for _, tt := range []struct {
		name  string
		full  bool
		after time.Duration // from the end to the SYN
		stays time.Duration // from the SYN on
		gone  time.Duration // at the latest, from there
	}{
		{"refused at once", true, 0, closingFor - 100*time.Millisecond, 100 * time.Millisecond},
		{"refused in time", true, closingFor - 100*time.Millisecond, 0, 100 * time.Millisecond},
		{"admitted at once", false, 0, confirmWithin - 100*time.Millisecond, freshFor + 150*time.Millisecond},
		{"admitted in time", false, closingFor - 100*time.Millisecond, confirmWithin - 100*time.Millisecond, freshFor + 150*time.Millisecond},
	} {
		r := newRig(t, one(Limits{1, 0}, true))
		r.open(conn(1))
		r.becomes(conn(1), Close)
		if tt.full {
			r.open(conn(2))
		}
		r.pass(tt.after)
		check(t, tt.name, r.syn(conn(1)), !tt.full)
		r.pass(tt.stays)
		check(t, tt.name+": before", r.taken(), "")
		r.pass(tt.gone)
		check(t, tt.name+": then", r.taken(), fmt.Sprint(conn(1).Client.Port()))
		r.pass(time.Second)
		check(t, tt.name+": remembered", len(r.ended)+len(r.fresh)+len(r.closing)+len(r.killed), 0)
	}
}

// Without a limit of all connections nobody gains by an end that is none.
func TestClosedWithoutLimit(t *testing.T) {
	for _, tt := range []struct {
		host, client Limits
		want         bool
	}{
		{Limits{0, 5}, Limits{}, false},
		{Limits{0, 5}, Limits{1, 0}, true},
		{Limits{0, 5}, Limits{0, 1}, false},
		{Limits{9, 0}, Limits{}, true},
	} {
		cfg := one(tt.host, false)
		cfg.Client = tt.client
		r := newRig(t, cfg)
		r.open(conn(1))
		r.becomes(conn(1), TimeWait)
		r.pass(2 * time.Second)
		check(t, fmt.Sprint(tt.host, tt.client), r.taken() != "", tt.want)
	}
}

// What a dump says is closed and nobody has counted loses its entry too, of limited
// hosts only: it ended while events were lost, or before the daemon was there.
func TestClosedInDump(t *testing.T) {
	r := newRig(t, one(Limits{9, 0}, true))
	r.open(conn(1))
	entries := []Entry{
		{Conn: conn(1), ID: r.ids[conn(1)], State: Established}, {Conn: conn(2), ID: 52, State: TimeWait}, {Conn: conn(3), ID: 53, State: Close}, {Conn: to(other, 4), ID: 54, State: TimeWait}, {Conn: conn(5), ID: 55, State: 0},
	}
	for _, e := range entries {
		r.ids[e.Conn] = e.ID
	}
	r.Resync(r.now, entries)
	check(t, "at once", r.taken(), "")
	r.pass(2 * time.Second)
	check(t, "later", r.taken(), fmt.Sprint(conn(2).Client.Port(), " ", conn(3).Client.Port()))
	r.want(local, 1, 0)
}

// However many end at once, those that stay are bounded.
func TestClosedBound(t *testing.T) {
	r := newRig(t, one(Limits{MaxConns, 0}, true))
	const n = maxFresh + 10
	for i := range n {
		e := Entry{Conn: nth(i, conn(1).Server.Addr()), ID: uint32(i + 1), State: Established}
		r.Update(r.now, e)
		e.State = TimeWait
		r.Update(r.now, e)
	}
	check(t, "at once", len(r.TakeKills()), 10)
	r.pass(1900 * time.Millisecond)
	check(t, "before two seconds", len(r.TakeKills()), 0)
	for range maxFresh / mostAtOnce {
		r.pass(100 * time.Millisecond)
		check(t, "of a tick", len(r.TakeKills()), mostAtOnce)
	}
	check(t, "waiting", len(r.fresh)+len(r.closing), 0)
}
