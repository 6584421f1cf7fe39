package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/control"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// counted is a shard that inspected so many packets and masked so many banners.
func counted(queue uint16, packets, banners uint64) daemon.Snapshot {
	return daemon.Snapshot{Queue: queue, Engine: engine.Counters{Packets: packets, Banners: banners}}
}

// TestShowServicePolicy asks, through a control connection, a daemon of two
// classes: the queues of each are summed.
func TestShowServicePolicy(t *testing.T) {
	cfg := &policy.Config{
		PolicyMap: "global_policy", ServicePolicy: "global",
		Classes: []policy.Class{
			{Name: "mail", First: 0, Last: 1, Map: &policy.Map{Name: "strict", MaskBanner: true}},
			{Name: "other", First: 7, Last: 7, Map: &policy.Map{Name: "mild"}},
		},
	}
	server := &control.Server{Handlers: handlers(cfg, func(context.Context) ([]daemon.Snapshot, error) {
		return []daemon.Snapshot{counted(0, 10, 1), counted(1, 20, 2), counted(7, 400, 0)}, nil
	})}
	var answer servicePolicy
	if err := control.InMemory(server).Ask(context.Background(), showServicePolicy, &answer); err != nil {
		t.Fatal(err)
	}

	const text = `Global policy:
  Service-policy: global_policy
    Class-map: mail
      Inspect: esmtp strict, packet 30, drop 0, reset-drop 0
        mask-banner, count 3
    Class-map: other
      Inspect: esmtp mild, packet 400, drop 0, reset-drop 0
`
	var out bytes.Buffer
	if err := answer.print(&out, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, out.String()); diff != "" {
		t.Error(diff)
	}

	out.Reset()
	if err := answer.print(&out, true); err != nil {
		t.Fatal(err)
	}
	const head = `{
  "service_policy": "global",
  "policy_map": "global_policy",
  "classes": [
    {
      "class": "mail",
      "map": "strict",
      "packet": 30,
      "drop": 0,
      "reset_drop": 0,
      "lines": [
        {
          "line": "mask-banner",
          "count": 3
        },
`
	if !strings.HasPrefix(out.String(), head) {
		t.Errorf("JSON is\n%s\nwant at its beginning\n%s", &out, head)
	}
}

// TestShowWhileStopping passes the shards' error on.
func TestShowWhileStopping(t *testing.T) {
	server := &control.Server{Handlers: handlers(&policy.Config{}, func(context.Context) ([]daemon.Snapshot, error) {
		return nil, errors.New("ask the shard of queue 3: it has stopped")
	})}
	err := control.InMemory(server).Ask(context.Background(), showServicePolicy, &servicePolicy{})
	if err == nil || err.Error() != "the daemon answers: ask the shard of queue 3: it has stopped" {
		t.Errorf("got %v", err)
	}
}
