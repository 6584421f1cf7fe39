package static

import (
	"net/netip"
	"slices"
	"time"
)

// oracle is a slow Tracker: a list of connections, from which every count is made
// anew each time, and limits that somebody has worked out.
type oracle struct {
	now    time.Duration
	setup  setup
	list   []listed
	peaks  map[netip.Addr]int
	denied map[netip.Addr]int
	vain   map[netip.Addr][]time.Duration // when the SYNs came that opened nothing
}

// listed is a connection that counts.
type listed struct {
	conn   Conn
	id     uint32
	told   bool // conntrack has told of it
	open   bool
	proven bool
	since  time.Duration
}

// setup is a configuration and what follows from it for each host.
type setup struct {
	cfg    Config
	limits map[string]Limits // of the hosts that are counted
}

// setups are the configurations that the oracle knows.
var setups = []setup{
	{Config{Synproxy: true, Mappings: oracleMappings},
		map[string]Limits{local: {4, 2}, other: {3, 0}, "192.168.2.9": {0, 2}, "fd00::25": {3, 5}}},
	{Config{Synproxy: false, Mappings: oracleMappings},
		map[string]Limits{local: {4, 2}, other: {3, 0}, "192.168.2.9": {0, 2}, "fd00::25": {3, 5}}},
	{Config{Synproxy: true, Client: Limits{3, 2}, Mappings: []Mapping{
		mapping(global, local, Limits{2, 1}),
		mapping("1.1.1.2", other, Limits{}),
		mapping("203.0.113.0/24", "192.168.2.0/24", Limits{5, 5})}},
		map[string]Limits{local: {2, 1}, other: {}, "192.168.2.9": {5, 5}}},
	{Config{Synproxy: true, Host: Limits{6, 0}, Mappings: []Mapping{
		mapping("1.1.1.2", other, Limits{1, 1}),
		mapping("203.0.113.0/24", "192.168.2.0/24", Limits{0, 2}),
		mapping("2001:db8::25", "fd00::25", Limits{})}},
		map[string]Limits{other: {1, 1}, "192.168.2.9": {6, 2}, "fd00::25": {6, 0}}},
	{Config{Mappings: []Mapping{mapping(global, local, Limits{})}}, map[string]Limits{}},
	{Config{Synproxy: true, Client: Limits{Max: 2}, Mappings: oracleMappings},
		map[string]Limits{local: {4, 2}, other: {3, 0}, "192.168.2.9": {0, 2}, "fd00::25": {3, 5}}},
}

// oracleMappings have a host with two addresses.
var oracleMappings = []Mapping{
	mapping(global, local, Limits{4, 9}),
	mapping("2.2.2.2", local, Limits{9, 2}),
	mapping("1.1.1.2", other, Limits{3, 0}),
	mapping("203.0.113.0/24", "192.168.2.0/24", Limits{0, 2}),
	mapping("2001:db8::25", "fd00::25", Limits{3, 5}),
}

// find returns where a connection is in the list, -1 if it is not.
func (o *oracle) find(c Conn) int {
	return slices.IndexFunc(o.list, func(l listed) bool { return l.conn == c })
}

// counts are those of the connections that are wanted.
func (o *oracle) counts(want func(Conn) bool) (c counts) {
	for _, l := range o.list {
		switch {
		case !want(l.conn):
		case l.open:
			c.open++
		case l.proven:
			c.half, c.proven = c.half+1, c.proven+1
		default:
			c.half++
		}
	}
	return c
}

// host and client are the counts of an address.
func (o *oracle) host(a netip.Addr) counts {
	return o.counts(func(c Conn) bool { return c.Server.Addr() == a })
}
func (o *oracle) client(a netip.Addr) counts {
	return o.counts(func(c Conn) bool { return c.Client.Addr() == a })
}

// insert puts a connection into the list.
func (o *oracle) insert(l listed) {
	o.list = append(o.list, l)
	a := l.conn.Server.Addr()
	n := o.host(a)
	o.peaks[a] = max(o.peaks[a], int(n.open+n.half))
}

// syn says whether a SYN passes, and whether the host must be in intercept then. It
// has been since entered, if that is not 0.
func (o *oracle) syn(s SYN, entered time.Duration) (pass, intercept bool) {
	l, counted := o.setup.limits[s.Server.Addr().String()]
	if i := o.find(s.Conn); i >= 0 {
		o.list[i].proven = o.list[i].proven || s.Proven && !o.list[i].open
		return true, !s.Proven && o.inVain(s.Server.Addr(), l)
	}
	if !counted {
		return true, false
	}
	pass = true
	for _, x := range []struct {
		is      counts
		l       Limits
		cookies uint32
	}{{o.host(s.Server.Addr()), l, l.Embryonic}, {o.client(s.Client.Addr()), o.setup.cfg.Client, o.setup.cfg.Client.Embryonic + l.Embryonic}} {
		cookies := o.setup.cfg.Synproxy && x.cookies > 0
		full := x.l.Max > 0 && x.is.open+x.is.half >= x.l.Max
		flooded := x.l.Embryonic > 0 && x.is.half-x.is.proven >= x.l.Embryonic && !s.Proven
		switch {
		case full && !cookies, cookies && x.l.Max > 0 && x.is.open+x.is.proven >= x.l.Max, flooded && !cookies:
			o.denied[s.Server.Addr()]++
			return false, o.inVain(s.Server.Addr(), l) // for good, whatever the other limit says
		case full && !s.Proven, flooded:
			pass, intercept = false, true
		}
	}
	// Of two verdicts the worse one holds: the loop ends at a refusal only.
	if !pass && entered != 0 && o.now-entered >= 2*time.Second { // synproxy would have answered it
		o.denied[s.Server.Addr()]++
		return false, o.inVain(s.Server.Addr(), l)
	}
	if pass {
		o.insert(listed{conn: s.Conn, proven: s.Proven, since: o.now})
		n := o.host(s.Server.Addr())
		intercept = o.setup.cfg.Synproxy && l.Embryonic > 0 && n.half-n.proven >= l.Embryonic
	}
	return pass, intercept
}

// inVain says whether a SYN that opens nothing is one too many of its second, which
// begins with the first one.
func (o *oracle) inVain(host netip.Addr, l Limits) bool {
	list := o.vain[host]
	if len(list) > 0 && o.now-list[0] >= time.Second {
		list = nil
	}
	o.vain[host] = append(list, o.now)
	return o.setup.cfg.Synproxy && l.Embryonic > 0 && len(o.vain[host]) >= max(100, int(l.Embryonic))
}

// update takes an entry that is new or has changed.
func (o *oracle) update(e Entry) {
	counts, open := false, false
	switch e.State {
	case SYNSent, SYNRecv, SYNSent2:
		counts = true
	case Established, 4, 5, 6:
		counts, open = true, true
	}
	i := o.find(e.Conn)
	switch _, limited := o.setup.limits[e.Server.Addr().String()]; {
	case i < 0 && counts && limited:
		o.insert(listed{conn: e.Conn, id: e.ID, told: true, open: open, since: o.now})
	case i < 0:
	case counts && o.list[i].told && o.list[i].id != e.ID:
		o.list[i] = listed{conn: e.Conn, id: e.ID, told: true, open: open, since: o.now}
	case counts:
		o.list[i].id, o.list[i].told, o.list[i].open = e.ID, true, open
	case o.list[i].told && o.list[i].id == e.ID:
		o.list = slices.Delete(o.list, i, i+1)
	}
}

// destroy takes an entry that was removed.
func (o *oracle) destroy(e Entry) {
	if i := o.find(e.Conn); i >= 0 && o.list[i].told && o.list[i].id == e.ID {
		o.list = slices.Delete(o.list, i, i+1)
	}
}

// resync takes all entries: what is not among them has ended.
func (o *oracle) resync(entries []Entry) {
	for _, e := range entries {
		o.update(e)
	}
	o.list = slices.DeleteFunc(o.list, func(l listed) bool {
		return l.told && !slices.ContainsFunc(entries, func(e Entry) bool {
			return e.Conn == l.conn && e.State >= SYNSent && e.State != TimeWait && e.State != Close
		})
	})
}

// tick passes time.
func (o *oracle) tick(now time.Duration) {
	o.now = now
	o.list = slices.DeleteFunc(o.list, func(l listed) bool { return !l.told && now-l.since >= 5*time.Second })
}

// configure puts another configuration in force.
func (o *oracle) configure(s setup) {
	o.setup = s
	gone := func(a netip.Addr) bool { _, counted := s.limits[a.String()]; return !counted }
	o.list = slices.DeleteFunc(o.list, func(l listed) bool { return gone(l.conn.Server.Addr()) })
	for a := range o.peaks {
		if gone(a) {
			delete(o.peaks, a)
		}
	}
	for a := range o.denied {
		if gone(a) {
			delete(o.denied, a)
		}
	}
	for a := range o.vain {
		if gone(a) {
			delete(o.vain, a)
		}
	}
}
