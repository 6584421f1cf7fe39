package nftset

import (
	"bufio"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// good is a namespace in which nothing is wrong with queues 0 to 4 bound.
func good() *State {
	return &State{
		Table: true,
		Chains: map[string]Chain{
			"forward":    {Base: true, Jumps: []string{"intercept", "mail"}},
			"admit":      {Base: true, Jumps: []string{"limited"}},
			"mail":       {Jumps: []string{"strip", "divert"}},
			"limited":    {Jumps: []string{"divert_syn"}},
			"divert":     {Queues: []Queues{{First: 0, Last: 3}}},
			"divert_syn": {Queues: []Queues{{First: 4, Last: 4}}},
		},
		Limited: true,
		Sysctls: maps.Clone(wantSysctls),
		Static:  &Static{Synproxy: true},
	}
}

func TestCheck(t *testing.T) {
	all := []uint16{0, 1, 2, 3, 4}
	for _, c := range []struct {
		name  string
		spoil func(*State)
		bound []uint16
		want  []string // kind: words of the text
	}{
		{"nothing wrong", func(*State) {}, all, nil},
		{"more queues bound than used", func(*State) {}, []uint16{9, 4, 3, 2, 1, 0}, nil},
		{"no table", func(s *State) { s.Table, s.Chains = false, nil }, nil, []string{"no-table: table inet smtpwall is not loaded"}},
		{"divert missing", func(s *State) { delete(s.Chains, "divert") }, all, []string{"not-diverted: chain divert of table inet smtpwall is missing"}},
		{"divert empty", func(s *State) { s.Chains["divert"] = Chain{} }, all, []string{"not-diverted: chain divert of table inet smtpwall sends nothing to a queue"}},
		{"divert_syn empty", func(s *State) { s.Chains["divert_syn"] = Chain{} }, all, []string{"not-diverted: chain divert_syn of table inet smtpwall sends nothing to a queue"}},
		{"nothing goes to mail", func(s *State) { s.Chains["forward"] = Chain{Base: true, Jumps: []string{"intercept"}} }, all, []string{"not-diverted: chain divert of table inet smtpwall is not reached from any hook"}},
		{"mail has no hook", func(s *State) { s.Chains["forward"] = Chain{Jumps: []string{"mail"}} }, all, []string{"not-diverted: chain divert of table inet smtpwall is not reached from any hook"}},
		{"chains in a circle", func(s *State) {
			s.Chains["mail"] = Chain{Jumps: []string{"strip"}}
			s.Chains["strip"] = Chain{Jumps: []string{"mail"}}
		}, all, []string{"not-diverted: chain divert of table inet smtpwall is not reached from any hook"}},
		{"nobody bound", func(*State) {}, nil, []string{
			"unbound-queue: chain divert of table inet smtpwall sends packets to queue 0, 1, 2, 3, which no program has bound",
			"unbound-queue: chain divert_syn of table inet smtpwall sends packets to queue 4, which no program has bound",
		}},
		{"queue 4 while no host is limited", func(s *State) { s.Limited = false }, []uint16{0, 1, 2, 3}, nil},
		{"one queue not bound", func(*State) {}, []uint16{0, 1, 3, 4}, []string{"unbound-queue: chain divert of table inet smtpwall sends packets to queue 2, which no program has bound"}},
		{"highest queue", func(s *State) { s.Chains["divert"] = Chain{Queues: []Queues{{First: 65535, Last: 65535}}} }, all, []string{"unbound-queue: chain divert of table inet smtpwall sends packets to queue 65535, which no program has bound"}},
		{"queue of a chain of the operator's", func(s *State) { s.Chains["vip"] = Chain{Queues: []Queues{{First: 8, Last: 9}}} }, append(all, 8), []string{"unbound-queue: chain vip of table inet smtpwall sends packets to queue 9, which no program has bound"}},
		{"number that cannot be read", func(s *State) { s.Chains["divert"] = Chain{Queues: []Queues{{Unknown: true}}} }, all, nil},
		{"flowtable", func(s *State) { s.Flowtables = []string{"inet filter ft"} }, all, []string{"flowtable: flowtable inet filter ft lets established connections pass"}},
		{"sysctl differs", func(s *State) { s.Sysctls["net.netfilter.nf_conntrack_tcp_loose"] = "1" }, all, []string{"sysctl: sysctl net.netfilter.nf_conntrack_tcp_loose is 1, not 0"}},
		{"sysctl missing", func(s *State) { delete(s.Sysctls, "net.netfilter.nf_conntrack_events") }, all, []string{"sysctl: sysctl net.netfilter.nf_conntrack_events cannot be read"}},
		{"a comment that is no limit", func(s *State) {
			s.Static.Faults = []Fault{{Set: "static4", Element: "1.1.1.1 comment \"x\" : 1.1.1.1", Text: "want numbers"}}
		}, all, []string{"static-maps: element { 1.1.1.1 comment \"x\" : 1.1.1.1 } of map static4: want numbers"}},
		{"faults of every kind, in order", func(s *State) {
			s.Static.Reverse, s.Static.MaxFirst, s.Unreached = []Fault{{Set: "c"}}, []Fault{{Set: "b"}}, []string{"d"}
			s.Static.Faults = []Fault{{Set: "a"}}
		}, all, []string{"static-maps: element {  } of map a", "static-maps: element {  } of map b", "static-maps: element {  } of map c", "static-maps: d"}},
		{"embryonic limit of the policy without synproxy", func(s *State) {
			s.Static.Synproxy, s.Static.Mappings, s.Policy = false, []static.Mapping{{}}, static.Limits{Embryonic: 5}
		}, all, []string{"static-maps: no rule of chain intercept answers SYNs with cookies"}},
		{"a limit of the policy, and no host", func(s *State) { s.Policy = static.Limits{Max: 5} }, all, []string{"static-maps: `set connection` of the policy limits nobody"}},
		{"a limit of the policy, and a host", func(s *State) {
			s.Static.Mappings, s.Policy = []static.Mapping{{}}, static.Limits{Max: 5}
		}, all, nil},
		{"embryonic limit without synproxy", func(s *State) {
			s.Static.Synproxy, s.Static.Mappings = false, []static.Mapping{{}, {Limits: static.Limits{Embryonic: 1}}}
		}, all, []string{"static-maps: no rule of chain intercept answers SYNs with cookies"}},
		{"embryonic limit with synproxy", func(s *State) { s.Static.Mappings = []static.Mapping{{Limits: static.Limits{Embryonic: 1}}} }, all, nil},
		{"no embryonic limit, no synproxy", func(s *State) {
			s.Static.Synproxy, s.Static.Mappings = false, []static.Mapping{{Limits: static.Limits{Max: 1}}}
		}, all, nil},
		{"as many as are printed", func(s *State) { s.Unreached = make([]string, 20) }, all, slices.Repeat([]string{"static-maps: "}, 20)},
		{"rp_filter", func(s *State) { s.NoRPFilter = []string{"eth0", "eth1"} }, all, []string{"no-rp-filter: reverse path filter is off on eth0, eth1,"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := good()
			c.spoil(s)
			got := Check(s, c.bound)
			if len(got) != len(c.want) {
				t.Fatalf("got %v, want %q", got, c.want)
			}
			for i, w := range got {
				if line := w.Kind.String() + ": " + w.Text; !strings.HasPrefix(line, c.want[i]) {
					t.Errorf("got  %s\nwant %s", line, c.want[i])
				}
			}
		})
	}
}

func TestKindBroken(t *testing.T) {
	want := map[Kind]bool{NoTable: false, NotDiverted: true, UnboundQueue: true, Flowtable: true, Sysctl: false, NoRPFilter: false, StaticMaps: false}
	for k, w := range want {
		if k.Broken() != w {
			t.Errorf("%s: broken %v, want %v", k, k.Broken(), w)
		}
	}
}

// The shipped sysctl file and wantSysctls are the same.
func TestShippedSysctls(t *testing.T) {
	f, err := os.Open("../../nft/sysctl.d/smtpwall.conf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shipped := map[string]string{}
	s := bufio.NewScanner(f)
	for s.Scan() {
		if key, value, ok := strings.Cut(s.Text(), " = "); ok && !strings.HasPrefix(key, "#") {
			shipped[key] = value
		}
	}
	if d := cmp.Diff(wantSysctls, shipped); d != "" {
		t.Errorf("shipped file (+) and the program (-) differ:\n%s", d)
	}
}
