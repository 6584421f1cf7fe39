package static

import (
	"net/netip"
	"testing"
	"time"
)

// rig is a Tracker, a clock, and the ids that conntrack gives.
type rig struct {
	t *testing.T
	*Tracker
	now time.Duration
	ids map[Conn]uint32 // of the entry there is now
	id  uint32          // the last one given
}

// boot is the time at which every rig begins. The clock of a machine is never 0.
const boot = 1000 * time.Second

// The hosts of the tests.
const (
	local  = "192.168.1.1"
	global = "1.1.1.1"
	other  = "192.168.1.2"
)

// newRig is a rig with that configuration.
func newRig(t *testing.T, cfg Config) *rig {
	r := &rig{t: t, Tracker: New(), now: boot, ids: map[Conn]uint32{}}
	r.Configure(r.now, cfg)
	r.Tick(r.now)
	return r
}

// one is the configuration with one host.
func one(l Limits, synproxy bool) Config {
	return Config{Mappings: []Mapping{mapping(global, local, l)}, Synproxy: synproxy}
}

// conn is connection n to local, each of another client.
func conn(n int) Conn { return to(local, n) }

// to is connection n to a host, each of another client.
func to(server string, n int) Conn {
	client := netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)})
	return Conn{netip.AddrPortFrom(client, 40000), netip.AddrPortFrom(netip.MustParseAddr(server), 25)}
}

// of is a connection of a client that has several.
func of(client string, port uint16, server string) Conn {
	return Conn{netip.AddrPortFrom(netip.MustParseAddr(client), port), netip.AddrPortFrom(netip.MustParseAddr(server), 25)}
}

// syn is the SYN of an ordinary client.
func (r *rig) syn(c Conn) bool { return r.SYN(r.now, SYN{Conn: c, Interface: 3}) }

// proven is the SYN of synproxy.
func (r *rig) proven(c Conn) bool { return r.SYN(r.now, SYN{Conn: c, Proven: true}) }

// begins has conntrack make an entry of a connection.
func (r *rig) begins(c Conn) {
	r.id++
	r.ids[c] = r.id
	r.becomes(c, SYNSent)
}

// becomes has the entry of a connection change its state.
func (r *rig) becomes(c Conn, s State) { r.Update(r.now, Entry{Conn: c, ID: r.ids[c], State: s}) }

// ends has conntrack remove the entry.
func (r *rig) ends(c Conn) { r.Destroy(r.now, Entry{Conn: c, ID: r.ids[c]}) }

// half opens a connection as far as the server's answer.
func (r *rig) half(c Conn) {
	r.t.Helper()
	if !r.syn(c) {
		r.t.Fatalf("the SYN of %v is refused", c)
	}
	r.begins(c)
	r.becomes(c, SYNRecv)
}

// open opens a connection.
func (r *rig) open(c Conn) {
	r.t.Helper()
	r.half(c)
	r.becomes(c, Established)
}

// openProven opens a connection whose client answered a cookie.
func (r *rig) openProven(c Conn) {
	r.t.Helper()
	if !r.proven(c) {
		r.t.Fatalf("the SYN of %v is refused", c)
	}
	r.begins(c)
	r.becomes(c, Established)
}

// pass lets time pass.
func (r *rig) pass(d time.Duration) {
	for end := r.now + d; r.now < end; {
		r.now += min(100*time.Millisecond, end-r.now)
		r.Tick(r.now)
	}
}

// want checks the counts of a host.
func (r *rig) want(server string, open, half uint32) {
	r.t.Helper()
	var got counts
	if h := r.hosts[netip.MustParseAddr(server)]; h != nil {
		got = h.counts
	}
	if got.open != open || got.half != half {
		r.t.Errorf("%s: %d open, %d half-open, want %d and %d", server, got.open, got.half, open, half)
	}
}

// intercepted reports whether local is in intercept.
func (r *rig) intercepted() bool { return len(r.Sets().Intercept) > 0 }

// kinds are the kinds of the events since the last call.
func (r *rig) kinds() string {
	s := ""
	for _, ev := range r.TakeEvents() {
		s += ev.Kind.String() + " "
	}
	return s
}

// check compares a thing with what it should be.
func check[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
