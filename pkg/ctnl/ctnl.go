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
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Conn is a conntrack socket for requests. It is safe for concurrent use.
type Conn struct {
	requests *netlink.Conn
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
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
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
// packets for invalid. An id other than 0 is that of the entry: a later one of the
// same addresses stays, unless it has the same memory and so the same id
// (nf_ct_get_id). It reports whether there was one: that there is none is
// counted, not an error. It was closed meanwhile, or both its addresses are
// translated, which neither tuple shows at the forward hook: then original is
// needed, the destination as the client wrote it. Where it is not known, the
// engine's tombstone covers that.
func (c *Conn) Delete(t flow.Tuple, original netip.AddrPort, id uint32) (deleted bool, err error) {
	for _, tuple := range lookups(t, original) {
		_, err := c.requests.Execute(deletion(tuple, id))
		if err == nil {
			c.count.deleted.Add(1)
			return true, nil
		}
		if !errors.Is(err, syscall.ENOENT) {
			return false, fmt.Errorf("delete conntrack entry %s to %s: %w", t.Client, t.Server, remedy(err))
		}
	}
	c.count.unknown.Add(1)
	return false, nil
}

// lookups are the tuples that find a connection: its original tuple, if that is
// known; else its reply tuple, which holds the server as it is behind DNAT, and the
// original tuple of one whose source only is translated. Client is the source.
func lookups(t flow.Tuple, original netip.AddrPort) []flow.Tuple {
	unmapped := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	client, server := unmapped(t.Client), unmapped(t.Server)
	if original.IsValid() {
		return []flow.Tuple{{Client: client, Server: unmapped(original)}}
	}
	return []flow.Tuple{{Client: server, Server: client}, {Client: client, Server: server}}
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
