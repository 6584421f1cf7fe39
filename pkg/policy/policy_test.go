package policy

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// ignoreIndex compares what a policy says, not what was computed from it.
var ignoreIndex = cmpopts.IgnoreUnexported(Map{})

// frame is a whole policy whose map `m` has the given lines.
func frame(lines string) string {
	return "policy-map type inspect esmtp m\n" + lines + "class-map c\n match queue 0\npolicy-map p\n class c\n  inspect esmtp m\nservice-policy p global\n"
}

// mustParse parses a policy that must be right.
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("test.conf", []byte(text))
	if err != nil {
		t.Fatalf("parse policy:\n%v", err)
	}
	return c
}

// dropLog is the action of most lines.
var dropLog = Do{DropConnection, true}

// theDefault is the built-in policy written by hand.
func theDefault() *Config {
	m := &Map{
		Name:           "_default_esmtp_map",
		MaskBanner:     true,
		BareNewline:    dropLog,
		Pipelining:     Do{NoAction, true},
		TLSInjection:   dropLog,
		AuthLineLength: 12288,
		Matches: []Match{
			{Criterion: CmdLineLength, Over: 512, Do: dropLog},
			{Criterion: CmdRcptCount, Over: 100, Do: dropLog},
			{Criterion: BodyLineLength, Over: 998, Do: Do{NoAction, true}},
			{Criterion: HeaderLineLength, Over: 998, Do: dropLog},
			{Criterion: SenderAddressLength, Over: 320, Do: dropLog},
			{Criterion: MIMEFilenameLength, Over: 255, Do: dropLog},
			{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordOthers}, Do: Do{Mask, false}},
		},
	}
	return &Config{
		Nameif:        map[string]string{"eth0": "outside", "eth1": "inside"},
		Maps:          []*Map{m},
		Classes:       []Class{{"inspection_default", 0, 3, m}},
		PolicyMap:     "global_policy",
		ServicePolicy: "global",
	}
}

func TestDefault(t *testing.T) {
	c := Default()
	if diff := cmp.Diff(theDefault(), c, ignoreIndex); diff != "" {
		t.Errorf("Default (-want +got):\n%s", diff)
	}
	if c.Classes[0].Map != c.Maps[0] {
		t.Error("the class has a map of its own, not that of the list")
	}
}

// TestDefaultText compares with the block of design.md section 5, of which
// testdata holds a copy.
func TestDefaultText(t *testing.T) {
	design, err := os.ReadFile("testdata/design-default.conf")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(design), defaultText); diff != "" {
		t.Errorf("defaultText (-design +code):\n%s", diff)
	}
	want := strings.TrimPrefix(defaultText, "! smtpwall's default\n")
	if diff := cmp.Diff(want, Default().String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
}

func TestShippedFile(t *testing.T) {
	file := filepath.Join("..", "..", "nft", "policy.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), c, ignoreIndex); diff != "" {
		t.Errorf("%s (-default +file):\n%s", file, diff)
	}
}

// TestMapLines has the lines of a map and what they change in a map without
// lines.
func TestMapLines(t *testing.T) {
	tests := []struct {
		name, lines string
		want        func(*Map)
	}{
		{"nothing", "", func(*Map) {}},
		{"empty parameters", " parameters\n", func(*Map) {}},
		{"off", " parameters\n  no mask-banner\n  no mail-relay\n  no special-character\n  no allow-tls\n", func(*Map) {}},
		{"mask-banner", " parameters\n  mask-banner\n", func(m *Map) { m.MaskBanner = true }},
		{"allow-tls", " parameters\n  allow-tls\n", func(m *Map) { m.AllowTLS = true }},
		{"allow-tls action log", " parameters\n  allow-tls action log\n", func(m *Map) { m.AllowTLS, m.TLSLog = true, true }},
		{"description", " description  two  spaces ! and more \t\n", func(m *Map) { m.Description = "two  spaces ! and more" }},

		{"bare-newline log", " parameters\n  bare-newline log\n", func(m *Map) { m.BareNewline = Do{NoAction, true} }},
		{"bare-newline mask", " parameters\n  bare-newline mask\n", func(m *Map) { m.BareNewline = Do{Mask, false} }},
		{"bare-newline drop", " parameters\n  bare-newline drop-connection\n", func(m *Map) { m.BareNewline = Do{DropConnection, false} }},
		{"bare-newline reset", " parameters\n  bare-newline reset log\n", func(m *Map) { m.BareNewline = Do{Reset, true} }},
		{"pipelining allow", " parameters\n  pipelining allow\n", func(m *Map) { m.Pipelining = Do{} }},
		{"pipelining allow log", " parameters\n  pipelining allow log\n", func(*Map) {}},
		{"pipelining drop", " parameters\n  pipelining drop-connection log\n", func(m *Map) { m.Pipelining = dropLog }},
		{"tls-injection drop", " parameters\n  tls-injection drop-connection\n", func(m *Map) { m.TLSInjection = Do{DropConnection, false} }},
		{"tls-injection reset", " parameters\n  tls-injection reset log\n", func(m *Map) { m.TLSInjection = Do{Reset, true} }},
		{"auth-line-length", " parameters\n  auth-line-length 4294967295\n", func(m *Map) { m.AuthLineLength = 4294967295 }},

		{"cmd line", " match cmd line length gt 1\n  reset\n", matches(Match{CmdLineLength, 1, nil, Do{Reset, false}})},
		{"rcpt", " match cmd rcpt count gt 4294967295\n  reset log\n", matches(Match{CmdRcptCount, 4294967295, nil, Do{Reset, true}})},
		{"body", " match body line length gt 998\n  drop-connection\n", matches(Match{BodyLineLength, 998, nil, Do{DropConnection, false}})},
		{"header", " match header line length gt 998\n  log\n", matches(Match{HeaderLineLength, 998, nil, Do{NoAction, true}})},
		{"sender", " match sender-address length gt 320\n  drop-connection log\n", matches(Match{SenderAddressLength, 320, nil, dropLog})},
		{"filename", " match mime filename length gt 255\n  log\n", matches(Match{MIMEFilenameLength, 255, nil, Do{NoAction, true}})},
		{"keywords", " match ehlo-reply-parameter vrfy others 8BITMIME\n  mask log\n", matches(Match{EHLOReplyParameter, 0,
			[]smtp.Keyword{smtp.KeywordVRFY, smtp.KeywordOthers, smtp.Keyword8BITMIME}, Do{Mask, true}})},
		{"all keywords", " match ehlo-reply-parameter others 8bitmime auth binarymime checkpoint dsn ecode etrn pipelining size vrfy\n  log\n",
			matches(Match{EHLOReplyParameter, 0, []smtp.Keyword{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, Do{NoAction, true}})},
		{"one bound, two actions", " match cmd line length gt 9\n  log\n match cmd line length gt 9\n  reset\n",
			matches(Match{CmdLineLength, 9, nil, Do{NoAction, true}}, Match{CmdLineLength, 9, nil, Do{Reset, false}})},

		{"parameters behind a match", " match cmd line length gt 9\n  log\n parameters\n  mask-banner\n", func(m *Map) {
			m.MaskBanner, m.Matches = true, []Match{{CmdLineLength, 9, nil, Do{NoAction, true}}}
		}},
		{"no indentation", "parameters\nmask-banner\nmatch cmd line length gt 9\nlog\n", func(m *Map) {
			m.MaskBanner, m.Matches = true, []Match{{CmdLineLength, 9, nil, Do{NoAction, true}}}
		}},
		{"any case", " PARAMETERS\n\tMask-Banner\n  NO Allow-TLS\n MATCH Cmd LINE length GT 9\n  Drop-Connection LOG\n", func(m *Map) {
			m.MaskBanner, m.Matches = true, []Match{{CmdLineLength, 9, nil, dropLog}}
		}},
		{"CR LF, comments", " parameters\r\n! no\r\n\r\n  mask-banner\r\n   ! no mask-banner\r\n", func(m *Map) { m.MaskBanner = true }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := &Map{Name: "m", BareNewline: dropLog, Pipelining: Do{NoAction, true}, TLSInjection: dropLog, AuthLineLength: 12288}
			test.want(want)
			c := mustParse(t, frame(test.lines))
			if diff := cmp.Diff(want, c.Map("m"), ignoreIndex); diff != "" {
				t.Errorf("map (-want +got):\n%s", diff)
			}
			again := mustParse(t, c.String())
			if diff := cmp.Diff(want, again.Map("m"), ignoreIndex); diff != "" {
				t.Errorf("map printed and parsed (-want +got):\n%s", diff)
			}
		})
	}
}

// matches sets the match lines of a map.
func matches(of ...Match) func(*Map) { return func(m *Map) { m.Matches = of } }

// TestConfig is a file with more than one of everything, in an order of its own.
func TestConfig(t *testing.T) {
	c := mustParse(t, `
service-policy P global
policy-map P
 class submission
  inspect esmtp loose
 class mail
  inspect esmtp
class-map mail
 match queue 65535
class-map submission
 match queue 4-6
policy-map type inspect esmtp loose
interface wan0
 nameif out~side
`)
	builtIn := theDefault().Maps[0]
	loose := &Map{Name: "loose", BareNewline: dropLog, Pipelining: Do{NoAction, true}, TLSInjection: dropLog, AuthLineLength: 12288}
	want := &Config{
		Nameif:        map[string]string{"wan0": "out~side"},
		Maps:          []*Map{builtIn, loose},
		Classes:       []Class{{"submission", 4, 6, loose}, {"mail", 65535, 65535, builtIn}},
		PolicyMap:     "P",
		ServicePolicy: "global",
	}
	if diff := cmp.Diff(want, c, ignoreIndex); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]uint16{4, 5, 6, 65535}, c.Queues()); diff != "" {
		t.Errorf("Queues (-want +got):\n%s", diff)
	}
	for queue, name := range map[uint16]string{4: "submission", 6: "submission", 65535: "mail"} {
		if cl := c.ClassFor(queue); cl == nil || cl.Name != name {
			t.Errorf("ClassFor(%d) = %v, want %s", queue, cl, name)
		}
	}
	for _, queue := range []uint16{0, 3, 7, 65534} {
		if cl := c.ClassFor(queue); cl != nil {
			t.Errorf("ClassFor(%d) = %s, want none", queue, cl.Name)
		}
	}
	if m := c.Map("Loose"); m != nil {
		t.Error("names of maps are taken in any case")
	}
}

// TestDefaultMapStated: a file may repeat the default map, under any
// description, as `show running-config all` of an ASA does.
func TestDefaultMapStated(t *testing.T) {
	text := strings.Replace(defaultText, " parameters\n", " description Default ESMTP policy-map\n parameters\n", 1)
	want := theDefault()
	want.Maps[0].Description = "Default ESMTP policy-map"
	if diff := cmp.Diff(want, mustParse(t, text), ignoreIndex); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestWords(t *testing.T) {
	tests := []struct{ got, want string }{
		{Match{Criterion: CmdLineLength, Over: 512}.String(), "cmd line length gt 512"},
		{Match{Criterion: CmdRcptCount, Over: 100}.String(), "cmd RCPT count gt 100"},
		{Match{Criterion: BodyLineLength, Over: 998}.String(), "body line length gt 998"},
		{Match{Criterion: HeaderLineLength, Over: 998}.String(), "header line length gt 998"},
		{Match{Criterion: SenderAddressLength, Over: 320}.String(), "sender-address length gt 320"},
		{Match{Criterion: MIMEFilenameLength, Over: 255}.String(), "MIME filename length gt 255"},
		{Match{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordOthers}}.String(), "ehlo-reply-parameter others"},
		{Match{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordECODE, smtp.KeywordSIZE}}.String(), "ehlo-reply-parameter ecode size"},
		{dropLog.String(), "drop-connection log"},
		{Do{DropConnection, false}.String(), "drop-connection"},
		{Do{Reset, true}.String(), "reset log"},
		{Do{Mask, false}.String(), "mask"},
		{Do{Mask, true}.String(), "mask log"},
		{Do{NoAction, true}.String(), "log"},
		{Do{}.String(), ""},
		{BareNewline.String(), "bare-newline"},
		{Pipelining.String(), "pipelining"},
		{TLSInjection.String(), "tls-injection"},
		{AuthLineLength.String(), "auth-line-length"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
