package ctnl

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/flow"
)

// named is a flow.Tuple from its two ends.
func named(client, server string) flow.Tuple {
	return flow.Tuple{Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort(server)}
}

// TestLookups writes the tuples down: the original one alone, if its destination is
// known, else the reply direction first. The engine may
// name an IPv4 host by its mapped IPv6 address; conntrack never does.
func TestLookups(t *testing.T) {
	conn := named("[::ffff:10.9.1.2]:4000", "10.9.2.2:25")
	for _, tt := range []struct {
		original netip.AddrPort
		want     []flow.Tuple
	}{
		{netip.AddrPort{}, []flow.Tuple{named("10.9.2.2:25", "10.9.1.2:4000"), named("10.9.1.2:4000", "10.9.2.2:25")}},
		{netip.MustParseAddrPort("[::ffff:1.1.1.1]:25"), []flow.Tuple{named("10.9.1.2:4000", "1.1.1.1:25")}},
	} {
		if got := lookups(conn, tt.original); !slices.Equal(got, tt.want) {
			t.Errorf("original destination %v: %v, want %v", tt.original, got, tt.want)
		}
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
