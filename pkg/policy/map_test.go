package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// TestParameters has each parameter and what it changes in a map without lines.
// The `no` form of each changes nothing.
func TestParameters(t *testing.T) {
	tests := []struct {
		lines string // with commas for line ends
		want  func(*Map)
	}{
		{"no mask-banner", func(*Map) {}},
		{"mask-banner", func(m *Map) { m.MaskBanner = true }},

		{"no mail-relay", func(*Map) {}},
		{"mail-relay Example.COM action log", func(m *Map) { m.MailRelayDomain, m.MailRelay = "example.com", justLog }},
		{"mail-relay a_b-c.example action drop-connection", func(m *Map) { m.MailRelayDomain, m.MailRelay = "a_b-c.example", Do{Action: DropConnection} }},
		{"mail-relay localhost action drop-connection log", func(m *Map) { m.MailRelayDomain, m.MailRelay = "localhost", dropLog }},

		{"no special-character", func(*Map) {}},
		{"special-character action log", func(m *Map) { m.SpecialCharacter = justLog }},
		{"special-character action drop-connection", func(m *Map) { m.SpecialCharacter = Do{Action: DropConnection} }},
		{"special-character action drop-connection log", func(m *Map) { m.SpecialCharacter = dropLog }},

		{"no allow-tls", func(*Map) {}},
		{"allow-tls", func(m *Map) { m.AllowTLS = true }},
		{"allow-tls action log", func(m *Map) { m.AllowTLS, m.TLSLog = true, true }},

		{"no require-tls", func(*Map) {}},
		{"require-tls, allow-tls", func(m *Map) { m.RequireTLS, m.AllowTLS = true, true }},

		{"no allow-bdat", func(*Map) {}},
		{"allow-bdat", func(m *Map) { m.AllowBDAT = true }},

		{"no allow-command", func(*Map) {}},
		{"allow-command x-exps X-ANONYMOUSTLS XEXCH50 X-LINK2STATE XFORWARD", func(m *Map) {
			m.AllowCommands = []smtp.Command{{Word: "X-EXPS", Like: smtp.LikeAUTH}, {Word: "X-ANONYMOUSTLS", Like: smtp.LikeSTARTTLS},
				{Word: "XEXCH50", Like: smtp.LikeCounted}, {Word: "X-LINK2STATE", Like: smtp.LikeLine}, {Word: "XFORWARD", Like: smtp.LikeLine}}
		}},
		{"allow-command XTWO X-03 like counted, allow-command XONE", func(m *Map) {
			m.AllowCommands = []smtp.Command{{Word: "XTWO", Like: smtp.LikeCounted}, {Word: "X-03", Like: smtp.LikeCounted}, {Word: "XONE", Like: smtp.LikeLine}}
		}},
		{"allow-command X-EXPS like line, allow-command X-TLS LIKE StartTLS, allow-command XAUT like auth", func(m *Map) {
			m.AllowCommands = []smtp.Command{{Word: "X-EXPS", Like: smtp.LikeLine}, {Word: "X-TLS", Like: smtp.LikeSTARTTLS}, {Word: "XAUT", Like: smtp.LikeAUTH}}
		}},
		{"allow-command a23456789-b23456789-c23456789-d2", func(m *Map) {
			m.AllowCommands = []smtp.Command{{Word: "A23456789-B23456789-C23456789-D2", Like: smtp.LikeLine}}
		}},

		{"no allow-ehlo-parameter", func(*Map) {}},
		{"allow-ehlo-parameter auth= Help, allow-ehlo-parameter X", func(m *Map) { m.AllowKeywords = []string{"AUTH=", "HELP", "X"} }},

		{"no auth-line-length", func(*Map) {}},
		{"auth-line-length 12288", func(m *Map) { m.AuthCommandLength = true }},
		{"auth-line-length 1", func(m *Map) { m.AuthCommandLength, m.AuthLineLength = true, 1 }},
		{"auth-line-length 16382", func(m *Map) { m.AuthCommandLength, m.AuthLineLength = true, 16382 }},

		{"no pipelining", func(*Map) {}},
		{"pipelining allow", func(m *Map) { m.Pipelining = Do{} }},
		{"pipelining allow log", func(*Map) {}},
		{"pipelining mask", func(m *Map) { m.Pipelining = Do{Action: Mask} }},
		{"pipelining mask log", func(m *Map) { m.Pipelining = Do{Action: Mask, Log: true} }},
		{"pipelining drop-connection", func(m *Map) { m.Pipelining = Do{Action: DropConnection} }},
		{"pipelining drop-connection log", func(m *Map) { m.Pipelining = dropLog }},

		{"no bare-newline", func(*Map) {}},
		{"bare-newline log", func(m *Map) { m.BareNewline = justLog }},
		{"bare-newline mask", func(m *Map) { m.BareNewline = Do{Action: Mask} }},
		{"bare-newline drop-connection", func(m *Map) { m.BareNewline = Do{Action: DropConnection} }},
		{"bare-newline drop-connection log", func(*Map) {}},
		{"bare-newline reset log", func(m *Map) { m.BareNewline = Do{Action: Reset, Log: true} }},

		{"no tls-injection", func(*Map) {}},
		{"tls-injection drop-connection", func(m *Map) { m.TLSInjection = Do{Action: DropConnection} }},
		{"tls-injection reset log", func(m *Map) { m.TLSInjection = Do{Action: Reset, Log: true} }},
	}
	for _, test := range tests {
		t.Run(test.lines, func(t *testing.T) {
			checkMap(t, " parameters\n  "+strings.ReplaceAll(test.lines, ", ", "\n  ")+"\n", test.want)
		})
	}
}

// checkMap compares the map of the given lines, also printed and parsed again,
// with a map without lines that want has changed.
func checkMap(t *testing.T, lines string, want func(*Map)) {
	t.Helper()
	wanted := absent("m")
	want(&wanted)
	c := mustParse(t, frame(lines))
	if diff := cmp.Diff(&wanted, c.Map("m"), ignoreIndex); diff != "" {
		t.Errorf("map (-want +got):\n%s", diff)
	}
	again := mustParse(t, c.String())
	if diff := cmp.Diff(&wanted, again.Map("m"), ignoreIndex); diff != "" {
		t.Errorf("map printed and parsed (-want +got):\n%s", diff)
	}
}

// TestMapLines has what is special about the lines of a map.
func TestMapLines(t *testing.T) {
	nine := func(do Do) []Match { return []Match{{Criterion: CmdLineLength, Over: 9, Do: do}} }
	tests := []struct {
		name, lines string
		want        func(*Map)
	}{
		{"nothing", "", func(*Map) {}},
		{"empty parameters", " parameters\n", func(*Map) {}},
		{"description", " description  two  spaces ! and more \t\n", func(m *Map) { m.Description = "two  spaces ! and more" }},
		{"one bound, two actions", " match cmd line length gt 9\n  log\n match cmd line length gt 9\n  reset\n",
			func(m *Map) { m.Matches = append(nine(justLog), nine(Do{Action: Reset})...) }},
		{"a match and its opposite", " match cmd line length gt 9\n  log\n match not cmd line length gt 9\n  log\n", func(m *Map) {
			m.Matches = append(nine(justLog), nine(justLog)...)
			m.Matches[1].Not = true
		}},
		{"parameters behind a match", " match cmd verb X-EXPS\n  log\n parameters\n  allow-command x-exps\n", func(m *Map) {
			m.AllowCommands = []smtp.Command{{Word: "X-EXPS", Like: smtp.LikeAUTH}}
			m.Matches = []Match{{Criterion: CmdVerb, Verbs: []string{"X-EXPS"}, Do: justLog}}
		}},
		{"no indentation", "parameters\nmask-banner\nmatch cmd line length gt 9\nlog\n",
			func(m *Map) { m.MaskBanner, m.Matches = true, nine(justLog) }},
		{"any case", " PARAMETERS\n\tMask-Banner\n  NO Allow-TLS\n MATCH Cmd LINE length GT 9\n  Drop-Connection LOG\n",
			func(m *Map) { m.MaskBanner, m.Matches = true, nine(dropLog) }},
		{"CR LF, comments", " parameters\r\n! no\r\n\r\n  mask-banner\r\n   ! no mask-banner\r\n\t!\r\n", func(m *Map) { m.MaskBanner = true }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { checkMap(t, test.lines, test.want) })
	}
}

// TestCriteria has each criterion, with each action that it takes and each that
// it does not.
func TestCriteria(t *testing.T) {
	const (
		endOrLog = "drop-connection,drop-connection log,reset,reset log,log"
		maskToo  = "mask,mask log," + endOrLog
		rateToo  = "rate-limit 1,rate-limit 1000," + maskToo
	)
	tests := []struct {
		line, actions string
		want          Match
	}{
		{"body length gt 1", endOrLog, Match{Criterion: BodyLength, Over: 1}},
		{"body line length gt 998", endOrLog, Match{Criterion: BodyLineLength, Over: 998}},
		{"cmd verb auth Data", rateToo, Match{Criterion: CmdVerb, Verbs: []string{"AUTH", "DATA"}}},
		{"cmd verb auth bdat data ehlo etrn helo help mail noop quit rcpt rset saml send soml starttls vrfy", rateToo, Match{Criterion: CmdVerb,
			Verbs: strings.Fields("AUTH BDAT DATA EHLO ETRN HELO HELP MAIL NOOP QUIT RCPT RSET SAML SEND SOML STARTTLS VRFY")}},
		{"cmd line length gt 512", endOrLog, Match{Criterion: CmdLineLength, Over: 512}},
		{"cmd rcpt count gt 4294967295", endOrLog, Match{Criterion: CmdRcptCount, Over: 4294967295}},
		{"ehlo-reply-parameter others", maskToo, Match{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{smtp.KeywordOthers}}},
		{"ehlo-reply-parameter vrfy BINARYNAME 8bitmime", maskToo, Match{Criterion: EHLOReplyParameter,
			Keywords: []smtp.Keyword{smtp.KeywordVRFY, smtp.KeywordBINARYMIME, smtp.Keyword8BITMIME}}},
		{"ehlo-reply-parameter others 8bitmime auth binarymime checkpoint dsn ecode etrn pipelining size vrfy", maskToo,
			Match{Criterion: EHLOReplyParameter, Keywords: []smtp.Keyword{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}},
		{"header length gt 20000", endOrLog, Match{Criterion: HeaderLength, Over: 20000}},
		{"header line length gt 998", endOrLog, Match{Criterion: HeaderLineLength, Over: 998}},
		{"header to-fields count gt 20", endOrLog, Match{Criterion: HeaderToFieldsCount, Over: 20}},
		{"invalid-recipients count gt 5", endOrLog, Match{Criterion: InvalidRecipientsCount, Over: 5}},
		{"mime encoding Others 7BIT", endOrLog, Match{Criterion: MIMEEncoding, Encodings: []smtp.Encoding{smtp.EncodingOthers, smtp.Encoding7bit}}},
		{"mime encoding 7bit 8bit base64 binary others quoted-printable", endOrLog, Match{Criterion: MIMEEncoding, Encodings: []smtp.Encoding{0, 1, 2, 3, 4, 5}}},
		{"mime filetype regex R", endOrLog, Match{Criterion: MIMEFiletypeRegex, Regex: "R"}},
		{"mime filetype regex class C", endOrLog, Match{Criterion: MIMEFiletypeRegex, Regex: "C", Class: true}},
		{"MIME filename length gt 255", endOrLog, Match{Criterion: MIMEFilenameLength, Over: 255}},
		{"mime type length gt 127", endOrLog, Match{Criterion: MIMETypeLength, Over: 127}},
		{"sender-address length gt 320", endOrLog, Match{Criterion: SenderAddressLength, Over: 320}},
		{"sender-address regex R", endOrLog, Match{Criterion: SenderAddressRegex, Regex: "R"}},
		{"sender-address regex Class C", endOrLog, Match{Criterion: SenderAddressRegex, Regex: "C", Class: true}},
	}
	dos := map[string]Do{
		"drop-connection": {Action: DropConnection}, "drop-connection log": {Action: DropConnection, Log: true},
		"reset": {Action: Reset}, "reset log": {Action: Reset, Log: true},
		"mask": {Action: Mask}, "mask log": {Action: Mask, Log: true}, "log": {Log: true},
		"rate-limit 1": {Action: RateLimit, Rate: 1}, "rate-limit 1000": {Action: RateLimit, Rate: 1000},
	}
	const regexes = "regex R x\nclass-map type regex match-any C\n match regex R\n"
	for _, test := range tests {
		for _, not := range []string{"", "not "} {
			for action, do := range dos {
				line := not + test.line
				c, err := Parse("f", []byte(regexes+frame(" match "+line+"\n  "+action+"\n")))
				if valid := strings.Contains(","+test.actions+",", ","+action+","); !valid {
					if err == nil || !strings.Contains(err.Error(), "f:6:3: "+strings.Fields(action)[0]+": not an action for ") {
						t.Errorf("%s, %s: error %v, want one about the action", line, action, err)
					}
					continue
				} else if err != nil {
					t.Errorf("%s, %s: %v", line, action, err)
					continue
				}
				want := test.want
				want.Not, want.Do = not != "", do
				for _, of := range []*Config{c, mustParse(t, c.String())} {
					if diff := cmp.Diff([]Match{want}, of.Map("m").Matches); diff != "" {
						t.Errorf("%s, %s (-want +got):\n%s", line, action, diff)
					}
				}
			}
		}
	}
}
