package ctnl

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ti-mo/conntrack"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// entry makes a conntrack entry of protocol proto from its four ends: source
// and destination of the original and of the reply direction.
func entry(proto uint8, origSrc, origDst, replySrc, replyDst string) *conntrack.Flow {
	tuple := func(src, dst string) conntrack.Tuple {
		s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return conntrack.Tuple{
			IP:    conntrack.IPTuple{SourceAddress: s.Addr(), DestinationAddress: d.Addr()},
			Proto: conntrack.ProtoTuple{Protocol: proto, SourcePort: s.Port(), DestinationPort: d.Port()},
		}
	}
	return &conntrack.Flow{TupleOrig: tuple(origSrc, origDst), TupleReply: tuple(replySrc, replyDst)}
}

// named is a flow.Tuple from its two ends.
func named(client, server string) flow.Tuple {
	return flow.Tuple{Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort(server)}
}

func TestClosed(t *testing.T) {
	tests := []struct {
		name string
		ev   conntrack.Event
		want flow.Tuple
		ok   bool
	}{
		{
			"no translation",
			conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(6, "10.9.1.2:4000", "10.9.2.2:25", "10.9.2.2:25", "10.9.1.2:4000")},
			named("10.9.1.2:4000", "10.9.2.2:25"), true,
		},
		{
			"static mapping: the server is the local address",
			conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(6, "203.0.113.5:4000", "1.1.1.1:25", "192.168.1.1:25", "203.0.113.5:4000")},
			named("203.0.113.5:4000", "192.168.1.1:25"), true,
		},
		{
			"outbound: the client is the local address",
			conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(6, "192.168.1.1:4000", "203.0.113.5:25", "203.0.113.5:25", "1.1.1.1:4000")},
			named("192.168.1.1:4000", "203.0.113.5:25"), true,
		},
		{
			"IPv6",
			conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(6, "[fd09:1::2]:4000", "[fd09:2::2]:25", "[fd09:2::2]:25", "[fd09:1::2]:4000")},
			named("[fd09:1::2]:4000", "[fd09:2::2]:25"), true,
		},
		{"not closing", conntrack.Event{Type: conntrack.EventUpdate, Flow: entry(6, "10.9.1.2:4000", "10.9.2.2:25", "10.9.2.2:25", "10.9.1.2:4000")}, flow.Tuple{}, false},
		{"not TCP", conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(17, "10.9.1.2:4000", "10.9.2.2:25", "10.9.2.2:25", "10.9.1.2:4000")}, flow.Tuple{}, false},
		{"not a connection", conntrack.Event{Type: conntrack.EventDestroy, Expect: &conntrack.Expect{}}, flow.Tuple{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := closed(tt.ev)
			if got != tt.want || ok != tt.ok {
				t.Errorf("%v %v, want %v %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

// TestLookups writes the two requests down: reply direction first. The engine
// may name an IPv4 host by its mapped IPv6 address; conntrack never does.
func TestLookups(t *testing.T) {
	var got []string
	for _, f := range lookups(named("[::ffff:10.9.1.2]:4000", "10.9.2.2:25")) {
		got = append(got, f.TupleOrig.String())
	}
	want := []string{
		"<tcp, Src: 10.9.2.2:25, Dst: 10.9.1.2:4000>",
		"<tcp, Src: 10.9.1.2:4000, Dst: 10.9.2.2:25>",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRemedy(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{syscall.EPERM, "CAP_NET_ADMIN is missing: run as root or give the service AmbientCapabilities=CAP_NET_ADMIN: operation not permitted"},
		{syscall.EINVAL, "if this kernel has no nf_conntrack_netlink, run `modprobe nf_conntrack_netlink`: invalid argument"},
		{syscall.ENOMEM, "cannot allocate memory"},
	}
	for _, tt := range tests {
		if got := remedy(tt.err); got.Error() != tt.want || !errors.Is(got, tt.err) {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// TestListenAgain loses events, which is counted, and goes on.
func TestListenAgain(t *testing.T) {
	want := named("10.9.1.2:4000", "10.9.2.2:25")
	var subscriptions, hungUp, announced int
	c := &Conn{subscribe: func() (*listener, error) {
		subscriptions++
		events, failed := make(chan conntrack.Event, 1), make(chan error, 1)
		if subscriptions < 3 {
			failed <- syscall.ENOBUFS
		} else {
			events <- conntrack.Event{Type: conntrack.EventDestroy, Flow: entry(6, "10.9.1.2:4000", "10.9.2.2:25", "10.9.2.2:25", "10.9.1.2:4000")}
		}
		return &listener{events: events, failed: failed, hangUp: func() error { hungUp++; return nil }}, nil
	}}
	ctx, stop := context.WithCancel(context.Background())
	err := c.Listen(ctx, func() { announced++ }, func(k flow.Tuple) {
		if k != want {
			t.Errorf("heard of %v, want %v", k, want)
		}
		stop()
	})
	if err != nil {
		t.Error(err)
	}
	if subscriptions != 3 || hungUp != 3 || announced != 1 {
		t.Errorf("%d subscriptions, %d hung up, announced %d times; want 3, 3, once", subscriptions, hungUp, announced)
	}
	if got, want := c.Counters(), (Counters{Events: 1, Overruns: 2}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// TestListenRefused returns the error of a subscription that does not come about.
func TestListenRefused(t *testing.T) {
	c := &Conn{subscribe: func() (*listener, error) { return nil, syscall.EPERM }}
	err := c.Listen(context.Background(), func() { t.Error("announced") }, nil)
	if !errors.Is(err, syscall.EPERM) {
		t.Errorf("got %v", err)
	}
}
