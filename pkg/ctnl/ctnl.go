// Package ctnl is the conntrack edge: it deletes the entries of connections
// that the inspection ended and tells which connections conntrack forgot
// (kernel: net/netfilter/nf_conntrack_netlink.c).
//
// It may be imported by daemon and cmd. It must never decide what to delete.
//
// A connection is named as the forward hook sees it, behind DNAT and before
// SNAT: the client is the original tuple's source, the server the reply tuple's.
package ctnl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/ti-mo/conntrack"
	"github.com/ti-mo/netfilter"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// receiveBuffer is the event socket's buffer in bytes. An event occupies about
// 1 KB, and the kernel doubles the value: a burst of 16,000 closing connections
// fits.
const receiveBuffer = 8 << 20

// Conn is a conntrack socket for requests. It is safe for concurrent use.
type Conn struct {
	requests  *conntrack.Conn
	subscribe func() (*listener, error) // another one in tests
	count     counters
}

// counters are what a Conn has done.
type counters struct {
	deleted, unknown, events, overruns atomic.Uint64
}

// Counters are what a Conn has done since it was opened. They only grow.
type Counters struct {
	Deleted  uint64 // entries
	Unknown  uint64 // deletions of what conntrack does not know
	Events   uint64 // closed TCP connections told
	Overruns uint64 // times that events were lost: connections may be closed that nobody was told of
}

// Open connects to conntrack of the calling thread's network namespace.
func Open() (*Conn, error) {
	c, err := conntrack.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", remedy(err))
	}
	return &Conn{requests: c, subscribe: func() (*listener, error) { return listen(receiveBuffer) }}, nil
}

// Close ends the socket. A Listen goes on until its context ends.
func (c *Conn) Close() error { return c.requests.Close() }

// Counters returns a copy.
func (c *Conn) Counters() Counters {
	return Counters{
		Deleted: c.count.deleted.Load(), Unknown: c.count.unknown.Load(),
		Events: c.count.events.Load(), Overruns: c.count.overruns.Load(),
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

// Listen gives every TCP connection that conntrack forgets to gone, on one
// goroutine, until ctx ends; then it returns nil. It subscribes anew when the
// kernel lost events or sent one that cannot be read; that is counted. subscribed
// is called once, when the first event can come. An error says that there was no
// subscribing.
func (c *Conn) Listen(ctx context.Context, subscribed func(), gone func(flow.Tuple)) error {
	for {
		l, err := c.subscribe()
		if err != nil {
			return fmt.Errorf("listen to conntrack: %w", remedy(err))
		}
		subscribed()
		err = c.pass(ctx, l, gone)
		l.close()
		if err == nil {
			return nil
		}
		c.count.overruns.Add(1)
		subscribed = func() {}
	}
}

// listener is one subscription.
type listener struct {
	events <-chan conntrack.Event
	failed <-chan error // one error, then no more events
	hangUp func() error // returns when nothing is sent to either any more
}

// listen subscribes to closing events on a socket with a buffer of so many bytes.
func listen(buffer int) (*listener, error) {
	s, err := conntrack.Dial(nil)
	if err != nil {
		return nil, err
	}
	if err := s.SetReadBuffer(buffer); err != nil {
		s.Close()
		return nil, err
	}
	events := make(chan conntrack.Event)
	failed, err := s.Listen(events, 1, []netfilter.NetlinkGroup{netfilter.GroupCTDestroy})
	if err != nil {
		s.Close()
		return nil, err
	}
	return &listener{events: events, failed: failed, hangUp: s.Close}, nil
}

// pass gives events to gone until ctx ends, which is no error, or the first
// error.
func (c *Conn) pass(ctx context.Context, l *listener, gone func(flow.Tuple)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-l.failed:
			return err
		case ev := <-l.events:
			if t, ok := closed(ev); ok {
				c.count.events.Add(1)
				gone(t)
			}
		}
	}
}

// close ends the subscription. Its worker may be waiting to hand something over.
func (l *listener) close() {
	ended := make(chan struct{})
	go func() {
		l.hangUp()
		close(ended)
	}()
	for {
		select {
		case <-l.events:
		case <-l.failed:
		case <-ended:
			return
		}
	}
}

// closed returns the connection that a closing event tells of.
func closed(ev conntrack.Event) (flow.Tuple, bool) {
	if ev.Type != conntrack.EventDestroy || ev.Flow == nil {
		return flow.Tuple{}, false
	}
	return tcpTuple(ev.Flow)
}

// tcpTuple is a connection as the forward hook sees it; ok is false if it is not
// TCP.
func tcpTuple(f *conntrack.Flow) (t flow.Tuple, ok bool) {
	if f.TupleOrig.Proto.Protocol != syscall.IPPROTO_TCP {
		return flow.Tuple{}, false
	}
	return flow.Tuple{Client: source(f.TupleOrig), Server: source(f.TupleReply)}, true
}

// Known returns the TCP connections that conntrack knows now.
func (c *Conn) Known() (map[flow.Key]struct{}, error) {
	all, err := c.requests.Dump(nil)
	if err != nil {
		return nil, fmt.Errorf("list conntrack's entries: %w", remedy(err))
	}
	known := make(map[flow.Key]struct{})
	for i := range all {
		if t, ok := tcpTuple(&all[i]); ok {
			known[t.Key()] = struct{}{}
		}
	}
	return known, nil
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

// source is the source of a tuple.
func source(t conntrack.Tuple) netip.AddrPort {
	return netip.AddrPortFrom(t.IP.SourceAddress, t.Proto.SourcePort)
}
