package audit

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// sample is the screen of asa.md 4.1.
const sample = `Global policy:
  Service-policy: global_policy
    Class-map: inspection_default
      Inspect: esmtp _default_esmtp_map, packet 104468, drop 0, reset-drop 0
        mask-banner, count 639
        match cmd line length gt 512
          drop-connection log, packet 0
        match cmd RCPT count gt 100
          drop-connection log, packet 0
        match body line length gt 998
          log, packet 0
        match header line length gt 998
          drop-connection log, packet 41
        match sender-address length gt 320
          drop-connection log, packet 0
        match MIME filename length gt 255
          drop-connection log, packet 0
        match ehlo-reply-parameter others
          mask, packet 2555
`

// sampleCounters are the ones on that screen; 41 connections ended by a match
// leave packets behind that are not counted under drop.
func sampleCounters() engine.Counters {
	c := engine.Counters{Packets: 104468, Banners: 639, Matches: []uint64{0, 0, 0, 41, 0, 0, 2555}}
	c.Drops[engine.ReasonPolicy], c.Drops[engine.ReasonEnded] = 41, 200
	return c
}

// TestServicePolicy prints the ASA's own screen.
func TestServicePolicy(t *testing.T) {
	var b strings.Builder
	if err := ServicePolicy(&b, policy.Default(), []engine.Counters{sampleCounters()}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, b.String()); diff != "" {
		t.Error(diff)
	}
}

// TestServicePolicyOurs: lines of ours appear once they counted, other drops
// and resets have their place.
func TestServicePolicyOurs(t *testing.T) {
	c := engine.Counters{Packets: 9, EndedByRST: 2, UnknownCommands: 3, Parameters: []uint64{5, 0, 0, 0}}
	c.Drops[engine.ReasonSpoofed], c.Drops[engine.ReasonPolicy] = 4, 1
	var b strings.Builder
	if err := ServicePolicy(&b, policy.Default(), []engine.Counters{c}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"      Inspect: esmtp _default_esmtp_map, packet 9, drop 4, reset-drop 2",
		"        mask-banner, count 0",
		"        bare-newline drop-connection log, count 5",
		"        unknown-command, count 3",
		"        match cmd line length gt 512",
		"          drop-connection log, packet 0",
	}
	got := strings.Split(b.String(), "\n")[3:9]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestReport: JSON lists every line, counted or not, and a class without
// counters is all zero.
func TestReport(t *testing.T) {
	got := Report(policy.Default(), nil)
	if len(got) != 1 {
		t.Fatalf("%d classes, want 1", len(got))
	}
	var lines []string
	for _, l := range got[0].Lines {
		if l.Count != 0 {
			t.Errorf("%s counted %d", l.Line, l.Count)
		}
		lines = append(lines, l.Line)
	}
	want := []string{"mask-banner", "bare-newline drop-connection log", "pipelining allow log", "tls-injection drop-connection log",
		"auth-line-length 12288", "unknown-command", "address-character", "address-pipe", "mail-parameter", "after-quit", "early-bytes", "size-exceeded", "undecided",
		"notice unexpected reply", "notice transition", "notice long reply line",
		"match cmd line length gt 512", "match cmd RCPT count gt 100", "match body line length gt 998", "match header line length gt 998",
		"match sender-address length gt 320", "match MIME filename length gt 255", "match ehlo-reply-parameter others"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

// TestSum: every field is added, slices of different length too, and nothing
// that was summed is written to.
func TestSum(t *testing.T) {
	a := engine.Counters{Packets: 1, Early: 5, Conflicts: 6, Matches: []uint64{1}, Parameters: []uint64{4, 5}}
	b := engine.Counters{Packets: 2, Conflicts: 10, UrgentCleared: 7, WindowLowered: 8, EventsLost: 9, Matches: []uint64{10, 20}}
	a.Drops[engine.ReasonEnded], b.Drops[engine.ReasonEnded], b.Drops[engine.ReasonExceedsMSS] = 3, 4, 1
	want := engine.Counters{Packets: 3, Early: 5, Conflicts: 16, UrgentCleared: 7, WindowLowered: 8, EventsLost: 9, Matches: []uint64{11, 20}, Parameters: []uint64{4, 5}}
	want.Drops[engine.ReasonEnded], want.Drops[engine.ReasonExceedsMSS] = 7, 1
	if diff := cmp.Diff(want, Sum(a, b)); diff != "" {
		t.Error(diff)
	}
	if a.Matches[0] != 1 || a.Parameters[0] != 4 {
		t.Errorf("a was changed: %+v", a)
	}
}

// TestTLSLine: allow-tls counts the sessions that became encrypted, not those
// that pass unread for another reason.
func TestTLSLine(t *testing.T) {
	m := *policy.Default().Classes[0].Map
	m.AllowTLS, m.TLSLog = true, true
	lines := parameters(&m, &engine.Counters{TLSStarted: 3, Offloaded: 5})
	if want := (LineReport{Line: "allow-tls action log", Count: 3}); lines[1] != want {
		t.Errorf("got %+v, want %+v", lines[1], want)
	}
}

// TestServicePolicyParameters: the ASA's parameters stand there as soon as they
// are on, in the order of the policy file; ours once they counted.
func TestServicePolicyParameters(t *testing.T) {
	m := *policy.Default().Classes[0].Map
	m.MailRelayDomain, m.MailRelay = "example.org", policy.Do{Action: policy.DropConnection, Log: true}
	m.SpecialCharacter = policy.Do{Log: true}
	m.AllowTLS, m.RequireTLS = true, true
	m.Pipelining = policy.Do{Action: policy.Mask}
	quiet := []string{"mask-banner, count 0", "mail-relay example.org action drop-connection log, count 0",
		"special-character action log, count 0", "allow-tls, count 0"}
	c := engine.Counters{Banners: 1, TLSStarted: 4, AfterQuit: 11, SizeExceeded: 12, Transitions: 13, LongReplies: 14, UnexpectedReplies: 15,
		Parameters: make([]uint64, policy.NumParameters)}
	c.Parameters[policy.MailRelay], c.Parameters[policy.SpecialCharacter] = 2, 3
	c.Parameters[policy.RequireTLS], c.Parameters[policy.Pipelining] = 5, 6
	counted := []string{"mask-banner, count 1", "mail-relay example.org action drop-connection log, count 2",
		"special-character action log, count 3", "allow-tls, count 4", "require-tls, count 5", "pipelining mask, count 6",
		"after-quit, count 11", "size-exceeded, count 12",
		"notice unexpected reply, count 15", "notice transition, count 13", "notice long reply line, count 14"}
	for _, tt := range []struct {
		counters engine.Counters
		want     []string
	}{{engine.Counters{}, quiet}, {c, counted}} {
		var b strings.Builder
		ClassReport{Map: m.Name, Lines: parameters(&m, &tt.counters)}.print(&b)
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n")[2:] {
			got = append(got, strings.TrimSpace(line))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestServicePolicyLimits: a class that states limits, with and without an
// inspect.
func TestServicePolicyLimits(t *testing.T) {
	cfg, err := policy.Parse("test", []byte("policy-map type inspect esmtp m\nclass-map a\n match queue 0\nclass-map b\n match queue 1\npolicy-map p\n"+
		" class a\n  set connection per-client-max 5\n  set connection conn-max 50\n"+
		" class b\n  inspect esmtp m\n  set connection embryonic-conn-max 9\nservice-policy p global\n"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `Global policy:
  Service-policy: p
    Class-map: a
      Set connection policy: conn-max 50 per-client-max 5
    Class-map: b
      Set connection policy: embryonic-conn-max 9
      Inspect: esmtp m, packet 7, drop 0, reset-drop 0
`
	var b strings.Builder
	if err := ServicePolicy(&b, cfg, []engine.Counters{{}, {Packets: 7}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	only, err := json.Marshal(Report(cfg, nil)[0])
	if want := `{"class":"a","map":"","packet":0,"drop":0,"reset_drop":0,"set_connection":"conn-max 50 per-client-max 5","lines":[]}`; err != nil || string(only) != want {
		t.Errorf("%v\n got %s\nwant %s", err, only, want)
	}
}
