package policy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBadFiles compares all errors of each testdata/bad/NAME.conf with NAME.err;
// -update rewrites these.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(filepath.Base(file), text)
			if err == nil || c != nil {
				t.Fatalf("Parse = %v, %v; want no config and an error", c, err)
			}
			compareGolden(t, strings.TrimSuffix(file, ".conf")+".err", err.Error()+"\n")
		})
	}
}

// compareGolden compares with a file, or writes it.
func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestBadLines has one wrong line in an otherwise right map, and its error
// without the file's name.
func TestBadLines(t *testing.T) {
	const (
		gt9   = " match cmd line length gt 9\n"
		verb  = " match cmd verb vrfy\n"
		verbs = "AUTH, BDAT, DATA, EHLO, ETRN, HELO, HELP, MAIL, NOOP, QUIT, RCPT, RSET, SAML, SEND, SOML, STARTTLS, VRFY or a word of its allow-command"
	)
	tests := []struct{ lines, want string }{
		{" parameters now\n", "2:13: now: unexpected; want the end of the line"},
		{" parameters\n  mask-banner log\n", "3:15: log: unexpected; want the end of the line"},
		{" parameters\n  no allow-tls action log\n", "3:16: action: unexpected; want the end of the line"},
		{" parameters\n  allow-tls action\n", "3:19: end of line: unexpected; want log"},
		{" parameters\n  allow-tls log\n", "3:13: log: unexpected; want action"},
		{" parameters\n  no bare-newline log\n", "3:19: log: unexpected; want the end of the line"},
		{" parameters\n  bare-newline log\n  no bare-newline\n", "4:3: no bare-newline: stated twice, first in line 3"},
		{" parameters\n  bare-newline allow\n", "3:16: allow: unexpected; want log, mask, drop-connection or reset"},
		{" parameters\n  bare-newline log log\n", "3:20: log: unexpected; want the end of the line"},
		{" parameters\n  bare-newline\n", "3:15: end of line: unexpected; want log, mask, drop-connection or reset"},
		{" parameters\n  pipelining log\n", "3:14: log: unexpected; want allow, mask or drop-connection"},
		{" parameters\n  pipelining reset\n", "3:14: reset: unexpected; want allow, mask or drop-connection"},
		{" parameters\n  tls-injection log\n", "3:17: log: unexpected; want drop-connection or reset"},
		{" parameters\n  auth-line-length 0\n", "3:20: 0: not in range; want a number from 1 to 16382"},
		{" parameters\n  auth-line-length 16383\n", "3:20: 16383: not in range; want a number from 1 to 16382"},
		{" parameters\n  auth-line-length -1\n", "3:20: -1: not in range; want a number from 1 to 16382"},
		{" parameters\n  mail-relay\n", "3:13: end of line: unexpected; want the domain that mail is for"},
		{" parameters\n  mail-relay action log\n", "3:21: log: unexpected; want action"},
		{" parameters\n  mail-relay example..com action log\n", "3:14: example..com: not a domain; want letters, digits, '-' and dots between them: example.com"},
		{" parameters\n  mail-relay example.com. action log\n", "3:14: example.com.: not a domain; want letters, digits, '-' and dots between them: example.com"},
		{" parameters\n  mail-relay [192.0.2.1] action log\n", "3:14: [192.0.2.1]: not a domain; want letters, digits, '-' and dots between them: example.com"},
		{" parameters\n  mail-relay user@example.com action log\n", "3:14: user@example.com: not a domain; want letters, digits, '-' and dots between them: example.com"},
		{" parameters\n  mail-relay example.com log\n", "3:26: log: unexpected; want action"},
		{" parameters\n  mail-relay example.com action reset\n", "3:33: reset: unexpected; want drop-connection or log"},
		{" parameters\n  mail-relay example.com action log log\n", "3:37: log: unexpected; want the end of the line"},
		{" parameters\n  mail-relay a.example action log\n  mail-relay b.example action log\n", "4:3: mail-relay: stated twice, first in line 3"},
		{" parameters\n  no mail-relay example.com\n", "3:17: example.com: unexpected; want the end of the line"},
		{" parameters\n  special-character log\n", "3:21: log: unexpected; want action"},
		{" parameters\n  special-character action mask\n", "3:28: mask: unexpected; want drop-connection or log"},
		{" parameters\n  allow-bdat log\n", "3:14: log: unexpected; want the end of the line"},
		{" parameters\n  require-tls\n", "3:3: require-tls: without allow-tls nobody could send mail; want allow-tls too, or no require-tls"},
		{" parameters\n  no allow-tls\n  require-tls\n", "4:3: require-tls: without allow-tls nobody could send mail; want allow-tls too, or no require-tls"},
		{" parameters\n  allow-command XONE\n  no allow-command\n", "4:3: no allow-command: stated twice, first in line 3"},
		{" parameters\n  no allow-command\n  allow-command XONE\n", "4:3: allow-command: stated twice, first in line 3"},
		{" parameters\n  no allow-ehlo-parameter\n  allow-ehlo-parameter XONE\n", "4:3: allow-ehlo-parameter: stated twice, first in line 3"},
		{" parameters\n  mask-banner\n parameters\n  Mask-Banner\n", "5:3: Mask-Banner: stated twice, first in line 3"},
		{" parameters\n  no mail-relay\n  no Mail-Relay\n", "4:3: no mail-relay: stated twice, first in line 3"},
		{" parameters\n  allow-tls\n  no allow-tls\n", "4:3: no allow-tls: stated twice, first in line 3"},
		{" parameters\n  bare-newline log\n  bare-newline log\n", "4:3: bare-newline: stated twice, first in line 3"},
		{" parameters\n  auth-line-length 5\n  auth-line-length 6\n", "4:3: auth-line-length: stated twice, first in line 3"},
		{" parameters\n  auth-line-length 5 6\n", "3:22: 6: unexpected; want the end of the line"},
		{" parameters\n  MASK-BANER\n", "3:3: MASK-BANER: unknown command; want mask-banner, mail-relay, special-character, allow-tls, require-tls, allow-bdat, allow-command, allow-ehlo-parameter, auth-line-length, pipelining, bare-newline or tls-injection (did you mean mask-banner?)"},
		{" parameters\n description behind them\n  mask-banner\n", "4:3: mask-banner: out of place; want it under parameters"},
		{"\x00parameters\n", "2:1: \"\\x00\": control character; want plain text"},
		{"  mask-banner\n", "2:3: mask-banner: out of place; want it under parameters"},
		{gt9 + "  log\n  mask-banner\n", "4:3: mask-banner: out of place; want it under parameters"},
		{"  drop-connection log\n", "2:3: drop-connection: out of place; want it under match"},
		{" match mime type size 9\n", "2:18: size: unexpected; want length"},
		{" match mimes filename length gt 9\n", "2:8: mimes: unexpected; want cmd, body, header, sender-address, MIME, invalid-recipients or ehlo-reply-parameter (did you mean MIME?)"},
		{" match header to-field count gt 9\n", "2:15: to-field: unexpected; want line, length or to-fields (did you mean to-fields?)"},
		{" match\n  log\n", "2:7: end of line: unexpected; want cmd, body, header, sender-address, MIME, invalid-recipients or ehlo-reply-parameter"},
		{" match cmd\n  log\n", "2:11: end of line: unexpected; want line, RCPT or verb"},
		{" match CMD line length 9\n", "2:24: 9: unexpected; want gt"},
		{" match cmd line length gt 0\n  log\n", "2:27: 0: not in range; want a number from 1 to 4294967295"},
		{" match cmd line length gt 4294967296\n  log\n", "2:27: 4294967296: not in range; want a number from 1 to 4294967295"},
		{" match cmd line length gt 99999999999999999999\n  log\n", "2:27: 99999999999999999999: not in range; want a number from 1 to 4294967295"},
		{" match cmd line length gt\n  log\n", "2:26: end of line: not in range; want a number from 1 to 4294967295"},
		{" match cmd line length gt 9 9\n  log\n", "2:29: 9: unexpected; want the end of the line"},
		{gt9, "2:2: match: match without an action; want drop-connection, reset or log below it"},
		{gt9 + "  mask\n", "3:3: mask: not an action for cmd line length; want drop-connection, reset or log"},
		{gt9 + "  log log\n", "3:7: log: unexpected; want the end of the line"},
		{gt9 + "  reset now\n", "3:9: now: unexpected; want the end of the line"},
		{gt9 + "  log\n  log\n", "4:3: log: second action, the first is in line 3; want one action for each match"},
		{gt9 + "  rate-limit 5\n", "3:3: rate-limit: not an action for cmd line length; want drop-connection, reset or log"},
		{verb + "  rate-limit 0\n", "3:14: 0: not in range; want a number from 1 to 1000"},
		{verb + "  rate-limit 1001\n", "3:14: 1001: not in range; want a number from 1 to 1000"},
		{verb + "  rate-limit\n", "3:13: end of line: not in range; want a number from 1 to 1000"},
		{verb + "  rate-limit 5 log\n", "3:16: log: unexpected; want the end of the line"},
		{verb, "2:2: match: match without an action; want mask, drop-connection, reset, log or rate-limit below it"},
		{" match cmd verb\n", "2:16: end of line: unexpected; want the words of commands"},
		{" match cmd verb vrfy VRFY\n", "2:22: VRFY: stated twice"},
		{" match cmd verb vrfi\n  log\n", "2:17: vrfi: not a command of this map; want " + verbs + " (did you mean VRFY?)"},
		{" match cmd verb starttsl X-EXPS\n  log\n", "2:17: starttsl: not a command of this map; want " + verbs + " (did you mean STARTTLS?)\n" +
			"2:26: X-EXPS: not a command of this map; want " + verbs},
		{" match mime encoding\n", "2:21: end of line: unexpected; want 7bit, 8bit, base64, binary, others or quoted-printable"},
		{" match mime encoding uuencode\n", "2:22: uuencode: unexpected; want 7bit, 8bit, base64, binary, others or quoted-printable"},
		{" match mime encoding 7bit 7BIT\n", "2:27: 7BIT: stated twice"},
		{" match mime encoding gt 5\n", "2:22: gt: unexpected; want 7bit, 8bit, base64, binary, others or quoted-printable"},
		{" match mime filetype length gt 5\n", "2:22: length: unexpected; want regex"},
		{" match sender-address regex\n", "2:28: end of line: unexpected; want the name of a regex, or class NAME"},
		{" match sender-address regex class\n", "2:34: end of line: unexpected; want the name of a class-map type regex"},
		{" match sender-address regex a b\n", "2:31: b: unexpected; want the end of the line"},
		{" match not not cmd line length gt 9\n", "2:12: not: unexpected; want cmd, body, header, sender-address, MIME, invalid-recipients or ehlo-reply-parameter"},
		{gt9 + "  no log\n  log\n", "3:3: no: a policy file says what holds, it takes nothing back; want the log line left out"},
		{gt9 + "  log\n" + gt9 + "  log\n", "4:2: match: the same match and action as in line 2"},
		{" match ehlo-reply-parameter\n", "2:28: end of line: unexpected; want others, 8bitmime, auth, binarymime, checkpoint, dsn, ecode, etrn, pipelining, size or vrfy"},
		{" match ehlo-reply-parameter starttls\n", "2:29: starttls: not for a match; want allow-tls or no allow-tls under parameters"},
		{" match ehlo-reply-parameter auth AUTH\n", "2:34: AUTH: stated twice"},
		{" match ehlo-reply-parameter chunking\n", "2:29: chunking: not for a match; want allow-bdat or no allow-bdat under parameters"},
		{" match ehlo-reply-parameter binarymime binaryname\n", "2:40: binarymime: stated twice"},
		{" match ehlo-reply-parameter others\n  rate-limit 5\n", "3:3: rate-limit: not an action for ehlo-reply-parameter; want mask, drop-connection, reset or log"},
		{" match ehlo-reply-parameter others\n", "2:2: match: match without an action; want mask, drop-connection, reset or log below it"},
		{" description\n", "2:13: end of line: unexpected; want a description"},
		{" description " + strings.Repeat("x", 201) + "\n", "2:14: " + strings.Repeat("x", 201) + ": description of 201 characters; want at most 200"},
		{" no match cmd line length gt 9\n", "2:2: no: a policy file says what holds, it takes nothing back; want the match line left out"},
		{" parameters ! as default\n", "2:13: !: unexpected; want the end of the line"},
		{" parameters\r\n  mask\x00banner\r\n", "3:7: \"\\x00\": control character; want plain text"},
	}
	for _, test := range tests {
		_, err := Parse("f", []byte(frame(test.lines)))
		if err == nil {
			t.Errorf("%q: no error, want %s", test.lines, test.want)
		} else if got := strings.ReplaceAll(err.Error(), "f:", ""); got != test.want {
			t.Errorf("%q\n got %s\nwant %s", test.lines, got, test.want)
		}
	}
}

// TestBounds: the largest policy passes, one more of anything does not.
func TestBounds(t *testing.T) {
	name := strings.Repeat("n", 40)
	lines := " description " + strings.Repeat("d", 200) + "\n"
	const match = " match cmd line length gt 9"
	for i := range 254 { // and one class map
		lines += match + string(rune('0'+i%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i/100)) + "\n  log\n"
	}
	full := strings.ReplaceAll(frame(lines), "esmtp m\n", "esmtp "+name+"\n")
	mustParse(t, full)
	tcpMaps := ""
	for i := range 255 {
		tcpMaps += fmt.Sprintf("tcp-map %d\n", i)
	}
	mustParse(t, full+tcpMaps)
	tests := []struct{ name, text, want string }{
		{"maps", strings.Repeat("policy-map type inspect esmtp m\n", 256), "f:256:31: m: too many maps; want 255 at most"},
		{"tcp-maps", strings.Repeat("tcp-map t\n", 256), "f:256:9: t: too many tcp-maps; want 255 at most"},
		{"classes", strings.Repeat("class-map c\n", 256), "f:256:11: c: too many class maps; want 255 match lines and class maps at most"},
		{"regex classes", strings.Repeat("class-map type regex match-any c\n", 256), "f:256:32: c: too many class maps; want 255 match lines and class maps at most"},
		{"regexes", strings.Repeat("regex r x\n", 1001), "f:1001:7: r: too many regexes; want 1000 at most; one can hold several with | between them"},
		{"still checked", strings.Replace(full, "service-policy p", "service-policy q", 1), "f:516:16: q: no such policy-map (did you mean p?)"},
		{"matches", strings.Replace(full, "class-map", match+"\n  log\nclass-map", 1), "f:511:2: match: too many class maps; want 255 match lines and class maps at most"},
	}
	for _, test := range tests {
		_, err := Parse("f", []byte(test.text))
		var all Errors
		if !errors.As(err, &all) || all[len(all)-1].Error() != test.want {
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
	}
}

// TestErrorParts: programs get the parts of an error.
func TestErrorParts(t *testing.T) {
	_, err := Parse("policy.conf", []byte(frame(" parameters\n  mask-baner\n  auth-line-length 5k\n")))
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("Parse: %T, want Errors", err)
	}
	want := Errors{
		{"policy.conf", 3, 3, "mask-baner", "unknown command",
			"mask-banner, mail-relay, special-character, allow-tls, require-tls, allow-bdat, allow-command, allow-ehlo-parameter, auth-line-length, pipelining, bare-newline or tls-injection", "mask-banner"},
		{"policy.conf", 4, 20, "5k", "not in range", "a number from 1 to 16382", ""},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	var one *Error
	if !errors.As(err, &one) || one != all[0] {
		t.Error("errors.As does not find the first *Error")
	}
}

// TestOverlap: a queue belongs to one class. The first class has 3-5.
func TestOverlap(t *testing.T) {
	tests := []struct {
		second string
		want   bool
	}{
		{"0-2", false}, {"0-3", true}, {"3", true}, {"4", true}, {"0-9", true}, {"5-9", true}, {"5", true}, {"6-9", false},
	}
	for _, test := range tests {
		text := "class-map a\n match queue 3-5\nclass-map b\n match queue " + test.second + `
policy-map p
 class a
  inspect esmtp
 class b
  inspect esmtp
service-policy p global
`
		_, err := Parse("f", []byte(text))
		want := "f:4:14: " + test.second + ": overlaps class-map a in line 2"
		if !test.want && err != nil || test.want && (err == nil || err.Error() != want) {
			t.Errorf("%s: error %v, overlap is %t", test.second, err, test.want)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "log", 3}, {"log", "", 3}, {"log", "log", 0}, {"log", "lok", 1},
		{"reset", "rest", 1}, {"rest", "reset", 1}, {"mask", "amsk", 2}, {"kitten", "sitting", 3},
		{strings.Repeat("a", 65), strings.Repeat("a", 64), 1},
		{strings.Repeat("a", 65), strings.Repeat("a", 65), maxSlip},
	}
	for _, test := range tests {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// TestMaxPrivate: 64 private commands and keywords pass, one more of either does
// not.
func TestMaxPrivate(t *testing.T) {
	for _, parameter := range []string{"allow-command", "allow-ehlo-parameter"} {
		lines := " parameters\n"
		for i := range 64 {
			lines += "  " + parameter + " Q-" + string(rune('A'+i/8)) + string(rune('A'+i%8)) + "\n"
		}
		mustParse(t, frame(lines))
		_, err := Parse("f", []byte(frame(lines+"  "+parameter+" Q-XX\n")))
		what := map[string]string{"allow-command": "commands", "allow-ehlo-parameter": "EHLO keywords"}[parameter]
		if want := "Q-XX: too many " + what + "; want 64 at most"; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", parameter, err, want)
		}
	}
}
