package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// several is a map with more than one line for most things that a session
// reports. The comments are the indexes of its lines.
const several = `regex evil @evil\.example$
regex bounce ^$
regex exe ^application/x-(msdos|exe)
class-map type regex match-any bad
 match regex evil
 match regex bounce
policy-map type inspect esmtp several
 parameters
  mask-banner
  auth-line-length 600
  mail-relay example.com action log
  allow-command XFORWARD X-EXPS
  allow-ehlo-parameter XFORWARD AUTH=
! 0
 match ehlo-reply-parameter size others
  log
! 1
 match cmd line length gt 1024
  reset
! 2
 match body line length gt 998
  log
! 3
 match cmd line length gt 512
  log
! 4
 match ehlo-reply-parameter others dsn
  mask
! 5
 match cmd line length gt 1024
  log
! 6
 match not cmd line length gt 6
  log
! 7
 match not ehlo-reply-parameter size dsn others
  log
! 8
 match cmd verb etrn x-exps noop
  mask
! 9
 match not cmd verb noop quit
  log
! 10
 match cmd verb vrfy noop
  rate-limit 5
! 11
 match sender-address regex class bad
  drop-connection log
! 12
 match not sender-address regex evil
  log
! 13
 match mime filetype regex exe
  reset
! 14
 match mime encoding others binary
  log
! 15
 match not mime encoding binary base64
  log
! 16
 match not cmd line length gt 100
  log
! 17
 match not cmd line length gt 6
  reset
! 18
 match sender-address regex bounce
  log
`

// severalMap parses it.
func severalMap(t *testing.T) *Map {
	t.Helper()
	return mustParse(t, several+frame("")).Map("several")
}

// The private commands of several.
const (
	verbXFORWARD = smtp.NumVerbs
	verbXEXPS    = smtp.NumVerbs + 1
)

func TestRules(t *testing.T) {
	otherKeywords := [smtp.NumKeywords]bool{smtp.KeywordOthers: true, smtp.KeywordSTARTTLS: true, smtp.KeywordCHUNKING: true}
	tests := []struct {
		name, lines string
		want        smtp.Rules
	}{
		{"nothing", "", smtp.Rules{AuthLineLength: 12288}},
		{"every bound", ` match mime type length gt 11
  log
 match invalid-recipients count gt 10
  log
 match header to-fields count gt 9
  log
 match header length gt 8
  log
 match body length gt 7
  log
 match mime filename length gt 6
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
			smtp.CmdLineLength: {1}, smtp.CmdRcptCount: {2}, smtp.BodyLineLength: {3}, smtp.HeaderLineLength: {4}, smtp.SenderLength: {5},
			smtp.FilenameLength: {6}, smtp.BodyLength: {7}, smtp.HeaderLength: {8}, smtp.ToFieldsCount: {9}, smtp.InvalidRecipients: {10},
			smtp.TypeLength: {11},
		}}},
		{"not", " match not body length gt 7\n  log\n match not header to-fields count gt 1\n  log\n match header to-fields count gt 5\n  log\n",
			smtp.Rules{AuthLineLength: 12288,
				Limits: [smtp.NumMeasures][]uint64{smtp.ToFieldsCount: {5}},
				Within: [smtp.NumMeasures]bool{smtp.BodyLength: true, smtp.ToFieldsCount: true}}},
		{"others", " match ehlo-reply-parameter others\n  mask\n", smtp.Rules{AuthLineLength: 12288, MaskKeywords: otherKeywords}},
		{"others, TLS and BDAT allowed", " parameters\n  allow-tls\n  allow-bdat\n match ehlo-reply-parameter others\n  mask\n", smtp.Rules{
			AllowTLS: true, AllowBDAT: true, AuthLineLength: 12288,
			MaskKeywords: [smtp.NumKeywords]bool{smtp.KeywordOthers: true}}},
		{"not some keywords", " match not ehlo-reply-parameter 8bitmime auth binarymime checkpoint dsn ecode etrn size\n  mask log\n", smtp.Rules{
			AuthLineLength: 12288,
			MaskKeywords: [smtp.NumKeywords]bool{smtp.KeywordOthers: true, smtp.KeywordSTARTTLS: true, smtp.KeywordCHUNKING: true,
				smtp.KeywordPIPELINING: true, smtp.KeywordVRFY: true}}},
		{"not others, TLS allowed", " parameters\n  allow-tls\n match not ehlo-reply-parameter others pipelining\n  mask\n", smtp.Rules{
			AllowTLS: true, AuthLineLength: 12288,
			MaskKeywords: [smtp.NumKeywords]bool{smtp.Keyword8BITMIME: true, smtp.KeywordAUTH: true, smtp.KeywordBINARYMIME: true,
				smtp.KeywordCHECKPOINT: true, smtp.KeywordDSN: true, smtp.KeywordECODE: true, smtp.KeywordETRN: true,
				smtp.KeywordSIZE: true, smtp.KeywordVRFY: true}}},
		{"what ends is not masked", " match ehlo-reply-parameter size\n  drop-connection\n match cmd verb vrfy\n  reset\n", smtp.Rules{
			AuthLineLength: 12288, Watch: [smtp.NumKinds]bool{smtp.KindVerb: true}}},
		{"verbs", " match cmd verb vrfy etrn\n  mask\n match cmd verb vrfy help\n  mask log\n match cmd verb noop\n  log\n", smtp.Rules{
			AuthLineLength: 12288,
			MaskVerbs:      []smtp.Verb{smtp.VerbETRN, smtp.VerbHELP, smtp.VerbVRFY},
			Watch:          [smtp.NumKinds]bool{smtp.KindVerb: true}}},
		{"not verbs", " parameters\n  allow-command XONE XTWO\n match not cmd verb ehlo helo mail rcpt data rset quit noop starttls xtwo\n  mask\n", smtp.Rules{
			AuthLineLength: 12288,
			Commands:       []smtp.Command{{Word: "XONE"}, {Word: "XTWO"}},
			MaskVerbs: []smtp.Verb{smtp.VerbAUTH, smtp.VerbBDAT, smtp.VerbETRN, smtp.VerbHELP, smtp.VerbSAML, smtp.VerbSEND, smtp.VerbSOML,
				smtp.VerbVRFY, smtp.NumVerbs},
			Watch: [smtp.NumKinds]bool{smtp.KindVerb: true}}},
		{"what passes", " parameters\n  allow-tls\n  require-tls\n  allow-bdat\n  allow-command X-EXPS XADR\n  allow-ehlo-parameter AUTH= HELP\n  auth-line-length 5\n",
			smtp.Rules{AllowTLS: true, RequireTLS: true, AllowBDAT: true, AuthLineLength: 5, AuthCommand: true,
				Commands: []smtp.Command{{Word: "X-EXPS", Like: smtp.LikeAUTH}, {Word: "XADR"}}, Keywords: []string{"AUTH=", "HELP"}}},
		{"mail-relay", " parameters\n  mail-relay example.com action log\n", smtp.Rules{
			AuthLineLength: 12288, Watch: [smtp.NumKinds]bool{smtp.KindRecipient: true}}},
		{"special-character", " parameters\n  special-character action log\n", smtp.Rules{AuthLineLength: 12288}},
		{"mime encoding", " match mime encoding others\n  log\n", smtp.Rules{
			AuthLineLength: 12288, Watch: [smtp.NumKinds]bool{smtp.KindEncoding: true}}},
	}
	for _, test := range tests {
		got := mustParse(t, frame(test.lines)).Map("m").Rules()
		if diff := cmp.Diff(&test.want, got, cmpopts.IgnoreUnexported(smtp.Rules{})); diff != "" {
			t.Errorf("%s: Rules (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestRulesOfSeveral(t *testing.T) {
	want := &smtp.Rules{
		MaskBanner:     true,
		AuthLineLength: 600,
		AuthCommand:    true,
		Commands:       []smtp.Command{{Word: "XFORWARD"}, {Word: "X-EXPS", Like: smtp.LikeAUTH}},
		Keywords:       []string{"XFORWARD", "AUTH="},
		MaskVerbs:      []smtp.Verb{smtp.VerbETRN, smtp.VerbNOOP, verbXEXPS},
		MaskKeywords: [smtp.NumKeywords]bool{smtp.KeywordOthers: true, smtp.KeywordDSN: true, smtp.KeywordSTARTTLS: true,
			smtp.KeywordCHUNKING: true},
		Limits: [smtp.NumMeasures][]uint64{smtp.CmdLineLength: {512, 1024}, smtp.BodyLineLength: {998}},
		Within: [smtp.NumMeasures]bool{smtp.CmdLineLength: true},
		Watch: [smtp.NumKinds]bool{smtp.KindVerb: true, smtp.KindSender: true, smtp.KindRecipient: true, smtp.KindMediaType: true,
			smtp.KindEncoding: true},
	}
	if diff := cmp.Diff(want, severalMap(t).Rules(), cmpopts.IgnoreUnexported(smtp.Rules{})); diff != "" {
		t.Errorf("Rules (-want +got):\n%s", diff)
	}
}

func TestLines(t *testing.T) {
	limit := func(m smtp.Measure, n uint64) smtp.Fact {
		return smtp.Fact{Kind: smtp.KindLimit, Measure: m, Limit: n, Value: n + 1}
	}
	within := func(m smtp.Measure, n uint64) smtp.Fact {
		return smtp.Fact{Kind: smtp.KindWithin, Measure: m, Value: n}
	}
	keyword := func(k smtp.Keyword) smtp.Fact { return smtp.Fact{Kind: smtp.KindEHLOKeyword, Keyword: k} }
	verb := func(v smtp.Verb) smtp.Fact { return smtp.Fact{Kind: smtp.KindVerb, Verb: v} }
	text := func(k smtp.Kind, s string) smtp.Fact { return smtp.Fact{Kind: k, Text: []byte(s)} }
	cut := func(k smtp.Kind, s string) smtp.Fact { return smtp.Fact{Kind: k, Text: []byte(s), Cut: true} }
	encoding := func(e smtp.Encoding) smtp.Fact { return smtp.Fact{Kind: smtp.KindEncoding, Encoding: e} }
	tests := []struct {
		name string
		fact smtp.Fact
		want []int
	}{
		{"1024", limit(smtp.CmdLineLength, 1024), []int{1, 5}},
		{"512", limit(smtp.CmdLineLength, 512), []int{3}},
		{"998", limit(smtp.BodyLineLength, 998), []int{2}},
		{"no such bound", limit(smtp.CmdLineLength, 998), nil},
		{"the bound of a not line", limit(smtp.CmdLineLength, 6), nil},
		{"no such measure", limit(smtp.FilenameLength, 255), nil},

		{"within all", within(smtp.CmdLineLength, 0), []int{6, 16, 17}},
		{"within the least, just", within(smtp.CmdLineLength, 6), []int{6, 16, 17}},
		{"over one", within(smtp.CmdLineLength, 7), []int{16}},
		{"within the most, just", within(smtp.CmdLineLength, 100), []int{16}},
		{"over all", within(smtp.CmdLineLength, 101), nil},
		{"within a bound that is no not line", within(smtp.BodyLineLength, 1), nil},

		{"others", keyword(smtp.KeywordOthers), []int{0, 4}},
		{"size", keyword(smtp.KeywordSIZE), []int{0}},
		{"dsn", keyword(smtp.KeywordDSN), []int{4}},
		{"starttls is one of the others", keyword(smtp.KeywordSTARTTLS), []int{0, 4}},
		{"chunking is one of the others", keyword(smtp.KeywordCHUNKING), []int{0, 4}},
		{"vrfy", keyword(smtp.KeywordVRFY), []int{7}},
		{"an allowed keyword", keyword(smtp.KeywordAllowed), nil},

		{"noop", verb(smtp.VerbNOOP), []int{8, 10}},
		{"etrn", verb(smtp.VerbETRN), []int{8, 9}},
		{"quit", verb(smtp.VerbQUIT), nil},
		{"vrfy", verb(smtp.VerbVRFY), []int{9, 10}},
		{"mail", verb(smtp.VerbMAIL), []int{9}},
		{"unknown", verb(smtp.VerbUnknown), []int{9}},
		{"x-exps", verb(verbXEXPS), []int{8, 9}},
		{"xforward", verb(verbXFORWARD), []int{9}},

		{"evil sender", text(smtp.KindSender, "a@evil.example"), []int{11}},
		{"good sender", text(smtp.KindSender, "a@good.example"), []int{12}},
		{"case counts", text(smtp.KindSender, "a@EVIL.example"), []int{12}},
		{"no sender", text(smtp.KindSender, ""), []int{11, 12, 18}},
		{"cut sender", cut(smtp.KindSender, "a"), []int{11, 12, 18}},
		{"evil type", text(smtp.KindMediaType, "application/x-exe"), []int{13}},
		{"good type", text(smtp.KindMediaType, "text/plain"), nil},
		{"cut type", cut(smtp.KindMediaType, "text/"), []int{13}},

		{"binary", encoding(smtp.EncodingBinary), []int{14}},
		{"other encoding", encoding(smtp.EncodingOthers), []int{14, 15}},
		{"base64", encoding(smtp.EncodingBase64), nil},
		{"7bit", encoding(smtp.Encoding7bit), []int{15}},

		{"something else", smtp.Fact{Kind: smtp.KindBanner}, nil},
	}
	m := severalMap(t)
	for _, test := range tests {
		if diff := cmp.Diff(test.want, m.Lines(&test.fact)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	allowed := mustParse(t, frame(" parameters\n  allow-tls\n  allow-bdat\n match ehlo-reply-parameter others\n  mask\n match not ehlo-reply-parameter others\n  mask\n")).Map("m")
	for _, k := range []smtp.Keyword{smtp.KeywordSTARTTLS, smtp.KeywordCHUNKING} {
		if got := allowed.Lines(&smtp.Fact{Kind: smtp.KindEHLOKeyword, Keyword: k}); got != nil {
			t.Errorf("keyword %d with allow-tls and allow-bdat: %v, want none", k, got)
		}
	}
}

func TestLinesDoesNotAllocate(t *testing.T) {
	m := severalMap(t)
	allocs := testing.AllocsPerRun(100, func() {
		for _, f := range []smtp.Fact{
			{Kind: smtp.KindLimit, Measure: smtp.CmdLineLength, Limit: 512},
			{Kind: smtp.KindLimit, Measure: smtp.CmdLineLength, Limit: 513},
			{Kind: smtp.KindWithin, Measure: smtp.CmdLineLength, Value: 5},
			{Kind: smtp.KindEHLOKeyword, Keyword: smtp.KeywordSTARTTLS},
			{Kind: smtp.KindVerb, Verb: smtp.VerbNOOP},
			{Kind: smtp.KindEncoding, Encoding: smtp.EncodingOthers},
			{Kind: smtp.KindSender, Cut: true},
			{Kind: smtp.KindMediaType},
		} {
			m.Lines(&f)
		}
		m.Relays([]byte("@a:user@sub.example.com"), false)
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
}

// TestRulesOfChangedMap: tests and tools make maps by hand.
func TestRulesOfChangedMap(t *testing.T) {
	m := &Map{Matches: []Match{{Criterion: CmdLineLength, Over: 5, Do: dropLog}}}
	m.Rules()
	if got := m.Lines(&smtp.Fact{Kind: smtp.KindLimit, Measure: smtp.CmdLineLength, Limit: 5}); len(got) != 1 {
		t.Errorf("made by hand: Lines = %v, want one", got)
	}
	m.Matches[0].Over = 6
	if diff := cmp.Diff([]uint64{6}, m.Rules().Limits[smtp.CmdLineLength]); diff != "" {
		t.Errorf("changed: Limits (-want +got):\n%s", diff)
	}
	if got := m.Lines(&smtp.Fact{Kind: smtp.KindLimit, Measure: smtp.CmdLineLength, Limit: 6}); len(got) != 1 {
		t.Errorf("changed: Lines = %v, want one", got)
	}
	before := m.index
	if m.Rules(); m.index != before {
		t.Error("Rules wrote to a map that was not changed")
	}
	parsed := severalMap(t)
	before = parsed.index
	if parsed.Rules(); parsed.index != before {
		t.Error("Rules wrote to a map of Parse")
	}
}

// TestRulesOfForeignRegex: only Parse knows what a regex is.
func TestRulesOfForeignRegex(t *testing.T) {
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, "map m names regex x, which Parse has not read") {
			t.Errorf("panic %q", text)
		}
	}()
	(&Map{Name: "m", Matches: []Match{{Criterion: SenderAddressRegex, Regex: "x", Do: dropLog}}}).Rules()
	t.Error("no panic")
}
