package engine

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	contentType = "Content-Type: "              // 14 octets
	encoding    = "Content-Transfer-Encoding: " // 27
	quoted      = `Content-Disposition: attachment; filename="`
)

// messageCriteria are the match lines that need the message's fields and its
// sizes. Behind DATA the message begins at the client's octet 6. Expectations were
// worked out by hand from design.md section 5: a bound fires at the first octet or
// field beyond it, a `match not` where what it measures ends.
var messageCriteria = []criterion{
	{"header length gt 12", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdefg\nC: \n" + endDATA},
		{name: "at", talk: beginDATA + "C: A: bcdefgh\nC: \nC: a long body\n" + endDATA},
		{name: "over", talk: beginDATA + "C: A: bcdefghi\nC: \n" + endDATA, hits: []string{`C@18 13>12 "A"`}},
		{name: "over in a second field", talk: beginDATA + "C: A: bcd\nC: B: cd\nC: \n" + endDATA, hits: []string{`C@18 13>12 "B"`}},
	}},
	{"not header length gt 12", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdef\nC: \n" + endDATA, hits: []string{`C@17 10>12 ""`}},
		{name: "at", talk: beginDATA + "C: A: bcdefgh\nC: \n" + endDATA, hits: []string{`C@19 12>12 ""`}},
		{name: "over", talk: beginDATA + "C: A: bcdefghi\nC: \n" + endDATA},
	}},
	{"header to-fields count gt 1", nil, []criterionCase{
		{name: "none", talk: beginDATA + "C: Cc: a\nC: \nC: To: a\nC: To: a\n" + endDATA},
		{name: "at, two addresses", talk: beginDATA + "C: To: a,b\nC: \n" + endDATA},
		{name: "over", talk: beginDATA + "C: To: a\nC: To: a\nC: \n" + endDATA, hits: []string{`C@15 2>1 ""`}},
		{name: "over, as others write it", talk: beginDATA + "C: tO:a\nC: TO : a\nC: \n" + endDATA, hits: []string{`C@15 2>1 ""`}},
		{name: "a fold and other names", talk: beginDATA + "C: To: a\nC:  To: b\nC: Too: a\nC: \n" + endDATA},
	}},
	{"not header to-fields count gt 1", nil, []criterionCase{
		{name: "none", talk: beginDATA + "C: A: b\nC: \n" + endDATA, hits: []string{`C@13 0>1 ""`}},
		{name: "at", talk: beginDATA + "C: To: a\nC: \n" + endDATA, hits: []string{`C@14 1>1 ""`}},
		{name: "over", talk: beginDATA + "C: To: a\nC: To: a\nC: \n" + endDATA},
	}},
	{"body length gt 5", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdefgh\nC: \nC: ab\n" + endDATA},
		{name: "at", talk: beginDATA + "C: A: b\nC: \nC: abc\n" + endDATA},
		{name: "at, stuffed", talk: beginDATA + "C: A: b\nC: \nC: ..bc\n" + endDATA},
		{name: "over", talk: beginDATA + "C: A: b\nC: \nC: abcd\n" + endDATA, hits: []string{`C@19 6>5 ""`}},
		{name: "over in a second line", talk: beginDATA + "C: A: b\nC: \nC: a\nC: b\n" + endDATA, hits: []string{`C@19 6>5 ""`}},
	}},
	{"not body length gt 5", nil, []criterionCase{
		{name: "none", talk: beginDATA + "C: A: b\nC: \n" + endDATA, hits: []string{`C@16 0>5 ""`}},
		{name: "at", talk: beginDATA + "C: A: b\nC: \nC: abc\n" + endDATA, hits: []string{`C@21 5>5 ""`}},
		{name: "over", talk: beginDATA + "C: A: b\nC: \nC: abcd\n" + endDATA},
	}},
	{"not header line length gt 9", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdef\nC: \nC: x\n" + endDATA, hits: []string{`C@15 8>9 ""`}},
		{name: "at", talk: beginDATA + "C: A: bcdefg\nC: \nC: x\n" + endDATA, hits: []string{`C@16 9>9 ""`}},
		{name: "two lines: one record, each counted", talk: beginDATA + "C: A: b\nC: A: b\nC: \nC: x\n" + endDATA, hits: []string{`C@11 4>9 ""`}, count: 2},
		{name: "over", talk: beginDATA + "C: A: bcdefgh\nC: \nC: x\n" + endDATA},
	}},
	{"not body line length gt 4", nil, []criterionCase{
		{name: "none", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "under", talk: beginDATA + "C: A: b\nC: \nC: abc\n" + endDATA, hits: []string{`C@18 3>4 ""`}},
		{name: "at", talk: beginDATA + "C: A: b\nC: \nC: abcd\n" + endDATA, hits: []string{`C@19 4>4 ""`}},
		{name: "two lines: one record, each counted", talk: beginDATA + "C: A: b\nC: \nC: abc\nC: abc\n" + endDATA, hits: []string{`C@18 3>4 ""`}, count: 2},
		{name: "over", talk: beginDATA + "C: A: b\nC: \nC: abcde\n" + endDATA},
	}},
	{"not MIME filename length gt 3", nil, []criterionCase{
		{name: "no name", talk: beginDATA + "C: Content-Disposition: inline\nC: \n" + endDATA},
		{name: "under", talk: beginDATA + "C: " + quoted + "ab\"\nC: \n" + endDATA, hits: []string{`C@51 2>3 ""`}},
		{name: "at", talk: beginDATA + "C: " + quoted + "abc\"\nC: \n" + endDATA, hits: []string{`C@52 3>3 ""`}},
		{name: "over", talk: beginDATA + "C: " + quoted + "abcd\"\nC: \n" + endDATA},
	}},
	{"MIME type length gt 9", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "at", talk: beginDATA + "C: " + contentType + "text/html; charset=utf-8\nC: \n" + endDATA},
		{name: "over", talk: beginDATA + "C: " + contentType + "text/plain\nC: \n" + endDATA, hits: []string{`C@29 10>9 ""`}},
		{name: "over in a comment", talk: beginDATA + "C: " + contentType + "text/html (or plain)\nC: \n" + endDATA},
	}},
	{"not MIME type length gt 9", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "at", talk: beginDATA + "C: " + contentType + "text/html; a=b\nC: \n" + endDATA, hits: []string{`C@29 9>9 ""`}},
		{name: "over", talk: beginDATA + "C: " + contentType + "text/plain; a=b\nC: \n" + endDATA},
	}},
	{"MIME filetype regex image", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "another", talk: beginDATA + "C: " + contentType + "x-image/png;\nC: \n" + endDATA},
		{name: "it", talk: beginDATA + "C: " + contentType + "image/png; a=b\nC: \n" + endDATA, hits: []string{`C@29 0>0 "image/png"`}},
		{name: "in capitals", talk: beginDATA + "C: " + contentType + "IMAGE/PNG; a=b\nC: \n" + endDATA, hits: []string{`C@29 0>0 "image/png"`}},
	}},
	{"not MIME filetype regex image", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "another", talk: beginDATA + "C: " + contentType + "text/html; a=b\nC: \n" + endDATA, hits: []string{`C@29 0>0 "text/html"`}},
		{name: "it", talk: beginDATA + "C: " + contentType + "image/png; a=b\nC: \n" + endDATA},
	}},
	{"MIME filetype regex class files", nil, []criterionCase{
		{name: "neither", talk: beginDATA + "C: " + contentType + "text/html; a=b\nC: \n" + endDATA},
		{name: "the second", talk: beginDATA + "C: " + contentType + "a/zip; a=b\nC: \n" + endDATA, hits: []string{`C@25 0>0 "a/zip"`}},
	}},
	{"MIME encoding base64 others", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "another", talk: beginDATA + "C: " + encoding + "7bit \nC: \n" + endDATA},
		{name: "it", talk: beginDATA + "C: " + encoding + "base64 \nC: \n" + endDATA, hits: []string{`C@39 0>0 "base64"`}},
		{name: "in capitals", talk: beginDATA + "C: " + encoding + "BASE64 \nC: \n" + endDATA, hits: []string{`C@39 0>0 "BASE64"`}},
		{name: "none of the five", talk: beginDATA + "C: " + encoding + "base64x \nC: \n" + endDATA, hits: []string{`C@40 0>0 "base64x"`}},
	}},
	{"not MIME encoding 7bit quoted-printable", nil, []criterionCase{
		{name: "absent", talk: beginDATA + "C: A: b\nC: \n" + endDATA},
		{name: "one of them", talk: beginDATA + "C: " + encoding + "quoted-printable \nC: \n" + endDATA},
		{name: "another", talk: beginDATA + "C: " + encoding + "binary \nC: \n" + endDATA, hits: []string{`C@39 0>0 "binary"`}},
	}},
}

// TestMessageCriteria is TestCriteria for what only the reading of the whole
// message can tell.
func TestMessageCriteria(t *testing.T) { testCriteria(t, messageCriteria) }

// TestSizeExceeded: MAIL declares 20 octets; header, empty line and body have 8
// and those of the body's line.
func TestSizeExceeded(t *testing.T) {
	for _, tt := range []struct {
		name, mail, body string
		events           []string
	}{
		{"at", "MAIL FROM:<a@b> SIZE=20", "0123456789", nil},
		{"over", "MAIL FROM:<a@b> SIZE=20", "0123456789x", []string{"size-exceeded [log] C@54 21>20"}},
		{"the stuffing dot is none", "MAIL FROM:<a@b> SIZE=20", "..123456789", nil},
		{"nothing declared", "MAIL FROM:<a@b>", "0123456789x", nil},
	} {
		w := connect(t, Options{Map: parseMap(t, "", "")})
		w.talk("S: 220 x\nC: " + tt.mail + "\nS: 250 ok\nC: DATA\nS: 354 go")
		w.send(client, "A: b\r\n\r\n"+tt.body+"\r\n.\r\n")
		w.talk("S: 250 ok")
		if diff := cmp.Diff(tt.events, w.findings()); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", tt.name, diff)
		}
		if n := w.e.Counters().SizeExceeded; n != uint64(len(tt.events)) {
			t.Errorf("%s: counted %d", tt.name, n)
		}
		if len(w.drops) > 0 {
			t.Errorf("%s: drops %v", tt.name, w.drops)
		}
		w.done()
	}
}
