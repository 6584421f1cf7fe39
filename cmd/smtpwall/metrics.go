package main

import (
	"context"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/ctnl"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/metrics"
	"github.com/smtpwall/smtpwall/pkg/nfq"
)

// queueMetrics are the shards' counters for a scrape.
func (s sources) queueMetrics(ctx context.Context) ([]metrics.Queue, error) {
	all, err := s.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	var out []metrics.Queue
	for _, shard := range all {
		class := s.policy.ClassFor(shard.Queue)
		if class == nil {
			continue // no shard has such a queue
		}
		out = append(out, metrics.Queue{
			Number: shard.Queue, Class: class.Name, Map: class.Map, Engine: shard.Engine,
			Panics: shard.Panics, KillsLost: shard.KillsLost, VerdictErrors: shard.VerdictErrors, Strays: shard.Strays,
		})
	}
	return out, nil
}

// staticMetrics are the static hosts, and how they are limited, for a scrape.
func staticMetrics(d *daemon.Daemon) func(context.Context) (metrics.Static, error) {
	return func(context.Context) (metrics.Static, error) {
		s, ok := d.Limits()
		if !ok {
			return metrics.Static{}, errNoStatic
		}
		out := metrics.Static{Counters: s.Tracker, Hosts: s.Hosts, Omitted: s.Omitted, Limiter: metrics.Limiter{
			Undecodable: s.Undecodable, VerdictErrors: s.VerdictErrors, KillsLost: s.KillsLost, Failures: s.Failures,
		}}
		out.Counters.EventsLost += s.EventsLost // lost between the two, or behind both: lost
		return out, nil
	}
}

// kernelQueues are those of the daemon's queues that are bound, as the kernel sees
// them.
func kernelQueues(ours []uint16) func() ([]metrics.KernelQueue, error) {
	return func() ([]metrics.KernelQueue, error) {
		bound, err := nfq.ReadAllStatus()
		if err != nil {
			return nil, err
		}
		var out []metrics.KernelQueue
		for _, s := range bound {
			if slices.Contains(ours, s.Number) {
				out = append(out, metrics.KernelQueue{
					Number: s.Number, Waiting: uint64(s.Waiting), Full: uint64(s.Dropped), Overflow: uint64(s.UserDropped),
				})
			}
		}
		return out, nil
	}
}

// scraped is the task that answers Prometheus at addr.
func scraped(log *logrus.Logger, addr string, s sources, d *daemon.Daemon, ct *ctnl.Conn, limit *daemon.Limit) daemon.Task {
	from := metrics.Sources{
		Queues: s.queueMetrics, Usage: d.Usage, Static: staticMetrics(d),
		Conntrack: func() metrics.Conntrack {
			c := ct.Counters()
			return metrics.Conntrack{
				Deleted: c.Deleted, Unknown: c.Unknown, Events: c.Events, Overruns: c.Overruns,
				Resyncs: c.Resyncs, Failures: c.Failures,
			}
		},
		Kernel: kernelQueues(ourQueues(s.policy, limit)),
		Report: func(err error) { log.Error(err) },
	}
	return daemon.NewTask("metrics", func(ctx context.Context, ready func()) error {
		return metrics.New(from).Serve(ctx, addr, ready)
	})
}
