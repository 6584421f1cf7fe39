package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Counter returns the packets that a named counter of the ruleset has seen.
func (l *Lab) Counter(name string) (uint64, error) {
	conn, err := l.nftables()
	if err != nil {
		return 0, err
	}
	obj, err := conn.GetObject(&nftables.NamedObj{
		Table: &nftables.Table{Name: "smtpwall", Family: nftables.TableFamilyINet},
		Name:  name,
		Type:  nftables.ObjTypeCounter,
	})
	if err != nil {
		return 0, fmt.Errorf("read counter %s: %w", name, err)
	}
	named, ok := obj.(*nftables.NamedObj)
	if !ok {
		return 0, fmt.Errorf("read counter %s: got %T", name, obj)
	}
	counter, ok := named.Obj.(*expr.Counter)
	if !ok {
		return 0, fmt.Errorf("read counter %s: got %T", name, named.Obj)
	}
	return counter.Packets, nil
}

// Queue is one line of /proc/net/netfilter/nfnetlink_queue: a queue that some
// program has bound.
type Queue struct {
	ID          uint16
	Waiting     uint64 // packets without a verdict
	Dropped     uint64 // the queue was full
	UserDropped uint64 // the program's socket buffer was full
	Packets     uint64 // queued since the program bound it
}

// Queues returns the queues that are bound on the firewall.
func (l *Lab) Queues() (queues []Queue, err error) {
	err = l.read(Firewall, "/proc/thread-self/net/netfilter/nfnetlink_queue", func(r io.Reader) error {
		queues, err = parseQueues(r)
		return err
	})
	return queues, err
}

// TCPChecksumErrors is how many TCP segments a host has refused because of a
// wrong checksum.
func (l *Lab) TCPChecksumErrors(h Host) (n uint64, err error) {
	err = l.read(h, "/proc/thread-self/net/snmp", func(r io.Reader) error {
		n, err = parseSNMP(r, "Tcp:", "InCsumErrors")
		return err
	})
	return n, err
}

// read opens a file of a host's /proc/net. It is thread-self, because
// /proc/net is that of the process' first thread.
func (l *Lab) read(h Host, path string, parse func(io.Reader) error) error {
	return l.Do(h, func() error {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("read %s of %s: %w (kernel without nfnetlink_queue?)", path, h, err)
		}
		defer f.Close()
		if err := parse(f); err != nil {
			return fmt.Errorf("read %s of %s: %w", path, h, err)
		}
		return nil
	})
}

// parseQueues reads the nine columns: queue, port id, waiting, copy mode, copy
// range, dropped, user dropped, id of the last packet, 1.
func parseQueues(r io.Reader) ([]Queue, error) {
	var queues []Queue
	s := bufio.NewScanner(r)
	for s.Scan() {
		var q Queue
		var skip uint64
		if _, err := fmt.Sscan(s.Text(), &q.ID, &skip, &q.Waiting, &skip, &skip, &q.Dropped, &q.UserDropped, &q.Packets); err != nil {
			return nil, fmt.Errorf("parse %q: %w", s.Text(), err)
		}
		queues = append(queues, q)
	}
	return queues, s.Err()
}

// parseSNMP reads one value of /proc/net/snmp, where a line of names stands
// above the line of values, both beginning with the protocol.
func parseSNMP(r io.Reader, proto, name string) (uint64, error) {
	var names []string
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) == 0 || f[0] != proto {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := range min(len(names), len(f)) {
			if names[i] == name {
				return strconv.ParseUint(f[i], 10, 64)
			}
		}
	}
	return 0, errors.Join(fmt.Errorf("no %s %s", proto, name), s.Err())
}
