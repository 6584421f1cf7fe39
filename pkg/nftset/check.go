package nftset

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// Kind tells warnings apart.
type Kind uint8

// The kinds of Warning.
const (
	NoTable      Kind = iota + 1 // table inet smtpwall is not loaded
	NotDiverted                  // a divert chain is missing, empty, or nothing jumps to it
	UnboundQueue                 // packets are sent to a queue that no program has bound
	Flowtable                    // established connections may pass beside every chain
	Sysctl                       // a sysctl differs from the one shipped
	NoRPFilter                   // an interface takes packets with any sender address
	StaticMaps                   // a static mapping does not do what it seems to
)

// String returns the kind's name in metrics: stable.
func (k Kind) String() string {
	return [...]string{"", "no-table", "not-diverted", "unbound-queue", "flowtable", "sysctl", "no-rp-filter", "static-maps"}[k]
}

// Broken says that mail passes uninspected or not at all, so that the daemon is
// not ready. The others are advice; a missing table is, because operators may
// divert with rules of their own.
func (k Kind) Broken() bool {
	return k == NotDiverted || k == UnboundQueue || k == Flowtable
}

// Warning is one thing that the operator should put right; Text names it and
// the remedy.
type Warning struct {
	Kind Kind
	Text string
}

// State is what Check judges: one look at a network namespace.
type State struct {
	Table      bool              // table inet smtpwall exists
	Chains     map[string]Chain  // of this table, by name
	Limited    bool              // set limited4 or limited6 of this table has elements
	Flowtables []string          // of all tables: "inet filter ft"
	Sysctls    map[string]string // value by key; a key that cannot be read is missing
	NoRPFilter []string          // interfaces without reverse path filter
	Static     *Static           // nil without the table
	Unreached  []string          // why packets to global addresses of static mappings do not come
	Policy     static.Limits     // of `set connection` in the policy: of hosts or of clients, the lower
}

// Chain is what matters of a chain.
type Chain struct {
	Base   bool     // it hangs on a hook
	Jumps  []string // chains that its rules jump or go to
	Queues []Queues // that its rules send packets to

	Synproxy bool // one of its rules answers SYNs with cookies
}

// Queues is a range of queues that one rule sends packets to.
type Queues struct {
	First, Last uint16
	Unknown     bool // the rule computes the number in a way that cannot be read
}

// wantSysctls are those of nft/sysctl.d/smtpwall.conf; a test compares the two.
var wantSysctls = map[string]string{
	"net.netfilter.nf_conntrack_events":         "1",
	"net.netfilter.nf_conntrack_tcp_loose":      "0",
	"net.netfilter.nf_conntrack_tcp_be_liberal": "0",
	"net.netfilter.nf_conntrack_checksum":       "1",
}

// reload is the remedy of most warnings.
const reload = "load it with `nft -f /etc/smtpwall/smtpwall.nft`"

// Check compares s with what the inspection needs. bound are the queues that
// programs listen on. The order of the warnings is always the same; those of which
// there may be thousands, about static mappings, come last.
func Check(s *State, bound []uint16) []Warning {
	var ws []Warning
	if s.Table {
		ws = append(ws, checkDivert(s.Chains, "divert", "mail")...)
		ws = append(ws, checkDivert(s.Chains, "divert_syn", "SYNs to hosts with a connection limit")...)
		ws = append(ws, checkBound(s, bound)...)
	} else {
		ws = append(ws, Warning{NoTable, "table inet smtpwall is not loaded: static mappings are off, and mail is inspected only if rules of your own queue it; " + reload})
	}
	for _, f := range s.Flowtables {
		ws = append(ws, Warning{Flowtable, fmt.Sprintf("flowtable %s lets established connections pass beside the inspection: except the mail ports from its `flow add` rule, or remove it", f)})
	}
	ws = append(ws, checkSysctls(s.Sysctls)...)
	if len(s.NoRPFilter) > 0 {
		ws = append(ws, Warning{NoRPFilter, fmt.Sprintf("reverse path filter is off on %s, so that a host may send in the name of one behind another interface: set net.ipv4.conf.all.rp_filter to 1", strings.Join(s.NoRPFilter, ", "))})
	}
	if s.Table {
		ws = append(ws, checkStatic(s)...)
	}
	return ws
}

// checkDivert warns if packets, which are called traffic, do not come from a
// hook to a queue in chain name.
func checkDivert(chains map[string]Chain, name, traffic string) []Warning {
	c, ok := chains[name]
	var what string
	switch {
	case !ok:
		what = "is missing: " + traffic + " may pass uninspected"
	case !reachable(chains, name):
		what = "is not reached from any hook: " + traffic + " may pass uninspected"
	case len(c.Queues) == 0:
		what = "sends nothing to a queue: " + traffic + " will be dropped"
	default:
		return nil
	}
	return []Warning{{NotDiverted, fmt.Sprintf("chain %s of table inet smtpwall %s; %s", name, what, reload)}}
}

// reachable says whether a packet can come from a hook into the chain to.
func reachable(chains map[string]Chain, to string) bool {
	seen := map[string]bool{}
	var walk func(string) bool
	walk = func(name string) bool {
		if name == to {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(chains[name].Jumps, walk)
	}
	for name, c := range chains {
		if c.Base && walk(name) {
			return true
		}
	}
	return false
}

// checkBound warns of queues that packets are sent to and nobody reads. While no
// host is limited, nothing comes to chain divert_syn.
func checkBound(s *State, bound []uint16) []Warning {
	var ws []Warning
	for _, name := range slices.Sorted(maps.Keys(s.Chains)) {
		if name == "divert_syn" && !s.Limited {
			continue
		}
		for _, q := range s.Chains[name].Queues {
			missing := q.unbound(bound)
			if len(missing) == 0 {
				continue
			}
			ws = append(ws, Warning{UnboundQueue, fmt.Sprintf("chain %s of table inet smtpwall sends packets to queue %s, which no program has bound: write a class with `match queue` for it in policy.conf, or correct divert.nft", name, strings.Join(missing, ", "))})
		}
	}
	return ws
}

// unbound returns the numbers of q that are not in bound. Of a rule that cannot
// be read it returns none.
func (q Queues) unbound(bound []uint16) []string {
	var missing []string
	for _, n := range q.numbers() {
		if !slices.Contains(bound, n) {
			missing = append(missing, fmt.Sprint(n))
		}
	}
	return missing
}

// numbers lists the queues of q, none if they are unknown.
func (q Queues) numbers() []uint16 {
	if q.Unknown {
		return nil
	}
	var ns []uint16
	for n := int(q.First); n <= int(q.Last); n++ {
		ns = append(ns, uint16(n))
	}
	return ns
}

// checkSysctls warns of each sysctl that is not as shipped.
func checkSysctls(have map[string]string) []Warning {
	var ws []Warning
	for _, key := range slices.Sorted(maps.Keys(wantSysctls)) {
		want := wantSysctls[key]
		got, ok := have[key]
		switch {
		case !ok:
			ws = append(ws, Warning{Sysctl, fmt.Sprintf("sysctl %s cannot be read: load the kernel module nf_conntrack", key)})
		case got != want:
			ws = append(ws, Warning{Sysctl, fmt.Sprintf("sysctl %s is %s, not %s: run `sysctl -p /etc/sysctl.d/smtpwall.conf`", key, got, want)})
		}
	}
	return ws
}

// checkStatic warns of static mappings; there may be thousands.
func checkStatic(s *State) []Warning {
	var texts []string
	if s.Static != nil {
		for _, list := range [][]Fault{s.Static.Faults, s.Static.MaxFirst, s.Static.Reverse} {
			for _, f := range list {
				texts = append(texts, f.String())
			}
		}
		if !s.Static.Synproxy && slices.ContainsFunc(s.Static.Mappings, func(m static.Mapping) bool { return m.Lower(s.Policy).Embryonic > 0 }) {
			texts = append(texts, "no rule of chain intercept answers SYNs with cookies: SYNs over the embryonic limit of a host will be dropped, also those of good clients; load the kernel module nft_synproxy and the shipped intercept.nft")
		}
		if s.Policy != (static.Limits{}) && len(s.Static.Mappings) == 0 {
			texts = append(texts, "`set connection` of the policy limits nobody: it holds for the hosts of static.nft, and the maps are empty; add them there, a host without another address as { ADDRESS : ADDRESS } in static4 or static6")
		}
	}
	texts = append(texts, s.Unreached...)
	var ws []Warning
	for _, text := range texts {
		ws = append(ws, Warning{StaticMaps, text})
	}
	return ws
}
