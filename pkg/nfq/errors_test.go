package nfq

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

func TestExplain(t *testing.T) {
	tests := []struct {
		name string
		err  error
		s    scene
		want string
	}{
		{"bound by a program", syscall.EPERM, scene{owner: owner{4242, "suricata"}},
			"open queue 3: it is already bound by another program (netlink port 4242, suricata): stop that program, or divert to another queue: operation not permitted"},
		{"bound by a second socket of a program", syscall.EBUSY, scene{owner: owner{port: 4294963202}},
			"open queue 3: it is already bound by another program (netlink port 4294963202): stop that program, or divert to another queue: device or resource busy"},
		{"no privilege", syscall.EPERM, scene{},
			"open queue 3: CAP_NET_ADMIN is missing: run as root or give the service AmbientCapabilities=CAP_NET_ADMIN: operation not permitted"},
		{"no privilege, so that the module could not be loaded", syscall.EPERM, scene{noModule: true},
			"open queue 3: CAP_NET_ADMIN is missing: run as root or give the service AmbientCapabilities=CAP_NET_ADMIN: operation not permitted"},
		{"no module", syscall.EINVAL, scene{noModule: true},
			"open queue 3: this kernel has no nfnetlink_queue: run `modprobe nfnetlink_queue` or use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE: invalid argument"},
		{"no nfnetlink at all", syscall.EPROTONOSUPPORT, scene{},
			"open queue 3: this kernel has no nfnetlink_queue: run `modprobe nfnetlink_queue` or use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE: protocol not supported"},
		{"flags", syscall.EOPNOTSUPP, scene{},
			"open queue 3: this kernel refuses GSO packets or fail-open on a queue: it must be Linux 3.10 or later: operation not supported"},
		{"anything else", syscall.ENOMEM, scene{}, "open queue 3: cannot allocate memory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := explain(3, fmt.Errorf("%w", tt.err), tt.s)
			if err.Error() != tt.want {
				t.Errorf("got  %q\nwant %q", err, tt.want)
			}
			if !errors.Is(err, tt.err) {
				t.Error("the cause is lost")
			}
		})
	}
}

func TestMarks(t *testing.T) {
	tests := []struct {
		name string
		old  uint32
		want engine.Mark
		mark uint32
	}{
		{"offload", 0, engine.MarkOffload, 0x00010000},
		{"reset", 0, engine.MarkReset, 0x00020000},
		{"both", 0, engine.MarkOffload | engine.MarkReset, 0x00030000},
		{"bits of others stay", 0xdeac_beef, engine.MarkReset, 0xdeae_beef},
		{"a stale bit of ours goes", 0x0003_0001, engine.MarkOffload, 0x0001_0001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := DefaultMarks.with(tt.old, tt.want); got != tt.mark {
				t.Errorf("%#08x, want %#08x", got, tt.mark)
			}
		})
	}
}
