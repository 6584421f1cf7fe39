// Package lab builds a client, a firewall and a server on one machine: three
// network namespaces in a row, IPv4 and IPv6, with the shipped ruleset on the
// firewall.
//
// It may be imported by `smtpwall lab` and by tests, never by the daemon's
// packages. It must never touch a network namespace that it did not make.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netns"
)

// Host is one of the three machines of a lab.
type Host uint8

// The machines, in the order in which a mail passes them.
const (
	Client Host = iota
	Firewall
	Server
	numHosts
)

// String returns the host's name, which is part of its namespace's name.
func (h Host) String() string { return [...]string{"client", "firewall", "server"}[h] }

// Addresses of the lab. The two networks are 10.9.1.0/24, fd09:1::/64 (outside)
// and 10.9.2.0/24, fd09:2::/64 (inside).
const (
	ClientIP4  = "10.9.1.2"
	ClientIP6  = "fd09:1::2"
	OutsideIP4 = "10.9.1.1" // the firewall, towards the client
	OutsideIP6 = "fd09:1::1"
	InsideIP4  = "10.9.2.1" // the firewall, towards the server
	InsideIP6  = "fd09:2::1"
	ServerIP4  = "10.9.2.2"
	ServerIP6  = "fd09:2::2"
)

// Interfaces of the lab. The firewall has both, named as in the built-in
// policy, where eth0 is `outside` and eth1 `inside`; the others have Outside.
const (
	Outside = "eth0"
	Inside  = "eth1"
)

// Lab is three namespaces. Its methods may be called from several goroutines.
type Lab struct {
	name string
	pid  int
	ns   [numHosts]netns.NsHandle
	dir  string // of the files that LoadRuleset writes
}

// New builds the three machines. name tells labs of one process apart; the
// process id is added to it. Close removes everything.
func New(name string) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("build lab: not root: run it with sudo, or in `unshare -Urnm`")
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("build lab: program %s is missing: apt-get install iproute2 nftables", tool)
		}
	}
	l := &Lab{name: name, pid: os.Getpid()}
	for h := range l.ns {
		l.ns[h] = netns.None()
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab %s: %w", name, err), l.Close())
	}
	return l, nil
}

// build makes namespaces, links and the directory of the ruleset.
func (l *Lab) build() (err error) {
	if l.dir, err = os.MkdirTemp("", "smtpwall-lab-"); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	for h := range numHosts {
		if err := l.addNamespace(h); err != nil {
			return err
		}
	}
	return l.addNetwork()
}

// Close removes the namespaces with all that is in them, and the files. The
// programs started by Command must have ended.
func (l *Lab) Close() error {
	var errs []error
	for h := range numHosts {
		if !l.ns[h].IsOpen() {
			continue
		}
		errs = append(errs, l.ns[h].Close(), netns.DeleteNamed(l.Namespace(h)))
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// Namespace is the name of a host's namespace, as `ip netns` shows it.
func (l *Lab) Namespace(h Host) string {
	return fmt.Sprintf("smtpwall-%s-%d-%s", l.name, l.pid, h)
}

// FD is the file descriptor of a host's namespace, for libraries that open
// sockets in one. It belongs to the Lab.
func (l *Lab) FD(h Host) int { return int(l.ns[h]) }

// Command prepares a program that runs on a host.
func (l *Lab) Command(h Host, name string, arg ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", l.Namespace(h), name}, arg...)...)
}

// Do runs fn on a host and returns its error. Sockets that fn opens stay on the
// host when fn returns; goroutines that fn starts do not begin there.
func (l *Lab) Do(h Host, fn func() error) error {
	return onThread(func() error {
		if err := netns.Set(l.ns[h]); err != nil {
			return fmt.Errorf("enter namespace %s: %w", l.Namespace(h), err)
		}
		return fn()
	})
}

// onThread runs fn on an operating system thread of its own, which ends with
// it: a thread whose namespace was changed must not serve other goroutines.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}
