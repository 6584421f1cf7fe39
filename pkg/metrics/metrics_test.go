package metrics

import (
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// update rewrites the golden file. Read the difference: names are promised.
var update = flag.Bool("update", false, "rewrite testdata/metrics.txt")

// numbered gives every number in v, which is nil or zero before, the next higher
// one than last, in the order of the fields.
func numbered(v reflect.Value, last *uint64) {
	switch v.Kind() {
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		*last++
		v.SetUint(*last)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				numbered(v.Field(i), last)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			numbered(v.Index(i), last)
		}
	}
}

// lines is a map of two match lines that say the same.
func lines() *policy.Map {
	line := policy.Match{Criterion: policy.CmdLineLength, Over: 512, Do: policy.Do{Action: policy.DropConnection, Log: true}}
	return &policy.Map{Matches: []policy.Match{line, line}}
}

// sample are sources all of whose numbers differ: those of the queue follow 100,
// of the tracker 200, of its hosts 300 and 400, of conntrack 500, of the kernel's
// queues 700, of the limiter 800.
func sample() Sources {
	number := func(v any, last uint64) { numbered(reflect.ValueOf(v).Elem(), &last) }
	q := Queue{Class: "inspection_default", Map: lines(), Engine: engine.Counters{
		Matches: make([]uint64, 2), Parameters: make([]uint64, policy.NumParameters),
	}}
	number(&q, 100)
	q.Number = 3
	s := Static{Hosts: make([]static.HostReport, 2)}
	number(&s.Counters, 200)
	number(&s.Hosts[0], 300)
	number(&s.Hosts[1], 400)
	s.Hosts[0].Intercept = true
	s.Hosts[0].Global, s.Hosts[0].Local = netip.MustParsePrefix("1.1.1.1/32"), netip.MustParsePrefix("192.168.1.1/32")
	s.Hosts[1].Global, s.Hosts[1].Local = netip.MustParsePrefix("2001:db8::/64"), netip.MustParsePrefix("fd00::/64")
	var c Conntrack
	number(&c, 500)
	var k KernelQueue
	number(&k, 700)
	k.Number = 4
	number(&s.Limiter, 800)
	return Sources{
		Queues:    func(context.Context) ([]Queue, error) { return []Queue{q}, nil },
		Usage:     func() (int, int) { return 601, 602 },
		Static:    func(context.Context) (Static, error) { return s, nil },
		Conntrack: func() Conntrack { return c },
		Kernel:    func() ([]KernelQueue, error) { return []KernelQueue{k}, nil },
	}
}

// TestExposition compares a scrape with the golden file.
func TestExposition(t *testing.T) {
	const golden = "testdata/metrics.txt"
	c := New(sample())
	if *update {
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(c)
		if err := prometheus.WriteToTextfile(golden, r); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.Open(golden)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if err := testutil.CollectAndCompare(c, want); err != nil {
		t.Error(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("names that Prometheus does not want: %v %v", problems, err)
	}
}

// scrape returns every metric of c by its name and the values of its labels.
func scrape(t *testing.T, c *Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return all
}

// TestNothingIsMissing finds every number of the sources in a scrape, once: those
// that are added to their structs later, too.
func TestNothingIsMissing(t *testing.T) {
	got := scrape(t, New(sample()))
	of := func(v any, last uint64) (from, to uint64) {
		numbered(reflect.ValueOf(v).Elem(), &last)
		return last + 1, last
	}
	q := Queue{Engine: engine.Counters{Matches: make([]uint64, 2), Parameters: make([]uint64, policy.NumParameters)}}
	_, lastQueue := of(&q, 100)
	_, lastCounter := of(&static.Counters{}, 200)
	_, lastHost := of(&static.HostReport{}, 300)
	_, lastConntrack := of(&Conntrack{}, 500)
	_, lastKernel := of(&KernelQueue{}, 700)
	_, lastLimiter := of(&Limiter{}, 800)
	for _, span := range []struct {
		what     string
		from, to uint64
	}{
		{"queue", 102, lastQueue}, // 101 is its number, a label
		{"tracker", 201, lastCounter},
		{"first host", 301, lastHost},
		{"second host", 401, lastHost + 100},
		{"conntrack", 501, lastConntrack},
		{"usage", 601, 602},
		{"kernel", 702, lastKernel}, // 701 is its number
		{"limiter", 801, lastLimiter},
	} {
		for n := span.from; n <= span.to; n++ {
			times := 0
			for _, v := range got {
				if v == float64(n) {
					times++
				}
			}
			if times != 1 {
				t.Errorf("%s: number %d was told %d times", span.what, n, times)
			}
		}
	}
}

// noErrors is a scrape that tells nothing but that nothing has failed.
var noErrors = map[string]float64{
	"smtpwall_scrape_errors_total queues": 0, "smtpwall_scrape_errors_total static": 0, "smtpwall_scrape_errors_total kernel": 0,
}

// TestNothingToTell is a scrape of a daemon that counts nothing.
func TestNothingToTell(t *testing.T) {
	if diff := cmp.Diff(noErrors, scrape(t, New(Sources{}))); diff != "" {
		t.Error(diff)
	}
}

// TestFailure scrapes while sources fail: the other metrics are told, the failure
// is counted and, where it begins, reported.
func TestFailure(t *testing.T) {
	s := sample()
	var queues, mappings error
	working, all := s.Queues, s.Static
	s.Queues = func(ctx context.Context) ([]Queue, error) {
		if queues != nil {
			return nil, queues
		}
		return working(ctx)
	}
	s.Static = func(ctx context.Context) (Static, error) {
		if mappings != nil {
			return Static{}, mappings
		}
		return all(ctx)
	}
	var reported []string
	s.Report = func(err error) { reported = append(reported, err.Error()) }
	c := New(s)
	stopped, busy := errors.New("it has stopped"), errors.New("it is busy")
	for _, step := range []struct {
		name                       string
		queues, mappings           error
		queueErrors, mappingErrors float64
		reported                   string // all that was
	}{
		{"both work", nil, nil, 0, 0, ""},
		{"one fails", stopped, nil, 1, 0, "it has stopped"},
		{"it fails again", stopped, nil, 2, 0, "it has stopped"},
		{"it works again", nil, nil, 2, 0, "it has stopped"},
		{"both fail", stopped, busy, 3, 1, "it has stopped, it has stopped, it is busy"},
		{"the other one fails", nil, busy, 3, 2, "it has stopped, it has stopped, it is busy"},
	} {
		queues, mappings = step.queues, step.mappings
		got := scrape(t, c)
		if _, told := got["smtpwall_packets_total 3"]; told != (step.queues == nil) {
			t.Errorf("%s: the queue's packets are told: %v", step.name, told)
		}
		if _, told := got["smtpwall_static_syns_total"]; told != (step.mappings == nil) {
			t.Errorf("%s: static SYNs are told: %v", step.name, told)
		}
		if got["smtpwall_connections"] != 601 {
			t.Errorf("%s: other metrics are missing", step.name)
		}
		if q, m := got["smtpwall_scrape_errors_total queues"], got["smtpwall_scrape_errors_total static"]; q != step.queueErrors || m != step.mappingErrors {
			t.Errorf("%s: %v and %v errors, want %v and %v", step.name, q, m, step.queueErrors, step.mappingErrors)
		}
		if got := strings.Join(reported, ", "); got != step.reported {
			t.Errorf("%s: reported %q, want %q", step.name, got, step.reported)
		}
	}
}

// TestSlowSource scrapes while the shards hang: it ends in time.
func TestSlowSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		got := scrape(t, New(Sources{Queues: func(ctx context.Context) ([]Queue, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}))
		if took := time.Since(start); took != patience || got["smtpwall_scrape_errors_total queues"] != 1 {
			t.Errorf("told %v after %s", got, took)
		}
	})
}

// TestHosts tells two mappings of the same addresses once, and no more hosts than
// there is room for.
func TestHosts(t *testing.T) {
	host := func(i int) static.HostReport {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		p := netip.PrefixFrom(addr, 32)
		return static.HostReport{Mapping: static.Mapping{Global: p, Local: p}}
	}
	for _, tt := range []struct {
		name          string
		hosts, twice  int
		told, omitted int
	}{
		{"none", 0, 0, 0, 0},
		{"two, and one of them again", 2, 1, 2, 0},
		{"as many as there is room for", maxHosts, 0, maxHosts, 0},
		{"some of them again", maxHosts, 5, maxHosts, 0},
		{"too many", maxHosts + 3, 0, maxHosts, 3},
	} {
		var all []static.HostReport
		for i := range tt.hosts {
			all = append(all, host(i))
		}
		all = append(all, all[:tt.twice]...)
		got := scrape(t, New(Sources{Static: func(context.Context) (Static, error) { return Static{Hosts: all, Omitted: 7}, nil }}))
		told := 0
		for name := range got {
			if strings.HasPrefix(name, "smtpwall_static_host_connections ") {
				told++
			}
		}
		if omitted := got["smtpwall_static_hosts_omitted"]; told != tt.told || omitted != float64(tt.omitted+7) {
			t.Errorf("%s: %d hosts told, %v omitted; want %d and %d", tt.name, told, omitted, tt.told, tt.omitted+7)
		}
	}
}
