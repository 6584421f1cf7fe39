package static

import (
	"net/netip"
	"time"
)

// EventKind tells events apart.
type EventKind uint8

// The kinds of Event, with the ASA's records that tell of them.
const (
	Refused          EventKind = iota + 1 // 201011 and 201002; per client 201013
	EmbryonicRefused                      // 201010; per client 201012
	InterceptEntered                      // 201010 and 201003; per client 201012 and 201003
	InterceptLeft                         // the ASA has none
	KernelRefused                         // 201002
)

// String is the kind's name in JSON: stable.
func (k EventKind) String() string {
	return [...]string{"", "connection-limit", "embryonic-limit", "intercept-entered", "intercept-left", "connection-limit-kernel"}[k]
}

// Event is something for the audit trail.
type Event struct {
	Time   time.Duration
	Kind   EventKind
	SYN               // that led to it; of InterceptLeft and KernelRefused only the server's address
	Global netip.Addr // of the host; the local one if it has no other

	PerClient    bool   // Count and Limit are the client's
	Count, Limit uint32 // connections, half-open ones but for Refused; with them SYNs that opened none, if these led to it
	Embryonic    uint32 // the limit of half-open ones, beside Limit; of Refused
	Dropped      bool   // the SYN was
	Unmapped     bool   // it came by an address that no mapping names: nobody sends cookies; of EmbryonicRefused
	Suppressed   uint64 // events of this kind and host or client since the last one told
	Refusals     uint64 // SYNs dropped before a cookie was sent; of KernelRefused

	Duration time.Duration // in intercept; of InterceptLeft
	Cookies  uint64        // SYNs answered meanwhile; of InterceptLeft
}

const (
	// tellEvery is how often refusals of a host are told: whoever is refused
	// comes again and again.
	tellEvery = time.Second

	// tellClientEvery is the same of a client (ASA syslog guide, 201012).
	tellClientEvery = 10 * time.Second

	// maxEvents is how many events wait for TakeEvents: more than a second's.
	maxEvents = 4096
)

// silence keeps events of a kind from being told again and again.
type silence struct {
	until      time.Duration
	suppressed uint64
}

// silences are those of the refusals: Refused and EmbryonicRefused.
type silences [2]silence

// tell emits an event of a host or a client unless its like was just told.
func (t *Tracker) tell(all *silences, ev Event) {
	s := &all[ev.Kind-Refused]
	if t.now < s.until {
		s.suppressed++
		return
	}
	ev.Suppressed = s.suppressed
	every := tellEvery
	if ev.PerClient {
		every = tellClientEvery
	}
	*s = silence{until: t.now + every}
	t.emit(ev)
}

// emit gives an event to the caller.
func (t *Tracker) emit(ev Event) {
	if len(t.events) >= maxEvents {
		t.count.EventsLost++
		return
	}
	ev.Time = t.now
	t.events = append(t.events, ev)
}

// TakeEvents returns the events since the last call. The caller owns them.
func (t *Tracker) TakeEvents() []Event {
	evs := t.events
	t.events = nil
	return evs
}

// TakeKills returns the connections, since the last call, whose conntrack entries
// are to be deleted, in no order. The caller owns them.
func (t *Tracker) TakeKills() []Kill {
	kills := t.kills
	t.kills = nil
	return kills
}
