package nftset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// Read looks at the network namespace of the calling thread. It needs
// CAP_NET_ADMIN. asked are the limits that the policy sets, of hosts or of clients,
// the lower.
func Read(asked static.Limits) (*State, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	s := &State{Policy: asked, Sysctls: readSysctls(), NoRPFilter: readNoRPFilter()}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w (CAP_NET_ADMIN missing?)", err)
	}
	for _, t := range tables {
		if err := s.readFlowtables(conn, t); err != nil {
			return nil, err
		}
		if t.Family == nftables.TableFamilyINet && t.Name == "smtpwall" {
			s.Table = true
		}
	}
	if !s.Table {
		return s, nil
	}
	if err := s.readLimited(conn); err != nil {
		return nil, err
	}
	if err := s.readStatic(); err != nil {
		return nil, err
	}
	return s, s.readChains(conn)
}

// readStatic reads the static mappings and looks whether packets come for them.
func (s *State) readStatic() (err error) {
	if s.Static, err = ReadStatic(); err != nil {
		return err
	}
	s.Unreached, err = readUnreached(s.Static.Mappings, s.Policy)
	return err
}

// readLimited looks whether the connections of any host are limited.
func (s *State) readLimited(conn *nftables.Conn) error {
	sets, err := conn.GetSets(&nftables.Table{Family: nftables.TableFamilyINet, Name: "smtpwall"})
	if err != nil {
		return fmt.Errorf("list sets: %w", err)
	}
	for _, set := range sets {
		if set.Name != "limited4" && set.Name != "limited6" {
			continue
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("list elements of set %s: %w", set.Name, err)
		}
		s.Limited = s.Limited || len(elements) > 0
	}
	return nil
}

// readFlowtables adds the flowtables of table t.
func (s *State) readFlowtables(conn *nftables.Conn, t *nftables.Table) error {
	fts, err := conn.ListFlowtables(t)
	if err != nil {
		return fmt.Errorf("list flowtables of table %s: %w", t.Name, err)
	}
	for _, f := range fts {
		s.Flowtables = append(s.Flowtables, familyName(t.Family)+" "+t.Name+" "+f.Name)
	}
	return nil
}

// familyName is nft's word for a table's family.
func familyName(f nftables.TableFamily) string {
	switch f {
	case nftables.TableFamilyINet:
		return "inet"
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyBridge:
		return "bridge"
	case nftables.TableFamilyNetdev:
		return "netdev"
	case nftables.TableFamilyARP:
		return "arp"
	}
	return fmt.Sprintf("family %d", f)
}

// readChains reads the chains of table inet smtpwall with their rules.
func (s *State) readChains(conn *nftables.Conn) error {
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("list chains: %w", err)
	}
	s.Chains = map[string]Chain{}
	for _, c := range chains {
		if c.Table.Name != "smtpwall" {
			continue
		}
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("list rules of chain %s: %w", c.Name, err)
		}
		chain := Chain{Base: c.Hooknum != nil}
		for _, r := range rules {
			chain.add(r.Exprs)
		}
		s.Chains[c.Name] = chain
	}
	return nil
}

// add notes where a rule with these expressions sends packets, and whether it
// answers SYNs itself.
func (c *Chain) add(exprs []expr.Any) {
	var hash *expr.Hash
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			if e.Kind == expr.VerdictJump || e.Kind == expr.VerdictGoto {
				c.Jumps = append(c.Jumps, e.Chain)
			}
		case *expr.Hash:
			hash = e
		case *expr.SynProxy:
			c.Synproxy = true
		case *expr.Queue:
			c.Queues = append(c.Queues, queueNumbers(e, hash))
		case *expr.Target:
			if e.Name == "NFQUEUE" {
				c.Queues = append(c.Queues, targetNumbers(e))
			}
		}
	}
}

// queueNumbers reads a queue statement. One without numbers takes them from a
// register, which only the hash before it can explain (`queue to symhash mod
// N`).
func queueNumbers(q *expr.Queue, hash *expr.Hash) Queues {
	switch {
	case q.Total > 0:
		return span(uint32(q.Num), uint32(q.Total))
	case hash != nil:
		return span(hash.Offset, hash.Modulus)
	}
	return Queues{Unknown: true}
}

// targetNumbers reads the xtables target NFQUEUE: a u16 with the first number
// and, from revision 1 on, a u16 with how many there are.
func targetNumbers(t *expr.Target) Queues {
	info, ok := t.Info.(*xt.Unknown)
	if !ok || len(*info) < 4 {
		return Queues{Unknown: true}
	}
	num, total := binaryutil.NativeEndian.Uint16((*info)[:2]), uint16(1)
	if t.Rev > 0 {
		total = binaryutil.NativeEndian.Uint16((*info)[2:4])
	}
	return span(uint32(num), uint32(total))
}

// span is total queues from first on.
func span(first, total uint32) Queues {
	if total == 0 || first > 65535 || total > 65536-first {
		return Queues{Unknown: true}
	}
	return Queues{First: uint16(first), Last: uint16(first + total - 1)}
}

// readSysctls reads those that the ruleset relies on.
func readSysctls() map[string]string {
	have := map[string]string{}
	for key := range wantSysctls {
		if v, err := readSysctl(strings.ReplaceAll(key, ".", "/")); err == nil {
			have[key] = v
		}
	}
	return have
}

// readNoRPFilter returns the interfaces that neither they nor `all` set a
// reverse path filter for (the kernel uses the higher of the two), but for lo.
func readNoRPFilter() []string {
	if v, err := readSysctl("net/ipv4/conf/all/rp_filter"); err != nil || v != "0" {
		return nil
	}
	entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
	if err != nil {
		return nil
	}
	var off []string
	for _, e := range entries {
		if slices.Contains([]string{"all", "default", "lo"}, e.Name()) {
			continue
		}
		if v, err := readSysctl("net/ipv4/conf/" + e.Name() + "/rp_filter"); err == nil && v == "0" {
			off = append(off, e.Name())
		}
	}
	return off
}

// readSysctl reads a file below /proc/sys, which shows the namespace of the
// thread that opens it.
func readSysctl(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", path))
	return strings.TrimSpace(string(b)), err
}
