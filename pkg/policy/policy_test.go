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

// The actions of most lines.
var (
	dropLog = Do{Action: DropConnection, Log: true}
	justLog = Do{Log: true}
)

// absent is a map of that name without a line.
func absent(name string) Map {
	return Map{Name: name, BareNewline: dropLog, Pipelining: justLog, TLSInjection: dropLog, AuthLineLength: 12288}
}

// theDefault is the built-in policy written by hand.
func theDefault() *Config {
	classic, modern := absent("_default_esmtp_map"), absent("modern_esmtp_map")
	classic.MaskBanner = true
	classic.Matches = []Match{
		{Criterion: CmdLineLength, Over: 512, Do: dropLog},
		{Criterion: CmdRcptCount, Over: 100, Do: dropLog},
		{Criterion: BodyLineLength, Over: 998, Do: justLog},
		{Criterion: HeaderLineLength, Over: 998, Do: dropLog},
		{Criterion: SenderAddressLength, Over: 320, Do: dropLog},
		{Criterion: MIMEFilenameLength, Over: 255, Do: dropLog},
		{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordOthers}, Do: Do{Action: Mask}},
	}
	modern.AllowTLS, modern.TLSLog, modern.AllowBDAT, modern.AuthCommandLength = true, true, true, true
	modern.AllowKeywords = []string{"AUTH=", "HELP", "SMTPUTF8", "DELIVERBY", "LIMITS", "REQUIRETLS", "MT-PRIORITY"}
	modern.Matches = []Match{
		{Criterion: CmdLineLength, Over: 2048, Do: dropLog},
		{Criterion: CmdRcptCount, Over: 1000, Do: dropLog},
		{Criterion: BodyLineLength, Over: 998, Do: justLog},
		{Criterion: HeaderLineLength, Over: 998, Do: justLog},
		{Criterion: SenderAddressLength, Over: 320, Do: justLog},
		{Criterion: MIMEFilenameLength, Over: 255, Do: justLog},
		{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordOthers}, Do: Do{Action: Mask, Log: true}},
	}
	return &Config{
		Nameif:        map[string]string{"eth0": "outside", "eth1": "inside"},
		Maps:          []*Map{&classic, &modern},
		Classes:       []Class{{Name: "inspection_default", Last: 3, Map: &classic, TCP: DefaultTCPMap()}},
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
// testdata holds a copy. The file has more comments, and the modern map.
func TestDefaultText(t *testing.T) {
	design, err := os.ReadFile("testdata/design-default.conf")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for l := range strings.Lines(defaultText) {
		if l != "\n" && l[0] != '!' {
			lines = append(lines, l)
		}
	}
	text := strings.Join(lines, "")
	from, to := strings.Index(text, "policy-map type inspect esmtp modern_esmtp_map\n"), strings.Index(text, "class-map ")
	if from < 0 || to < from {
		t.Fatalf("the modern map does not stand between the default map and the class:\n%s", text)
	}
	want := strings.TrimPrefix(string(design), "! smtpwall's default\n")
	if diff := cmp.Diff(want, text[:from]+text[to:]); diff != "" {
		t.Errorf("default.conf without comments and the modern map (-design +file):\n%s", diff)
	}
	// What the modern map states though it is the default is not printed.
	printed := strings.NewReplacer("  pipelining allow log\n", "", "  bare-newline drop-connection log\n", "").Replace(text)
	if diff := cmp.Diff(printed, Default().String()); diff != "" {
		t.Errorf("String (-want +got):\n%s", diff)
	}
}

// TestShippedFile: deleting the installed file changes nothing.
func TestShippedFile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "nft", "policy.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultText, string(text)); diff != "" {
		t.Errorf("nft/policy.conf (-default.conf +file):\n%s", diff)
	}
}

// TestModernIsOneWord: one word of the shipped file selects the other map.
func TestModernIsOneWord(t *testing.T) {
	const line = "  inspect esmtp "
	c := mustParse(t, strings.Replace(defaultText, line+"_default_esmtp_map\n", line+"modern_esmtp_map\n", 1))
	if got := c.Classes[0].Map; got != c.Map("modern_esmtp_map") || len(c.Classes) != 1 {
		t.Errorf("the class has map %s", got.Name)
	}
}

// TestConfig is a file with more than one of everything, in an order of its own.
func TestConfig(t *testing.T) {
	c := mustParse(t, `
service-policy P global
policy-map P
 description what P does
 class submission
  inspect esmtp loose
 class mail
  inspect esmtp
class-map mail
 match queue 65535
class-map submission
 match queue 4-6
 description  port  587
class-map type regex match-any Spam
 match regex two
 description of spam
 match regex One
class-map type regex match-any spam
 match regex two
policy-map type inspect esmtp loose
regex One (?i)^one@
regex two " "two" "
interface wan0
 nameif out~side
`)
	builtIn, loose := theDefault().Maps[0], absent("loose")
	want := &Config{
		Nameif:       map[string]string{"wan0": "out~side"},
		Regexes:      []Regex{{"One", "(?i)^one@"}, {"two", ` "two" `}},
		RegexClasses: []RegexClass{{"Spam", "of spam", []string{"two", "One"}}, {"spam", "", []string{"two"}}},
		Maps:         []*Map{builtIn, &loose},
		Classes: []Class{
			{Name: "submission", Description: "port  587", First: 4, Last: 6, Map: &loose, TCP: DefaultTCPMap()},
			{Name: "mail", First: 65535, Last: 65535, Map: builtIn, TCP: DefaultTCPMap()},
		},
		PolicyMap:     "P",
		Description:   "what P does",
		ServicePolicy: "global",
	}
	if diff := cmp.Diff(want, c, ignoreIndex); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, mustParse(t, c.String()), ignoreIndex); diff != "" {
		t.Errorf("config printed and parsed (-want +got):\n%s", diff)
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
		{Match{Criterion: CmdVerb, Not: true, Verbs: []string{"NOOP", "X-EXPS"}}.String(), "not cmd verb NOOP X-EXPS"},
		{Match{Criterion: BodyLength, Over: 5}.String(), "body length gt 5"},
		{Match{Criterion: HeaderLength, Over: 5}.String(), "header length gt 5"},
		{Match{Criterion: HeaderToFieldsCount, Over: 5}.String(), "header to-fields count gt 5"},
		{Match{Criterion: InvalidRecipientsCount, Over: 5}.String(), "invalid-recipients count gt 5"},
		{Match{Criterion: MIMETypeLength, Over: 5, Not: true}.String(), "not MIME type length gt 5"},
		{Match{Criterion: MIMEEncoding, Encodings: []smtp.Encoding{5, 0}}.String(), "MIME encoding quoted-printable 7bit"},
		{Match{Criterion: MIMEFiletypeRegex, Regex: "exe"}.String(), "MIME filetype regex exe"},
		{Match{Criterion: SenderAddressRegex, Regex: "Spam", Class: true}.String(), "sender-address regex class Spam"},
		{Do{Action: RateLimit, Rate: 5}.String(), "rate-limit 5"},
		{dropLog.String(), "drop-connection log"},
		{Do{Action: DropConnection}.String(), "drop-connection"},
		{Do{Action: Reset, Log: true}.String(), "reset log"},
		{Do{Action: Mask}.String(), "mask"},
		{Do{Action: Mask, Log: true}.String(), "mask log"},
		{justLog.String(), "log"},
		{Do{}.String(), ""},
		{BareNewline.String(), "bare-newline"},
		{Pipelining.String(), "pipelining"},
		{TLSInjection.String(), "tls-injection"},
		{AuthLineLength.String(), "auth-line-length"},
		{MailRelay.String(), "mail-relay"},
		{SpecialCharacter.String(), "special-character"},
		{RequireTLS.String(), "require-tls"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
