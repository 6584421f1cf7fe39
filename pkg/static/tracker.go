package static

import (
	"net/netip"
	"slices"
	"time"
)

// Conn is a connection as the forward hook sees it: behind DNAT, before SNAT.
type Conn struct{ Client, Server netip.AddrPort }

// SYN is the first packet of a connection.
type SYN struct {
	Conn
	Interface uint32 // that it came in by; 0 if the box itself sent it
	Proven    bool   // synproxy sent it: its client has answered a cookie
}

const (
	// MaxConns is how many connections are counted, of all hosts. It is as many
	// as conntrack holds on a large box; at some 140 octets each, 150 MB, twice
	// that if all came within seconds, each of another client, and 600 MB if each
	// is to another host of a network too. Beyond it, SYNs are refused.
	MaxConns = 1 << 20

	// confirmWithin is how long conntrack may take to tell of a connection whose
	// SYN was admitted. Another chain may have dropped it meanwhile.
	confirmWithin = 5 * time.Second
)

// connKey names a connection. It has no pointers, so that a large table costs the
// garbage collector nothing.
type connKey struct {
	client, server         [16]byte
	clientPort, serverPort uint16
}

// key is the key of c.
func (c Conn) key() connKey {
	return connKey{c.Client.Addr().As16(), c.Server.Addr().As16(), c.Client.Port(), c.Server.Port()}
}

// host is the server's address of k.
func (k *connKey) host() netip.Addr { return netip.AddrFrom16(k.server).Unmap() }

// conn is the Conn of k. An IPv4 address in the form of IPv6 has become one of
// IPv4.
func (k *connKey) conn() Conn {
	at := func(a [16]byte, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), port)
	}
	return Conn{at(k.client, k.clientPort), at(k.server, k.serverPort)}
}

// phase is what is known of a connection.
type phase uint8

// The phases.
const (
	admitted phase = iota // its SYN was let through; conntrack has not told of it
	halfOpen
	opened
)

// tracked is one connection that counts.
type tracked struct {
	id     uint32 // conntrack's, 0 while admitted
	dump   uint32 // the number of the last one before conntrack last told of it
	phase  phase
	proven bool          // it is the second half of a handshake that synproxy has completed
	since  time.Duration // of its SYN, or when conntrack first told of it
}

// Tracker counts connections and decides on SYNs. It belongs to one goroutine at
// a time. Times are those of any clock that never goes back.
type Tracker struct {
	cfg   Config
	index mappings
	now   time.Duration

	conns   map[connKey]tracked
	hosts   map[netip.Addr]*host   // that have connections or something to tell
	clients map[netip.Addr]*client // that have connections
	flooded map[netip.Addr]*host   // of hosts: those in intercept
	young   []start                // admitted SYNs and half-open connections that conntrack told of, the oldest first
	silent  []start                // those of them that stayed half-open, likewise
	crowded silences               // of refusals because MaxConns connections are counted, of all hosts
	second  time.Duration          // of now, when the seconds of flooded were last closed

	dump    uint32 // how many there were
	changed bool   // what Sets returns
	events  []Event
	kills   []Kill
	fresh   []closed           // connections that have just ended, the oldest first
	closing []closed           // those of them whose entries stay for a while, likewise
	killed  []closed           // those whose entries are being deleted, likewise
	ended   map[connKey]ending // of all of these
	serial  uint64             // the last one given
	count   Counters
}

// start is when a connection began.
type start struct {
	key connKey
	at  time.Duration
}

// Counters are what a Tracker has done. Connections is a gauge, the others only
// grow.
type Counters struct {
	Connections uint64 // counted now
	SYNs        uint64 // decided on
	Refused     uint64 // of them: over a limit
	Delayed     uint64 // of them: dropped to come again, answered with a cookie or when the entry of an ended connection is gone
	Overflow    uint64 // refused or not counted because MaxConns connections are
	Unconfirmed uint64 // admitted, but never seen by conntrack
	Missed      uint64 // changes that only a dump told of
	EventsLost  uint64 // records that nobody took
}

// host is a local address with limits.
type host struct {
	local   netip.Addr
	globals []netip.Addr // by which clients reach it
	limits  Limits
	counts
	peak    uint32
	denied  uint64 // SYNs refused
	cookies uint64 // SYNs answered with a cookie
	told    silences
	second  time.Duration // when the one of vain began
	vain    uint32        // SYNs in it that opened no connection
	closing uint32        // of the tracker's that are the host's
	flood   *flood        // nil unless in intercept
}

// client is an address with connections to limited hosts.
type client struct {
	counts
	told silences
}

// New returns a Tracker that limits nothing yet.
func New() *Tracker {
	return &Tracker{
		conns: map[connKey]tracked{}, hosts: map[netip.Addr]*host{}, clients: map[netip.Addr]*client{}, flooded: map[netip.Addr]*host{},
		ended: map[connKey]ending{},
	}
}

// Configure puts cfg in force. Connections that exist stay as they are, also
// where there are more than the new limits allow. It reports whether hosts are
// counted now that were not before: their connections are known only after the
// next Resync.
func (t *Tracker) Configure(now time.Duration, cfg Config) (resync bool) {
	t.now = now
	old := t.cfg
	t.cfg, t.index = cfg, index(cfg.Mappings)
	gone := map[netip.Addr]*host{}
	for addr, h := range t.hosts {
		if !t.describe(h) {
			gone[addr] = h
		}
	}
	t.forget(gone)
	t.changed = true
	return !slices.Equal(old.Mappings, cfg.Mappings) || old.Host != cfg.Host || old.Client != cfg.Client
}

// describe fills in what the configuration says of a host, and reports whether it
// limits its connections.
func (t *Tracker) describe(h *host) bool {
	ms := t.index.of(h.local)
	if ms == nil {
		return false
	}
	h.limits = t.cfg.limits(ms)
	h.globals = t.index.globals(h.local)
	return !h.limits.none() || !t.cfg.Client.none()
}

// forget takes hosts and their connections out of the count.
func (t *Tracker) forget(gone map[netip.Addr]*host) {
	if len(gone) == 0 {
		return
	}
	for k := range t.conns {
		if gone[k.host()] != nil {
			t.remove(k)
		}
	}
	for addr, h := range gone {
		if h.flood != nil {
			t.leave(h, 0)
		}
		delete(t.hosts, addr)
	}
}

// host returns what is known of a local address, nil if it has no limits.
func (t *Tracker) host(addr netip.Addr) *host {
	if h := t.hosts[addr]; h != nil {
		return h
	}
	h := &host{local: addr}
	if !t.describe(h) {
		return nil
	}
	t.hosts[addr] = h
	return h
}

// client returns what is known of a client's address.
func (t *Tracker) client(addr netip.Addr) *client {
	c := t.clients[addr]
	if c == nil {
		c = &client{}
		t.clients[addr] = c
	}
	return c
}

// SYN decides whether a SYN may pass, and counts the connection from then on. A
// SYN of a connection that is counted passes: it is repeated, or the server
// answers it as RFC 5961 section 4 says.
func (t *Tracker) SYN(now time.Duration, s SYN) (pass bool) {
	t.now = now
	t.count.SYNs++
	key := s.key()
	s.Conn = key.conn()
	if !t.reopens(key, s.Proven) {
		t.count.Delayed++
		return false
	}
	if conn, known := t.conns[key]; known {
		if s.Proven {
			t.prove(key, conn)
		} else {
			t.inVain(t.hosts[s.Server.Addr()], s, false)
		}
		return true
	}
	h := t.host(s.Server.Addr())
	if h == nil {
		return true // no longer limited
	}
	if len(t.conns) >= MaxConns {
		t.count.Overflow++
		h.denied++
		t.tell(&t.crowded, Event{Kind: Refused, SYN: s, Global: h.globals[0], Count: MaxConns, Limit: MaxConns, Dropped: true})
		t.pruneHost(h)
		return false
	}
	c := t.client(s.Client.Addr())
	if !t.decide(h, c, s) {
		t.prune(h, c, s.Client.Addr())
		return false
	}
	t.add(key, h, c, tracked{phase: admitted, proven: s.Proven, since: now})
	t.young = append(t.young, start{key, now})
	if s.Proven {
		h.answer()
	}
	if l := h.limits.Embryonic; l > 0 && h.half-h.proven >= l {
		t.enter(h, Event{Kind: InterceptEntered, SYN: s, Count: h.half, Limit: l})
	}
	return true
}

// prove notes that the client of a connection has answered a cookie. Its SYN was
// admitted before the host came into intercept.
func (t *Tracker) prove(key connKey, conn tracked) {
	if conn.proven || conn.phase == opened {
		return
	}
	conn.proven = true
	t.change(key, conn)
	t.hosts[key.host()].answer()
}

// decide says whether a new connection of c to h may be opened, and does what
// follows if not.
func (t *Tracker) decide(h *host, c *client, s SYN) bool {
	ofHost := t.synproxy(h) && h.limits.Embryonic > 0
	ofClient := ofHost || t.synproxy(h) && t.cfg.Client.Embryonic > 0 // anybody can send SYNs in a client's name
	byHost, byClient := h.limits.judge(&h.counts, ofHost, s.Proven), t.cfg.Client.judge(&c.counts, ofClient, s.Proven)
	if byHost == admit && byClient == admit {
		return true
	}
	ev := Event{SYN: s, Global: h.globals[0], Dropped: true}
	counts, limits, told := &h.counts, h.limits, &h.told
	if byClient > byHost {
		counts, limits, told, ev.PerClient = &c.counts, t.cfg.Client, &c.told, true
	}
	if ev.PerClient && byClient == proxy && t.cfg.Client.Embryonic == 0 { // it is the host's limit that has cookies sent
		counts, limits, ev.PerClient = &h.counts, h.limits, false
	}
	switch max(byHost, byClient) {
	case refuse:
		ev.Kind, ev.Count, ev.Limit, ev.Embryonic = Refused, counts.total(), limits.Max, limits.Embryonic
	case refuseHalf:
		ev.Kind, ev.Count, ev.Limit = EmbryonicRefused, counts.half, limits.Embryonic
	case proxy:
		ev.Count, ev.Limit = counts.half, limits.Embryonic
		if !t.passesBy(h) {
			t.count.Delayed++
			ev.Kind = InterceptEntered
			t.enter(h, ev)
			return false
		}
		ev.Kind, ev.Unmapped = EmbryonicRefused, true
	}
	t.count.Refused++
	h.denied++
	t.tell(told, ev)
	t.inVain(h, s, true)
	return false
}

// inVain notes a SYN that opens no connection: it is repeated, or refused and
// dropped. A flood of these is for the kernel, as one of half-open connections is.
func (t *Tracker) inVain(h *host, s SYN, dropped bool) {
	if t.now-h.second >= time.Second {
		h.second, h.vain = t.now, 0
	}
	h.vain++
	if l := h.limits.Embryonic; l > 0 && h.vain >= max(l, mostInVain) {
		t.enter(h, Event{Kind: InterceptEntered, SYN: s, Count: h.half + h.vain, Limit: l, Dropped: dropped})
	}
}

// mostInVain is how many SYNs of a second may open no connection before their host
// enters intercept, where its embryonic limit is not more: far more than honest
// clients repeat, far less than what occupies the daemon.
const mostInVain = 100

// add counts a connection.
func (t *Tracker) add(key connKey, h *host, c *client, conn tracked) {
	t.conns[key] = conn
	h.put(conn, 1)
	c.put(conn, 1)
	h.peak = max(h.peak, h.total())
	t.touch(h)
}

// touch notes that the sets change if a host in intercept has become full, or is
// no longer.
func (t *Tracker) touch(h *host) {
	if h.flood != nil && h.flood.full != h.full() {
		h.flood.full, t.changed = h.full(), true
	}
}

// put adds a connection of that phase to the counts; by is 1, or -1 to take it
// away.
func (c *counts) put(conn tracked, by int32) {
	if conn.phase == opened {
		c.open += uint32(by)
		return
	}
	c.half += uint32(by)
	if conn.proven {
		c.proven += uint32(by)
	}
}

// remove ends the count of a connection.
func (t *Tracker) remove(key connKey) {
	conn, ok := t.conns[key]
	if !ok {
		return
	}
	delete(t.conns, key)
	ends := key.conn()
	h, c := t.hosts[ends.Server.Addr()], t.clients[ends.Client.Addr()]
	h.put(conn, -1)
	c.put(conn, -1)
	t.touch(h)
	t.prune(h, c, ends.Client.Addr())
}

// prune forgets a client without connections, and perhaps the host.
func (t *Tracker) prune(h *host, c *client, addr netip.Addr) {
	if c.total() == 0 {
		delete(t.clients, addr)
	}
	t.pruneHost(h)
}

// pruneHost forgets a host without connections if there are many. What it has to
// tell is lost with it: else every address of a /64 network could be made to stay.
func (t *Tracker) pruneHost(h *host) {
	if h.total() == 0 && h.flood == nil && len(t.hosts) > keepHosts {
		delete(t.hosts, h.local)
	}
}

// keepHosts is how many hosts are remembered for what they have to tell alone.
const keepHosts = 4096

// change gives a connection another phase.
func (t *Tracker) change(key connKey, to tracked) {
	from := t.conns[key]
	t.conns[key] = to
	if from.phase == to.phase && from.proven == to.proven {
		return
	}
	ends := key.conn()
	h, c := t.hosts[ends.Server.Addr()], t.clients[ends.Client.Addr()]
	h.put(from, -1)
	h.put(to, 1)
	c.put(from, -1)
	c.put(to, 1)
	t.touch(h)
}
