// Package ctnl is the conntrack edge: it deletes the entries of connections
// that the inspection ended, tells of connections that conntrack forgot, and for
// the static mappings of all that it knows (kernel:
// net/netfilter/nf_conntrack_netlink.c).
//
// It may be imported by daemon and cmd. It must never decide what to delete.
//
// A connection is named as the forward hook sees it, behind DNAT and before
// SNAT: the client is the original tuple's source, the server the reply tuple's.
package ctnl

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Conn is a conntrack socket for requests. It is safe for concurrent use.
type Conn struct {
	requests *conntrack.Conn
	count    counters

	// Others in tests.
	subscribe func([]group) (*subscription, error)
	dump      func() ([]static.Entry, error)
	pause     time.Duration
}

// counters are what a Conn has done.
type counters struct {
	deleted, unknown, events, overruns, resyncs, failures atomic.Uint64
}

// Counters are what a Conn has done since it was opened. They only grow.
type Counters struct {
	Deleted  uint64 // entries
	Unknown  uint64 // deletions of what conntrack does not know
	Events   uint64 // of TCP connections, told by Listen and Watch
	Overruns uint64 // times that events were lost, of either
	Resyncs  uint64 // dumps told, by either
	Failures uint64 // dumps that failed and were repeated
}

// Open connects to conntrack of the calling thread's network namespace.
func Open() (*Conn, error) {
	c, err := conntrack.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", remedy(err))
	}
	return &Conn{
		requests:  c,
		subscribe: func(groups []group) (*subscription, error) { return subscribe(receiveBuffer, groups) },
		dump:      dump,
		pause:     dumpPause,
	}, nil
}

// Close ends the socket. A Listen or Watch goes on until its context ends.
func (c *Conn) Close() error { return c.requests.Close() }

// Counters returns a copy.
func (c *Conn) Counters() Counters {
	return Counters{
		Deleted: c.count.deleted.Load(), Unknown: c.count.unknown.Load(),
		Events: c.count.events.Load(), Overruns: c.count.overruns.Load(),
		Resyncs: c.count.resyncs.Load(), Failures: c.count.failures.Load(),
	}
}

// Delete removes the entry of a connection, so that the kernel takes its later
// packets for invalid. That there is none is counted, not an error: it was
// closed meanwhile, or both its addresses are translated, which neither tuple
// shows at the forward hook; the engine's tombstone covers that.
func (c *Conn) Delete(t flow.Tuple) error {
	for _, lookup := range lookups(t) {
		err := c.requests.Delete(lookup)
		if err == nil {
			c.count.deleted.Add(1)
			return nil
		}
		if !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("delete conntrack entry %s to %s: %w", t.Client, t.Server, remedy(err))
		}
	}
	c.count.unknown.Add(1)
	return nil
}

// lookups are the requests that find a connection: by its reply tuple, which
// holds the server as it is behind DNAT, and by its original tuple, for one
// whose source only is translated. The kernel searches both directions of all
// entries for the tuple named original (ctnetlink_del_conntrack), so both
// requests use that; the other is there because the library takes the address
// family from the two together.
func lookups(t flow.Tuple) [2]conntrack.Flow {
	original, reply := tuple(t), tuple(flow.Tuple{Client: t.Server, Server: t.Client})
	return [2]conntrack.Flow{
		{TupleOrig: reply, TupleReply: original},
		{TupleOrig: original, TupleReply: reply},
	}
}

// tuple is a packet of t from its client in the words of the library.
func tuple(t flow.Tuple) conntrack.Tuple {
	return conntrack.Tuple{
		IP: conntrack.IPTuple{
			SourceAddress:      t.Client.Addr().Unmap(),
			DestinationAddress: t.Server.Addr().Unmap(),
		},
		Proto: conntrack.ProtoTuple{
			Protocol: syscall.IPPROTO_TCP, SourcePort: t.Client.Port(), DestinationPort: t.Server.Port(),
		},
	}
}

// Known returns the TCP connections that conntrack knows now.
func (c *Conn) Known() (map[flow.Key]struct{}, error) {
	entries, err := c.dump()
	return keys(entries), err
}

// remedy adds what to do to errors that the operator can cure.
func remedy(err error) error {
	switch {
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("CAP_NET_ADMIN is missing: run as root or give the service AmbientCapabilities=CAP_NET_ADMIN: %w", err)
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EPROTONOSUPPORT):
		return fmt.Errorf("if this kernel has no nf_conntrack_netlink, run `modprobe nf_conntrack_netlink`: %w", err)
	}
	return err
}
