package nfq

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// owner is who holds a queue that we could not bind.
type owner struct {
	port    uint32 // netlink port; 0 is nobody
	program string // name of the process with that id; empty if there is none
}

// scene is what was found on the machine after a queue could not be opened.
type scene struct {
	noModule bool // the kernel has no nfnetlink_queue
	owner    owner
}

// explain turns an error of opening a queue into one that names the remedy.
func explain(number uint16, err error, s scene) error {
	switch {
	case s.owner.port != 0:
		return fmt.Errorf("open queue %d: it is already bound by another program (%s): stop that program, or divert to another queue: %w",
			number, s.owner, err)
	case s.noModule && !errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EPROTONOSUPPORT):
		return fmt.Errorf("open queue %d: this kernel has no nfnetlink_queue: run `modprobe nfnetlink_queue` or use a kernel with CONFIG_NETFILTER_NETLINK_QUEUE: %w",
			number, err)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("open queue %d: CAP_NET_ADMIN is missing: run as root or give the service AmbientCapabilities=CAP_NET_ADMIN: %w",
			number, err)
	case errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Errorf("open queue %d: this kernel refuses GSO packets or fail-open on a queue: it must be Linux 3.10 or later: %w",
			number, err)
	}
	return fmt.Errorf("open queue %d: %w", number, err)
}

// String names the owner for an error.
func (o owner) String() string {
	if o.program == "" {
		return fmt.Sprintf("netlink port %d", o.port)
	}
	return fmt.Sprintf("netlink port %d, %s", o.port, o.program)
}

// lookAround finds out why a queue could not be opened.
func lookAround(number uint16) scene {
	st, err := ReadStatus(number)
	if err != nil {
		return scene{noModule: errors.Is(err, os.ErrNotExist)}
	}
	o := owner{port: st.PortID}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", st.PortID)); err == nil {
		o.program = strings.TrimSpace(string(comm))
	}
	return scene{owner: o}
}
