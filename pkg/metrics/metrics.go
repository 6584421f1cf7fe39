// Package metrics tells Prometheus what the daemon counts.
//
// It may be imported by cmd. It must never count itself, but for its own failures:
// it asks when it is asked.
//
// Every metric is called smtpwall_...; names and labels are part of the program's
// interface. Counters begin anew when the daemon starts; those of a static host
// also when the daemon has forgotten a host without connections. A host's limit of
// 0 is none. The full list, with what each means, is what a scrape returns.
//
//	queue           number of the NFQUEUE
//	reason          why packets were dropped, as in `show drops`
//	rule            what acted, as in the audit records' field of that name
//	class, line, match, action
//	                a match line of the policy, by its class-map and number from 1
//	global, local   the addresses of a static host, or a network's while none of
//	                its hosts was heard of
package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Sources are what is asked at each scrape. A nil function has nothing to tell.
// All may be called by several goroutines at once.
type Sources struct {
	Queues    func(context.Context) ([]Queue, error)
	Usage     func() (inUse, most int) // connections under inspection
	Static    func(context.Context) (Static, error)
	Conntrack func() Conntrack
	Kernel    func() ([]KernelQueue, error)
	// Report is told of a source that begins to fail, for the log. It is not
	// told again until that source has worked.
	Report func(error)
}

// Queue is what the inspection of one queue has done.
type Queue struct {
	Number        uint16
	Class         string      // its class-map
	Map           *policy.Map // what it is inspected with
	Engine        engine.Counters
	Panics        uint64
	KillsLost     uint64
	VerdictErrors uint64
	Strays        uint64
}

// Static is what is known of the static mappings.
type Static struct {
	Counters static.Counters
	Limiter  Limiter
	Hosts    []static.HostReport
	Omitted  int // known hosts that are not among them
}

// Limiter is what was done to limit connections, beside counting them.
type Limiter struct {
	Undecodable   uint64 // packets
	VerdictErrors uint64
	KillsLost     uint64
	Failures      uint64 // of reading the ruleset or writing its sets
}

// Conntrack is what was done with conntrack.
type Conntrack struct {
	Deleted, Unknown, Events, Overruns, Resyncs, Failures uint64
}

// KernelQueue is what the kernel has done with a queue. Its counters begin anew
// when the queue is bound.
type KernelQueue struct {
	Number   uint16
	Waiting  uint64 // packets without a verdict now
	Full     uint64 // packets lost because too many waited
	Overflow uint64 // packets lost because the socket's buffer was full
}

const (
	// patience is how long a source may take.
	patience = 2 * time.Second

	// maxHosts is how many static hosts are told, eight lines each: as many as the
	// tracker remembers without connections. Overflow: those that come later in
	// the configuration are counted in smtpwall_static_hosts_omitted.
	maxHosts = 4096
)

// Collector is the daemon's metrics. It is safe for concurrent use.
type Collector struct {
	from Sources

	queue     []family[Queue]
	usage     []family[usage]
	tracker   []family[static.Counters]
	limiter   []family[Limiter]
	host      []family[static.HostReport]
	omitted   []family[uint64]
	conntrack []family[Conntrack]
	kernel    []family[KernelQueue]
	failure   []family[failures]

	mu     sync.Mutex
	failed map[string]failures // by source
}

// usage is what Sources.Usage returns.
type usage struct{ inUse, most uint64 }

// failures are those of a source.
type failures struct {
	n   uint64
	now bool // the last scrape failed
}

// New returns the metrics of s.
func New(s Sources) *Collector {
	return &Collector{
		from:  s,
		queue: queueFamilies(), usage: usageFamilies(), tracker: trackerFamilies(), limiter: limiterFamilies(),
		host: hostFamilies(), omitted: omittedFamilies(), conntrack: conntrackFamilies(), kernel: kernelFamilies(),
		failure: failureFamilies(),
		failed:  map[string]failures{"queues": {}, "static": {}, "kernel": {}},
	}
}

// Describe lists what Collect may return.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	describe(to, c.queue)
	describe(to, c.usage)
	describe(to, c.tracker)
	describe(to, c.limiter)
	describe(to, c.host)
	describe(to, c.omitted)
	describe(to, c.conntrack)
	describe(to, c.kernel)
	describe(to, c.failure)
}

// Collect asks every source. The metrics of one that fails are missing.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if c.from.Queues != nil {
		all, err := c.from.Queues(ctx)
		c.note("queues", err)
		for i := range all {
			collect(to, c.queue, &all[i], number(uint64(all[i].Number)))
		}
	}
	if c.from.Usage != nil {
		inUse, most := c.from.Usage()
		collect(to, c.usage, &usage{uint64(inUse), uint64(most)})
	}
	if c.from.Static != nil {
		all, err := c.from.Static(ctx)
		c.note("static", err)
		if err == nil {
			collect(to, c.tracker, &all.Counters)
			collect(to, c.limiter, &all.Limiter)
			c.hosts(to, all.Hosts, uint64(all.Omitted))
		}
	}
	if c.from.Conntrack != nil {
		n := c.from.Conntrack()
		collect(to, c.conntrack, &n)
	}
	if c.from.Kernel != nil {
		all, err := c.from.Kernel()
		c.note("kernel", err)
		for i := range all {
			collect(to, c.kernel, &all[i], number(uint64(all[i].Number)))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for source, f := range c.failed {
		collect(to, c.failure, &f, source)
	}
}

// hosts tells static hosts. Two mappings of the same addresses are told once: a
// metric that came twice would spoil the scrape.
func (c *Collector) hosts(to chan<- prometheus.Metric, all []static.HostReport, omitted uint64) {
	type addresses struct{ global, local string }
	told := map[addresses]bool{}
	for i := range all {
		a := addresses{hostOrNet(all[i].Global), hostOrNet(all[i].Local)}
		switch {
		case told[a]:
		case len(told) >= maxHosts:
			omitted++
		default:
			told[a] = true
			collect(to, c.host, &all[i], a.global, a.local)
		}
	}
	collect(to, c.omitted, &omitted)
}

// note counts what became of a source, and reports one that begins to fail.
func (c *Collector) note(source string, err error) {
	c.mu.Lock()
	f := c.failed[source]
	begins := err != nil && !f.now
	f.now = err != nil
	if err != nil {
		f.n++
	}
	c.failed[source] = f
	c.mu.Unlock()
	if begins && c.from.Report != nil {
		c.from.Report(err)
	}
}
