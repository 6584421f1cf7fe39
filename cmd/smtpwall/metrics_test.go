package main

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/metrics"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// TestQueueMetrics gives every counter of a shard, with its class.
func TestQueueMetrics(t *testing.T) {
	strict := &policy.Map{Name: "strict"}
	cfg := &policy.Config{Classes: []policy.Class{{Name: "mail", First: 0, Last: 1, Map: strict}}}
	one := counted(1, 10, 2)
	one.Panics, one.KillsLost, one.VerdictErrors, one.Strays = 3, 4, 5, 6
	var fault error
	s := sources{policy: cfg, snapshots: func(context.Context) ([]daemon.Snapshot, error) { return []daemon.Snapshot{one}, fault }}
	got, err := s.queueMetrics(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := []metrics.Queue{{Number: 1, Class: "mail", Map: strict, Engine: one.Engine, Panics: 3, KillsLost: 4, VerdictErrors: 5, Strays: 6}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	fault = errors.New("it has stopped")
	if _, err := s.queueMetrics(context.Background()); err != fault {
		t.Errorf("got %v", err)
	}
}
