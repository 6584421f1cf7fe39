package main

import (
	"context"

	"github.com/smtpwall/smtpwall/pkg/metrics"
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
