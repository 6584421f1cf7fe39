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
	"github.com/smtpwall/smtpwall/pkg/static"
)

// counted is a shard that inspected so many packets and masked so many banners.
func counted(queue uint16, packets, banners uint64) daemon.Snapshot {
	return daemon.Snapshot{Queue: queue, Engine: engine.Counters{Packets: packets, Banners: banners}}
}

// printed is what an answer prints.
func printed(t *testing.T, a shown, asJSON bool) string {
	t.Helper()
	var out bytes.Buffer
	if err := a.print(&out, asJSON); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// ask sends a control command to a daemon that knows s.
func ask(s sources, command string, into shown) error {
	server := &control.Server{Handlers: handlers(s)}
	return control.InMemory(server).Ask(context.Background(), command, into)
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
	var answer servicePolicy
	err := ask(sources{policy: cfg, snapshots: func(context.Context) ([]daemon.Snapshot, error) {
		return []daemon.Snapshot{counted(0, 10, 1), counted(1, 20, 2), counted(7, 400, 0)}, nil
	}}, showServicePolicy, &answer)
	if err != nil {
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
	if diff := cmp.Diff(text, printed(t, &answer, false)); diff != "" {
		t.Error(diff)
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
	if got := printed(t, &answer, true); !strings.HasPrefix(got, head) {
		t.Errorf("JSON is\n%s\nwant at its beginning\n%s", got, head)
	}
}

// TestShowFails passes the sources' errors on.
func TestShowFails(t *testing.T) {
	stopped := errors.New("ask the shard of queue 3: it has stopped")
	failing := sources{
		policy:    &policy.Config{},
		snapshots: func(context.Context) ([]daemon.Snapshot, error) { return nil, stopped },
		conns:     func(context.Context, int) (daemon.Conns, error) { return daemon.Conns{}, stopped },
		static:    func(context.Context) (static.Report, error) { return static.Report{}, stopped },
	}
	withoutStatic := failing
	withoutStatic.static = nil
	for _, tt := range []struct {
		s       sources
		command string
		into    shown
		want    string
	}{
		{failing, showServicePolicy, &servicePolicy{}, "the daemon answers: ask the shard of queue 3: it has stopped"},
		{failing, showConn, &connTable{}, "the daemon answers: ask the shard of queue 3: it has stopped"},
		{failing, showStatic, &staticTable{}, "the daemon answers: ask the shard of queue 3: it has stopped"},
		{withoutStatic, showStatic, &staticTable{}, "the daemon answers: this daemon counts no static mappings: what it logged at its start says why"},
	} {
		if err := ask(tt.s, tt.command, tt.into); err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.command, err, tt.want)
		}
	}
}
