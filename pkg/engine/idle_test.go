package engine

import (
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// idleSessions is how many sessions TestIdleSessions opens.
var idleSessions = flag.Int("idle", 100000, "concurrent idle sessions of TestIdleSessions")

// maxIdle is the goal for the heap of an idle session, in octets.
const maxIdle = 1024

// TestIdleSessions measures what a session costs that waits, at every stage of a
// conversation at which it may wait for long. The goal is for those of a client
// that has something to say later: greeted, no transaction begun or one begun.
func TestIdleSessions(t *testing.T) {
	greeting, ehlo, reply := len(crowdGreeting), len(crowdEHLO), len(crowdReply)
	stages := []struct {
		name  string
		steps []crowdStep
		max   int64 // octets of heap; 0 is no bound
	}{
		{"handshake", []crowdStep{crowdSYN, crowdSYNACK}, maxIdle},
		{"greeting", []crowdStep{{dir: server, text: crowdGreeting}}, maxIdle},
		{"reply to EHLO", []crowdStep{
			{dir: client, ack: greeting, text: crowdEHLO},
			{dir: server, at: greeting, ack: ehlo, text: crowdReply},
		}, maxIdle},
		{"reply to MAIL", []crowdStep{
			{dir: client, at: ehlo, ack: greeting + reply, text: "MAIL FROM:<a@example.org>\r\n"},
			{dir: server, at: greeting + reply, ack: ehlo + 27, text: "250 2.1.0 Ok\r\n"},
		}, maxIdle},
		{"in a message", []crowdStep{
			{dir: client, at: ehlo + 27, ack: greeting + reply + 14, text: "DATA\r\n"},
			{dir: server, at: greeting + reply + 14, ack: ehlo + 33, text: "354 End data with <CR><LF>.<CR><LF>\r\n"},
			{dir: client, at: ehlo + 33, ack: greeting + reply + 51, text: "Subject: x\r\n\r\n" + strings.Repeat("x", 70) + "\r\n"},
			{dir: server, at: greeting + reply + 51, ack: ehlo + 119},
		}, 0},
	}
	n := *idleSessions
	start := measure(t)
	c := newCrowd(t, New(Options{}))
	empty := measure(t)
	table := fmt.Sprintf("\n%-20s %12s %12s\n%-20s %12d %12d\n", "octets of", "heap", "resident", "an empty engine", empty.heap-start.heap, empty.resident-start.resident)
	for _, stage := range stages {
		for _, s := range stage.steps {
			for i := range n {
				c.pass(i, s, c.masked(s.text))
			}
		}
		now := measure(t)
		heap, resident := (now.heap-empty.heap)/int64(n), (now.resident-empty.resident)/int64(n)
		table += fmt.Sprintf("%-20s %12d %12d\n", stage.name, heap, resident)
		if stage.max > 0 && heap > stage.max {
			t.Errorf("%s: a session costs %d octets, want at most %d", stage.name, heap, stage.max)
		}
	}
	t.Logf("%d idle sessions, what each costs, by what came last:\n%s", n, table)
	if got := c.e.Counters().Flows; got != uint64(n) {
		t.Errorf("%d sessions, want %d", got, n)
	}
	runtime.KeepAlive(c)
}
