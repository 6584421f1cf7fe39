package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// mapped is a mapping with limits.
func mapped(global, local string, most, embryonic uint32) static.Mapping {
	return static.Mapping{
		Global: netip.MustParsePrefix(global), Local: netip.MustParsePrefix(local),
		Limits: static.Limits{Max: most, Embryonic: embryonic},
	}
}

// sampleHosts are one of each kind.
func sampleHosts() []static.HostReport {
	return []static.HostReport{
		{Mapping: mapped("1.1.1.1/32", "192.168.1.1/32", 50, 100), Connections: 50, Peak: 50, Denied: 12, Full: true},
		{Mapping: mapped("1.1.1.2/32", "192.168.1.2/32", 500, 100), Connections: 104, HalfOpen: 100, Peak: 131, Intercepted: 48211, Intercept: true},
		{Mapping: mapped("1.1.1.3/32", "192.168.1.3/32", 50, 100), Connections: 51, HalfOpen: 1, Peak: 51, Denied: 7, Intercepted: 9, Intercept: true, Full: true},
		{Mapping: mapped("203.0.113.0/28", "192.168.1.0/28", 0, 0)},
		{Mapping: mapped("2001:db8::1/128", "2001:db8::1/128", 0, 5), Connections: 3, HalfOpen: 1, Peak: 4},
	}
}

func TestShowStaticText(t *testing.T) {
	table := newStaticTable(static.Report{Hosts: sampleHosts()})
	const want = `Global          Local           Current/limit  Half-open/limit  Peak  Denied  Intercepted  State
1.1.1.1         192.168.1.1     50/50          0/100            50    12      0            full
1.1.1.2         192.168.1.2     104/500        100/100          131   0       48211        intercept
1.1.1.3         192.168.1.3     51/50          1/100            51    7       9            intercept,full
203.0.113.0/28  192.168.1.0/28  0/unlimited    0/unlimited      0     0       0            -
2001:db8::1     2001:db8::1     3/unlimited    1/5              4     0       0            -
`
	if diff := cmp.Diff(want, printed(t, &table, false)); diff != "" {
		t.Error(diff)
	}
	empty := newStaticTable(static.Report{})
	if got, want := printed(t, &empty, false), "no static mappings: the maps of static.nft are empty or not loaded\n"; got != want {
		t.Errorf("without mappings: %q, want %q", got, want)
	}
}

// TestShowStaticHelp finds in the help what is printed.
func TestShowStaticHelp(t *testing.T) {
	table := newStaticTable(static.Report{Hosts: []static.HostReport{sampleHosts()[0], sampleHosts()[1], sampleHosts()[3]}})
	help := newShowStaticCommand().Long
	for line := range strings.Lines(printed(t, &table, false)) {
		if !strings.Contains(help, "  "+line) {
			t.Errorf("the help has no line %q", line)
		}
	}
}

// TestShowStaticJSON asks through a control connection.
func TestShowStaticJSON(t *testing.T) {
	var table staticTable
	err := ask(sources{static: func(context.Context) (static.Report, error) { return static.Report{Hosts: sampleHosts()[2:3]}, nil }}, showStatic, &table)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "hosts": [
    {
      "global": "1.1.1.3",
      "local": "192.168.1.3",
      "current": 51,
      "limit": 50,
      "half_open": 1,
      "half_open_limit": 100,
      "peak": 51,
      "denied": 7,
      "intercepted": 9,
      "intercept": true,
      "full": true
    }
  ]
}
`
	if diff := cmp.Diff(want, printed(t, &table, true)); diff != "" {
		t.Error(diff)
	}
}

// TestShowStaticBound lists no more than an answer of the control socket holds.
func TestShowStaticBound(t *testing.T) {
	longest := static.HostReport{
		Mapping: mapped("2001:db8:1111:2222:3333:4444:5555:6666/127", "2001:db8:1111:2222:3333:4444:5555:6666/127", 2000000, 2000000),
		Peak:    1<<32 - 1, Connections: 1<<32 - 1, HalfOpen: 1<<32 - 1, Denied: 1<<64 - 1, Intercepted: 1<<64 - 1,
	}
	all := make([]static.HostReport, maxListed+2)
	for i := range all {
		all[i] = longest
	}
	table := newStaticTable(static.Report{Hosts: all, Omitted: 3})
	if table.Omitted != 5 {
		t.Errorf("%d omitted, want 5", table.Omitted)
	}
	text, err := json.Marshal(table)
	if err != nil || len(text) > 64<<20-1000 {
		t.Errorf("an answer of %d octets: %v", len(text), err)
	}
	if got := printed(t, &table, false); !strings.HasSuffix(got, "\n5 more are not listed\n") {
		t.Errorf("the end is %q", got[len(got)-100:])
	}
}
