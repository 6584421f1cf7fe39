package smtp

import (
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messageFacts feeds text as one message, whole and cut at every byte, and returns the
// facts of its limits; they must be the same.
func messageFacts(t *testing.T, text string) []string {
	t.Helper()
	fs := []flight{{Server, "220 x\r\n"}, {Client, "DATA\r\n"}, {Server, "354 go\r\n"}, {Client, text + ".\r\n"}, {Server, "250 ok\r\n"}}
	rules := classic()
	rules.MaskBanner = false
	var want []string
	cuts := map[string]func(string) []string{"whole": whole, "bytes": eachByte}
	for n := 1; n < len(text); n += 1 + len(text)/400 {
		cuts[fmt.Sprint(n)] = func(s string) []string {
			if n < len(s) {
				return []string{s[:n], s[n:]}
			}
			return []string{s}
		}
	}
	for i, name := range append([]string{"whole"}, sortedKeys(cuts)...) {
		rec := &recorder{}
		out, _ := run(rules, rec, fs, cuts[name])
		if out[Client] != "DATA\r\n"+text+".\r\n" {
			t.Fatalf("%s: message changed: %q", name, out[Client])
		}
		if i == 0 {
			want = rec.facts
		}
		if diff := cmp.Diff(want, rec.facts); diff != "" {
			t.Fatalf("cut %s (-whole +cut):\n%s", name, diff)
		}
	}
	return want
}

func sortedKeys(m map[string]func(string) []string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func TestMessageLimits(t *testing.T) {
	x := strings.Repeat
	for _, c := range []struct {
		name, text string
		facts      []string
	}{
		{"header line at 998", "A: " + x("h", 995) + "\r\n\r\n", nil},
		{"header line over", "A: " + x("h", 996) + "\r\n\r\n", []string{"limit@1004 3>998"}},
		{"header line over, LF only", "A: " + x("h", 996) + "\n\r\n", []string{"limit@1004 3>998"}},
		{"a fold is a line of its own", "A: " + x("h", 900) + "\r\n " + x("h", 900) + "\r\n\r\n", nil},
		{"two long header lines", "A: " + x("h", 1100) + "\r\nB: " + x("h", 1100) + "\r\n\r\n",
			[]string{"limit@1004 3>998", "limit@2109 3>998 again"}},
		{"body line at 998", "\r\n" + x("b", 998) + "\r\n", nil},
		{"body line over", "\r\n" + x("b", 999) + "\r\n", []string{"limit@1006 2>998"}},
		{"the stuffing dot is not counted", "\r\n." + x("b", 998) + "\r\n", nil},
		{"a bare CR is a byte of its line", "\r\nx\r" + x("b", 997) + "\r\n", []string{"limit@1006 2>998"}},
		{"CR CR LF ends with one CR in the line", "\r\n" + x("b", 998) + "\r\r\n", []string{"limit@1006 2>998"}},
		{"a header that ends without an empty line", "A: b\r\nno field\r\n" + x("b", 999) + "\r\n", []string{"limit@1020 2>998"}},
		{"the mbox line is no end", "From x@y Mon\r\nA: " + x("h", 996) + "\r\n\r\n", []string{"limit@1018 3>998"}},
		{"no header at all", "hello world\r\n" + x("b", 999) + "\r\n", []string{"limit@1017 2>998"}},
		{"name of 255", "Content-Disposition: attachment; filename=\"" + x("n", 255) + "\"\r\n\r\n", nil},
		{"name of 256", "Content-Disposition: attachment; filename=\"" + x("n", 256) + "\"\r\n\r\n", []string{"limit@304 5>255"}},
		{"unquoted, content-type, any case", "CONTENT-type: a/b;NAME=" + x("n", 256) + "; x=y\r\n\r\n", []string{"limit@284 5>255"}},
		{"escapes count once", "Content-Type: a/b; name=\"" + x(`\n`, 255) + "\"\r\n\r\n", nil},
		{"percent encoding counts once", "Content-Type: a/b; name*=utf-8''" + x("%c3", 255) + "\r\n\r\n", nil},
		{"percent encoding over", "Content-Type: a/b; name*=utf-8''" + x("%c3", 256) + "\r\n\r\n", []string{"limit@805 5>255"}},
		{"RFC 2231 pieces are summed", "Content-Type: a/b;\r\n name*0*=u''" + x("n", 100) + ";\r\n name*1=" + x("n", 155) + "\r\n\r\n", nil},
		{"RFC 2231 pieces over", "Content-Type: a/b;\r\n name*0*=u''" + x("n", 100) + ";\r\n name*1=" + x("n", 156) + "\r\n\r\n", []string{"limit@304 5>255"}},
		{"base64 word decoded", "Content-Type: a/b; name=\"=?utf-8?B?" + x("QUJD", 85) + "?=\"\r\n\r\n", nil},
		{"base64 word over", "Content-Type: a/b; name=\"=?utf-8?B?" + x("QUJD", 85) + "QQ==?=\"\r\n\r\n", []string{"limit@382 5>255"}},
		{"words join without the blank between", "Content-Type: a/b; name=\"=?u?q?" + x("=C3", 127) + "?=\r\n =?u?Q?" + x("n", 128) + "?=\"\r\n\r\n", nil},
		{"no word after all", "Content-Type: a/b; name=\"=?u?x?" + x("n", 250) + "?=\"\r\n\r\n", []string{"limit@286 5>255"}},
		{"a comment hides no name", "Content-Type: a/b (; \\) (name=); name=" + x("n", 256) + ");name=" + x("n", 256) + "\r\n\r\n",
			[]string{"limit@562 5>255"}},
		{"other fields are not read", "X-Content-Type: a; name=" + x("n", 256) + "\r\n\r\n", nil},
		{"a signature that names the field", "DKIM-Signature: h=Content-Type; name=" + x("n", 256) + "\r\n\r\n", nil},
		{"in the body it is no header", "\r\nContent-Type: a/b; name=" + x("n", 256) + "\r\n", nil},
		{"in a part it is",
			"Content-Type: multipart/mixed; boundary=\"b1\"\r\n\r\n--b1\r\nContent-Type: a/b; name=" + x("n", 256) + "\r\n\r\n--b1--\r\n",
			[]string{"limit@339 5>255"}},
		{"behind the last part it is not",
			"Content-Type: multipart/mixed; boundary=b1\r\n\r\n--b1\r\n\r\n--b1--\r\nContent-Type: a/b; name=" + x("n", 256) + "\r\n", nil},
		{"in a nested part it is",
			"Content-Type: multipart/mixed; boundary=b1\r\n\r\n--b1\r\nContent-Type: Multipart/x; boundary=b2\r\n\r\n--b2\r\n\r\nbody\r\n--b2\r\nContent-Disposition: a; filename=" +
				x("n", 256) + "\r\n\r\n--b2--\r\n", []string{"limit@408 5>255"}},
		{"in a forwarded message it is",
			"Content-Type: message/rfc822\r\n\r\nContent-Type: a/b; name=" + x("n", 256) + "\r\n\r\n", []string{"limit@317 5>255"}},
		{"part headers are body lines",
			"Content-Type: multipart/mixed; boundary=b1\r\n\r\n--b1\r\nX: " + x("n", 996) + "\r\n\r\n", []string{"limit@1056 2>998"}},
		{"a field without an end", "Content-Type: a/b; name=" + x("n", 256) + "\r\n", []string{"limit@285 5>255"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.facts, messageFacts(t, c.text)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

// The ten endings of the smuggling literature, and their harmless neighbours.
func TestDotLines(t *testing.T) {
	for _, c := range []struct {
		text string // between "\r\nx" and "y\r\n"
		fact bool
	}{
		{"\n.\n", true}, {"\r.\r", true}, {"\r.\n", true}, {"\n.\r", true}, {"\n.\r\n", true},
		{"\r\n.\n", true}, {"\r.\r\n", true}, {"\r\n.\r", true}, {"\r\n\x00.\r\n", true}, {"\r\n.\x00\r\n", true},
		{"\n\x00.\x00\n", true},
		{"\r\n..\r\n", false}, {"\n..\n", false}, {"\n. \n", false}, {"\r\n.x\r\n", false}, {".\n", false}, {"\r\n\x00\r\n", false},
	} {
		want := 0
		if c.fact {
			want = 1
		}
		facts := messageFacts(t, "\r\nx"+c.text+"y\r\n")
		if len(facts) != want || want == 1 && !strings.HasPrefix(facts[0], "dotline@") {
			t.Errorf("%q: facts %q, want %d dot line", c.text, facts, want)
		}
	}
}

func TestLimitsOfCommands(t *testing.T) {
	x := strings.Repeat
	for _, c := range []struct {
		name, line string
		facts      []string
	}{
		{"command line at 512", "NOOP " + x("a", 505) + "\r\n", nil},
		{"command line over", "NOOP " + x("a", 506) + "\r\n", []string{"limit@512 0>512"}},
		{"a masked line counts", "FOO " + x("a", 507) + "\r\n", []string{"limit@512 0>512", `unknown@512 "FOO ` + x("a", 507) + `"`}},
		{"sender at 320", "MAIL FROM:<" + x("s", 320) + "> SIZE=1\r\n", nil},
		{"sender over", "MAIL FROM:<" + x("s", 321) + ">\r\n", []string{"limit@331 4>320"}},
		{"sender over without brackets", "MAIL FROM: " + x("s", 321) + "\r\n", []string{"limit@331 4>320"}},
		{"a bare CR in the path may end a packet", "MAIL FROM:<" + x("s", 320) + "\rX>\r\n", []string{"bare@331 \"MAIL FROM:<" + x("s", 320) + "\"", "limit@331 4>320",
			"replaced@335 \"MAIL FROM:<" + x("s", 320) + "\\rX>\""}},
		{"sender behind a phrase", "MAIL FROM:x <" + x("s", 321) + ">\r\n", []string{"limit@333 4>320"}},
		{"source route counts", "SAML FROM:<@a,@b:" + x("s", 315) + ">\r\n", []string{"limit@331 4>320"}},
		{"a long recipient is none", "RCPT TO:<" + x("s", 321) + ">\r\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := []flight{{Server, "250 x\r\n"}, {Client, c.line}}
			for _, cut := range []func(string) []string{whole, eachByte} {
				rec := &recorder{}
				rules := classic()
				rules.MaskBanner = false
				run(rules, rec, fs, cut)
				if diff := cmp.Diff(c.facts, rec.facts); diff != "" {
					t.Errorf("facts (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRcptCount(t *testing.T) {
	rcpt := func(n int) string { return strings.Repeat("RCPT TO:<a@b>\r\n", n) }
	ok := func(n int) string { return strings.Repeat("250 ok\r\n", n) }
	offered := []flight{{Server, "220 x\r\n"}, {Client, "EHLO a\r\n"}, {Server, "250-x\r\n250 PIPELINING\r\n"}}
	for _, c := range []struct {
		name string
		fs   []flight
		over int // facts of the bound
	}{
		{"100", []flight{{Client, "MAIL FROM:<>\r\n" + rcpt(100)}, {Server, ok(101)}}, 0},
		{"101", []flight{{Client, "MAIL FROM:<>\r\n" + rcpt(101)}, {Server, ok(102)}}, 1},
		{"refused ones count", []flight{{Client, "MAIL FROM:<>\r\n" + rcpt(60)}, {Server, "250 ok\r\n" + strings.Repeat("550 no\r\n", 60)}, {Client, rcpt(41)}}, 1},
		{"RSET on its reply, not before", []flight{{Client, rcpt(60) + "RSET\r\n" + rcpt(41)}}, 1},
		{"RSET answered", []flight{{Client, rcpt(60) + "RSET\r\n"}, {Server, ok(61)}, {Client, rcpt(60)}}, 0},
		{"a refused RSET", []flight{{Client, rcpt(60) + "RSET\r\n"}, {Server, ok(60) + "500 no\r\n"}, {Client, rcpt(60)}}, 1},
		{"MAIL answered behind its RCPTs", []flight{{Client, "MAIL FROM:<>\r\n" + rcpt(60)}, {Server, ok(61)}, {Client, rcpt(41)}}, 1},
		{"a masked RCPT does not count", []flight{{Client, rcpt(100) + "RCPTS TO:<a@b>\r\n"}}, 0},
		{"a message was refused", []flight{{Client, rcpt(60) + "DATA\r\n"}, {Server, ok(60) + "354 go\r\n"}, {Client, ".\r\n"}, {Server, "550 no\r\n"}, {Client, rcpt(60)}}, 0},
	} {
		rec := &recorder{}
		run(classic(), rec, append(offered[:len(offered):len(offered)], c.fs...), whole)
		got := 0
		for _, f := range rec.facts {
			if strings.HasPrefix(f, "limit@") {
				got++
			}
		}
		if got != c.over {
			t.Errorf("%s: %d facts of the bound, want %d: %q", c.name, got, c.over, rec.facts)
		}
	}
}

func TestPendingBound(t *testing.T) {
	var d Dialogue
	d.Init(classic())
	rec := &recorder{answers: map[Kind]Action{}}
	if _, ok := d.Feed(Client, []byte(strings.Repeat("\r\n", maxPending-1)), rec); !ok {
		t.Fatal("ended below the bound")
	}
	if !d.Room([]byte("no line end")) || d.Room([]byte("NOOP\r\n")) {
		t.Error("room for another command")
	}
	if _, ok := d.Feed(Client, []byte("\r\n"), rec); ok {
		t.Error("did not end at the bound")
	}
}

// The octets of a chunk in the packet of its BDAT are no commands.
func TestRoomForChunks(t *testing.T) {
	lines := strings.Repeat("\r\n", maxPending)
	for _, c := range []struct {
		data string
		want bool
	}{
		{lines[2:], true}, // the greeting is awaited, too
		{lines, false},
		{"NOOP\r\nbdat 2048 LAST\r\n" + lines + "QUIT\r\n", true},
		{"BDAT 2048\r\n" + lines + lines, false},
		{"BDAT 99999\r\n" + lines, true},
		{"BDAT 2048x\r\n" + lines, false},
		{"XDAT 2048\r\n" + lines, false},
	} {
		var d Dialogue
		d.Init(rulesWith(bdat)())
		if got := d.Room([]byte(c.data)); got != c.want {
			t.Errorf("room for %.20q...: %v", c.data, got)
		}
	}
	var d Dialogue
	d.Init(classic())
	if d.Room([]byte("BDAT 2048\r\n" + lines)) {
		t.Error("room for octets of a BDAT that is masked")
	}
}

func TestNoAllocs(t *testing.T) {
	var d Dialogue
	d.Init(classic())
	rec := &recorder{}
	d.Feed(Server, []byte("220 x\r\n"), rec)
	command, reply := []byte("RCPT TO:<someone@example.net>\r\n"), []byte("250 2.1.5 Ok\r\n")
	if n := testing.AllocsPerRun(100, func() {
		d.Feed(Client, command, rec)
		d.Feed(Server, reply, rec)
		d.rcpts = 0
	}); n != 0 {
		t.Errorf("a command and its reply: %v allocations", n)
	}
	d.Feed(Client, []byte("DATA\r\n"), rec)
	d.Feed(Server, []byte("354 go\r\n"), rec)
	body := []byte(strings.Repeat(strings.Repeat("A", 76)+"\r\n", 18))
	header := []byte("To: a\r\nContent-Type: text/plain; name=\"=?utf-8?Q?a=41?=\"\r\nContent-Transfer-Encoding: 7bit\r\n")
	if n := testing.AllocsPerRun(100, func() { d.Feed(Client, header, rec) }); n != 0 {
		t.Errorf("header lines: %v allocations", n)
	}
	d.Feed(Client, []byte("\r\n"), rec)
	if n := testing.AllocsPerRun(100, func() { d.Feed(Client, body, rec) }); n != 0 {
		t.Errorf("a body segment: %v allocations", n)
	}
}

// mixedLines is text of lines of 0 to 76 bytes, 40 on average with their ends.
func mixedLines() string {
	r := rand.New(rand.NewSource(1))
	var b strings.Builder
	for b.Len() < 64000 {
		b.WriteString(strings.Repeat("word ", 16)[:r.Intn(77)] + "\r\n")
	}
	return b.String()
}

func BenchmarkBody(b *testing.B) {
	const multipart = "Content-Type: multipart/mixed; boundary=\"=_b\"\r\n\r\n--=_b\r\n\r\n"
	base64 := strings.Repeat(strings.Repeat("A", 76)+"\r\n", 820)
	for _, c := range []struct{ name, header, body string }{
		{"base64", "A: b\r\n\r\n", base64},
		{"base64 in a part", multipart, base64},
		{"short lines", "A: b\r\n\r\n", mixedLines()},
		{"short lines in a part", multipart, mixedLines()},
		{"LF alone", "A: b\r\n\r\n", strings.ReplaceAll(mixedLines(), "\r", "")},
		{"dots", "A: b\r\n\r\n", strings.ReplaceAll(mixedLines(), "\nw", "\n..w")},
		{"bare CRs", "A: b\r\n\r\n", strings.Repeat("ab\r", 21000)},
		{"header", "", strings.Repeat("Received: from mail.example.net (mail.example.net [192.0.2.1])\r\n\tby mx.example.org with ESMTP id 12345\r\n", 500)},
		{"content fields", "", strings.Repeat("Content-Type: application/pdf;\r\n\tname=\"=?utf-8?B?QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=?=\"\r\n", 500)},
	} {
		b.Run(c.name, func(b *testing.B) {
			var d Dialogue
			d.Init(classic())
			rec := &recorder{}
			d.Feed(Server, []byte("220 x\r\n"), rec)
			d.Feed(Client, []byte("DATA\r\n"), rec)
			d.Feed(Server, []byte("354 go\r\n"), rec)
			d.Feed(Client, []byte(c.header), rec)
			body := []byte(c.body)
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				d.Feed(Client, body, rec)
			}
		})
	}
}
