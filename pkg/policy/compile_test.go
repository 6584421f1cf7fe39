package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// several is a map with more than one line for a bound and for a keyword.
const several = ` parameters
  mask-banner
  auth-line-length 600
 match ehlo-reply-parameter size others
  log
 match cmd line length gt 1024
  reset
 match body line length gt 998
  log
 match cmd line length gt 512
  log
 match ehlo-reply-parameter others dsn
  mask
 match cmd line length gt 1024
  log
`

func TestRules(t *testing.T) {
	tests := []struct {
		name, lines string
		want        smtp.Rules
	}{
		{"nothing", "", smtp.Rules{AuthLineLength: 12288}},
		{"several", several, smtp.Rules{
			MaskBanner:     true,
			AuthLineLength: 600,
			MaskKeywords:   [smtp.NumKeywords]bool{smtp.KeywordOthers: true, smtp.KeywordDSN: true, smtp.KeywordSTARTTLS: true},
			Limits:         [smtp.NumMeasures][]uint64{smtp.CmdLineLength: {512, 1024}, smtp.BodyLineLength: {998}},
		}},
		{"each measure", ` match mime filename length gt 6
  log
 match sender-address length gt 5
  log
 match header line length gt 4
  log
 match body line length gt 3
  log
 match cmd rcpt count gt 2
  log
 match cmd line length gt 1
  log
`, smtp.Rules{AuthLineLength: 12288, Limits: [smtp.NumMeasures][]uint64{
			smtp.CmdLineLength: {1}, smtp.CmdRcptCount: {2}, smtp.BodyLineLength: {3},
			smtp.HeaderLineLength: {4}, smtp.SenderLength: {5}, smtp.FilenameLength: {6},
		}}},
		{"TLS allowed", " parameters\n  allow-tls\n match ehlo-reply-parameter others\n  mask\n", smtp.Rules{
			AllowTLS:       true,
			AuthLineLength: 12288,
			MaskKeywords:   [smtp.NumKeywords]bool{smtp.KeywordOthers: true},
		}},
	}
	for _, test := range tests {
		if diff := cmp.Diff(&test.want, mustParse(t, frame(test.lines)).Map("m").Rules()); diff != "" {
			t.Errorf("%s: Rules (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestLookups(t *testing.T) {
	m := mustParse(t, frame(several)).Map("m")
	tests := []struct {
		name      string
		got, want []int
	}{
		{"1024", m.ByLimit(smtp.CmdLineLength, 1024), []int{1, 5}},
		{"512", m.ByLimit(smtp.CmdLineLength, 512), []int{3}},
		{"998", m.ByLimit(smtp.BodyLineLength, 998), []int{2}},
		{"no such bound", m.ByLimit(smtp.CmdLineLength, 998), nil},
		{"no such measure", m.ByLimit(smtp.FilenameLength, 255), nil},
		{"others", m.ByKeyword(smtp.KeywordOthers), []int{0, 4}},
		{"size", m.ByKeyword(smtp.KeywordSIZE), []int{0}},
		{"dsn", m.ByKeyword(smtp.KeywordDSN), []int{4}},
		{"starttls is one of the others", m.ByKeyword(smtp.KeywordSTARTTLS), []int{0, 4}},
		{"vrfy", m.ByKeyword(smtp.KeywordVRFY), nil},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	tls := mustParse(t, frame(" parameters\n  allow-tls\n match ehlo-reply-parameter others\n  mask\n")).Map("m")
	if got := tls.ByKeyword(smtp.KeywordSTARTTLS); got != nil {
		t.Errorf("starttls with allow-tls: %v, want none", got)
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	m := Default().Maps[0]
	allocs := testing.AllocsPerRun(100, func() {
		m.ByLimit(smtp.CmdLineLength, 512)
		m.ByLimit(smtp.CmdLineLength, 513)
		m.ByKeyword(smtp.KeywordSTARTTLS)
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

// TestRulesOfChangedMap: tests and tools make maps by hand.
func TestRulesOfChangedMap(t *testing.T) {
	m := &Map{Matches: []Match{{Criterion: CmdLineLength, Over: 5, Do: dropLog}}}
	m.Rules()
	if got := m.ByLimit(smtp.CmdLineLength, 5); len(got) != 1 {
		t.Errorf("made by hand: ByLimit = %v, want one line", got)
	}
	m.Matches[0].Over = 6
	if diff := cmp.Diff([]uint64{6}, m.Rules().Limits[smtp.CmdLineLength]); diff != "" {
		t.Errorf("changed: Limits (-want +got):\n%s", diff)
	}
	if got := m.ByLimit(smtp.CmdLineLength, 6); len(got) != 1 {
		t.Errorf("changed: ByLimit = %v, want one line", got)
	}
	before := m.index
	if m.Rules(); m.index != before {
		t.Error("Rules wrote to a map that was not changed")
	}
}
