package smtp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// teller is a Judge that writes down what a message is made of.
type teller struct{ told []string }

func (j *teller) Judge(f Fact) Action {
	switch {
	case f.Kind == KindMediaType:
		j.told = append(j.told, string(f.Text))
	case f.Kind == KindEncoding:
		j.told = append(j.told, fmt.Sprintf("%d %s", f.Encoding, f.Text))
	case f.Kind == KindWithin && f.Measure == FilenameLength:
		j.told = append(j.told, fmt.Sprint("name of ", f.Value))
	}
	return Pass
}

// contents reads a message as chunk octets, in pieces, and returns what it is
// made of.
func contents(pieces []string) []string {
	var rules Rules
	rules.Watch[KindMediaType], rules.Watch[KindEncoding] = true, true
	rules.Within[FilenameLength] = true
	var d Dialogue
	d.Init(NewRules(rules))
	j := &teller{}
	readPieces(&d, j, true, pieces)
	return j.told
}

// The games with boundaries of reference/peers.md S17 and their kin. A line is a
// LF here and CR LF in the message. What is told: the types in their order, as
// they are; encodings as their number and token; file names as their length.
func TestParts(t *testing.T) {
	x := strings.Repeat
	const mixed = "Content-Type: multipart/mixed; boundary=b\n\n"
	evil := "Content-Type: a/evil; name=evil\n\n"
	for _, c := range []struct {
		name, text string
		told       string // joined with ", "
	}{
		{"parts, preamble and epilogue", mixed + "Content-Type: a/preamble\n\n--b\nContent-Type: a/b\n\nContent-Type: a/body\n--b\nContent-type: a/c\n\n--b--\nContent-Type: a/epilogue\n", "multipart/mixed, a/b, a/c"},
		{"a part without a header", mixed + "--b\n\nContent-Type: a/body\n\n--b\n" + evil + "--b--\n", "multipart/mixed, a/evil, name of 4"},
		{"no empty line behind the message's header", "Content-Type: multipart/mixed; boundary=b\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"a header that never ends", mixed + "--b\nContent-Type: a/b\nX: y\n--b\n" + evil + "--b--\n", "multipart/mixed, a/b, a/evil, name of 4"},
		{"the message ends in a part's header", mixed + "--b\nContent-Disposition: x; filename=abc", "multipart/mixed, name of 3"},
		{"a line that is no field ends a part's header", mixed + "--b\nno field\nContent-Type: a/body\n", "multipart/mixed"},
		{"delimiters in the message's own header are none", "Content-Type: multipart/mixed; boundary=b\n--b: x\nContent-Type: a/b\n", "multipart/mixed, a/b"},

		{"boundary that is the beginning of another: the longer", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/x; boundary=b1\n\n--b1\n" + evil + "--b1--\n--b\nContent-Type: a/c\n\n", "multipart/mixed, multipart/x, a/evil, name of 4, a/c"},
		{"the same, the inner one is shorter", "Content-Type: multipart/mixed; boundary=b1\n\n--b1\nContent-Type: multipart/x; boundary=b\n\n--b\n" + evil + "--b--\n--b1\nContent-Type: a/c\n\n", "multipart/mixed, multipart/x, a/evil, name of 4, a/c"},
		{"text behind a boundary: RFC 2046 takes the beginning", mixed + "--bxyz\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"and hides no inner part from those who take the line", mixed + "--b\nContent-Type: multipart/x; boundary=i\n\n--bxyz\n\n--i\n" + evil, "multipart/mixed, multipart/x, a/evil, name of 4"},
		{"nor does a real delimiter, for those who read the inner one first", mixed + "--b\nContent-Type: multipart/x; boundary=i\n\n--b\n\n--i\n" + evil, "multipart/mixed, multipart/x, a/evil, name of 4"},
		{"a close delimiter that is a boundary's delimiter", mixed + "--b\nContent-Type: multipart/x; boundary=\"b--\"\n\n--b--\n" + evil, "multipart/mixed, multipart/x, a/evil, name of 4"},
		{"text behind a close delimiter", mixed + "--b--x\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"blanks behind it", mixed + "--b-- \t\n" + evil, "multipart/mixed"},
		{"more blanks behind it than a line is looked into", mixed + "--b--" + x(" ", 130) + "x\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"parts behind a close delimiter", mixed + "--b\n\n--b--\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"close delimiter of an inner multipart", mixed + "--b\nContent-Type: multipart/x; boundary=i\n\n--i\n\n--i--\n--b\n" + evil + "--b--\n", "multipart/mixed, multipart/x, a/evil, name of 4"},

		{"blanks behind a delimiter", mixed + "--b \t\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"blanks before one: none", mixed + " --b\n" + evil, "multipart/mixed"},
		{"delimiter inside a line: none", mixed + "x--b\n" + evil, "multipart/mixed"},
		{"one hyphen: none", mixed + "-b\n" + evil, "multipart/mixed"},
		{"bare CR before it: none, a line ends at LF", mixed + "x\r--b\n" + evil, "multipart/mixed"},
		{"boundary with a colon", "Content-Type: multipart/mixed; boundary=\"b:c\"\n\n--b:c\nX: y\n--b:c\n" + evil, "multipart/mixed, a/evil, name of 4"},

		{"boundary of 70 bytes, quoted", "Content-Type: multipart/mixed; boundary=\"" + x("b", 70) + "\"\n\n--" + x("b", 70) + "\n" + evil + "--" + x("b", 70) + "--\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"boundary of 128 bytes", "Content-Type: multipart/mixed; boundary=" + x("b", 128) + "\n\n--" + x("b", 128) + "\n" + evil + "--" + x("b", 128) + "--\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"of a longer one 128 are compared", "Content-Type: multipart/mixed; boundary=" + x("b", 200) + "\n\n--" + x("b", 127) + "\n" + evil + "--" + x("b", 128) + "y\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"boundary in quotes, with blanks, escapes and a comment", "Content-Type: multipart/mixed; (boundary=x) boundary = (c) \"b \" (d)\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"with a backslash: read with and without", "Content-Type: multipart/mixed; boundary=\"\\b\\c\"\n\n--bc\n" + evil + "--\\b\\c\n" + evil, "multipart/mixed, a/evil, name of 4, a/evil, name of 4"},
		{"token with a comment behind it", "Content-Type: multipart/mixed; boundary=b(comment); name=abc\n\n--b\n" + evil, "multipart/mixed, name of 3, a/evil, name of 4"},
		{"token with blanks behind it", "Content-Type: multipart/mixed; boundary=b \t; x=y\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"token that some cut at a blank", "Content-Type: multipart/mixed; boundary=b c\n\n--b c\n" + evil + "\n--b\n" + evil, "multipart/mixed, a/evil, name of 4, a/evil, name of 4"},
		{"no closing quote", "Content-Type: multipart/mixed; boundary=\"b; x=y\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"no boundary", "Content-Type: multipart/mixed\n\n--\n" + evil, "multipart/mixed"},
		{"RFC 2231 boundary", "Content-Type: multipart/mixed; boundary*=us-ascii''%62\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"RFC 2231 boundary in pieces, in any order", "Content-Type: multipart/mixed;\n boundary*1=c;\n boundary*0*=''b\n\n--bc\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"in pieces that are not encoded", "Content-Type: multipart/mixed;\n boundary*1=c;\n boundary*0=b\n\n--bc\n" + evil + "--d\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"a plain one beside it", "Content-Type: multipart/mixed; boundary=a; boundary*0=b\n\n--b\n" + evil + "\n--a\n" + evil, "multipart/mixed, a/evil, name of 4, a/evil, name of 4"},
		{"boundary twice", "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n" + evil + "\n--b\n" + evil, "multipart/mixed, a/evil, name of 4, a/evil, name of 4"},
		{"boundary of a type that is no syntax", "Content-Type: ; boundary=b\n\n--b\n" + evil, "a/evil, name of 4"},
		{"boundary of another field", "Content-Disposition: x; boundary=b\n\n--b\n" + evil, ""},
		{"the same boundary many times is one", x("Content-Type: a/b; boundary=b\n", maxBoundaries+1) + "\n--d\n" + evil, x("a/b, ", maxBoundaries) + "a/b"},
		{"folded in the middle of a parameter", "Content-Type: multipart/mixed;\n\tbound\n\tary\n =\n \"b\"\n\n--b\n" + evil, "multipart/mixed, a/evil, name of 4"},

		{"Content-Type twice: both boundaries", "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=a\nContent-Type: multipart/x; boundary=b\n\n--a\n" + evil + "\n--b\n" + evil, "text/plain, multipart/mixed, multipart/x, a/evil, name of 4, a/evil, name of 4"},
		{"Content-Type twice: one is a message", "Content-Type: message/rfc822\nContent-Type: text/plain\n\n" + evil, "message/rfc822, text/plain, a/evil, name of 4"},
		{"names of the field", "content-TYPE \t: A/B\nX-Content-Type: a/x\nContent-Types: a/y\nContent Type: a/z\nContent-Type: a/body\n", "a/b"},
		{"a field without a name is one", ": x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n:\n" + evil, "multipart/mixed, a/evil, name of 4"},
		{"a signature names the field", "DKIM-Signature: v=1; h=From:Content-Type:\n Content-Type: a/x; b=Content-Type:\n\tContent-Disposition: x; filename=abc\nContent-Type: a/b\n\n", "a/b"},

		{"a message inside", "Content-Type: message/rfc822\n\nX: y\nContent-Type: multipart/mixed; boundary=b\n\n--b\n" + evil, "message/rfc822, multipart/mixed, a/evil, name of 4"},
		{"a message in a message in a part", mixed + "--b\nContent-Type: message/rfc822\n\nContent-Type: Message/Global\n\n" + evil + "Content-Type: a/body\n", "multipart/mixed, message/rfc822, message/global, a/evil, name of 4"},
		{"part of a message", "Content-Type: message/partial; id=x; number=1; total=1\n\n" + evil, "message/partial, a/evil, name of 4"},
		{"a message's header that does not end before the next part", mixed + "--b\nContent-Type: message/rfc822\n--b\n\nContent-Type: a/body\n", "multipart/mixed, message/rfc822"},
		{"the same, the delimiter looks like a field", "Content-Type: multipart/mixed; boundary=\"b:\"\n\n--b:\nContent-Type: message/rfc822\n--b:\n\nContent-Type: a/body\n", "multipart/mixed, message/rfc822"},
		{"digest: parts are messages", "Content-Type: multipart/digest; boundary=b\n\n--b\n\n" + evil + "--b\nContent-Type: text/plain\n\nContent-Type: a/body\n--b\n\n" + evil, "multipart/digest, a/evil, name of 4, text/plain, a/evil, name of 4"},

		{"types: case, blanks, comments", "Content-Type: (a (b)\\)) TEXT / (c)\n Plain (d) ; x=y\n\n", "text/plain"},
		{"types: none", "Content-Type:\nContent-Type: ;\nContent-Type: (x)\n\n", ""},
		{"types: of 256 bytes 255 are told", "Content-Type: a/" + x("b", 254) + "\n\n", "a/" + x("b", 253)},
		{"encodings", "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: 8BIT\nContent-Transfer-Encoding:BASE64\nContent-Transfer-Encoding: binary \nContent-Transfer-Encoding: x-uuencode\ncontent-transfer-encoding\t: Quoted-Printable\n\n",
			"0 7bit, 1 8BIT, 2 BASE64, 3 binary, 4 x-uuencode, 5 Quoted-Printable"},
		{"encodings: comments, more than a token, none", "Content-Transfer-Encoding: (7bit) base64(x)\nContent-Transfer-Encoding: binary 7bit\nContent-Transfer-Encoding: 7bit; x\nContent-Transfer-Encoding: \n\tbase64\nContent-Transfer-Encoding:\nContent-Transfer-Encoding: (7bit)\n\n",
			"2 base64, 3 binary, 0 7bit, 2 base64"},
		{"encodings: no token is longer or shorter", "Content-Transfer-Encoding: base644\nContent-Transfer-Encoding: base6\nContent-Transfer-Encoding: \"base64\"\n\n", `4 base644, 4 base6, 4 "base64"`},
		{"encodings of parts", mixed + "--b\nContent-Transfer-Encoding: base64\n\nContent-Transfer-Encoding: 7bit\n--b\nContent-Transfer-Encoding: foo", "multipart/mixed, 2 base64, 4 foo"},

		{"names", "Content-Disposition: attachment; filename=abc\nContent-Disposition: x; filename=\"a\\\"b c\"; x=y; name=de\nContent-Type: a/b; filename=f; name=\"\"; name=\n\n", "name of 3, name of 5, name of 2, a/b, name of 1, name of 0, name of 0"},
		{"names: blanks at a token's ends", "Content-Disposition: x; filename= a b  ; name=c \n \n\n", "name of 3, name of 1"},
		{"names: pieces are one, told at the field's end", "Content-Disposition: x; filename*0=abc; filename=d; filename*1*=%41e; name*0=f\n\n", "name of 1, name of 5, name of 1"},
		{"names: percent", "Content-Disposition: x; filename*=utf-8'en'a%C3%A4%zz; name*=a%41\n\n", "name of 6, name of 4"},
		{"names: words", "Content-Disposition: x; filename=\"=?utf-8?Q?a=C3=A4_b?= =?u?B?QUI=?=\"; name==?u?b?QUJD?=\n\n", "name of 7, name of 3"},
		{"names: no words", "Content-Disposition: x; filename=\"=?u?b?QUJD\"; name=\"=?u?x?QUJD?=\"\n\n", "name of 10, name of 12"},
		{"names: words that some take as they stand, which is longer", "Content-Disposition: x; filename=\"=?u?q?=4x?=\"; name=\"=?u?b?QU*D?=\"; filename=\"=?u?q?=4?=\"\n\n", "name of 11, name of 12, name of 10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.ReplaceAll(c.text, "\n", "\r\n")
			for _, pieces := range cutsOf(text) {
				if diff := cmp.Diff(c.told, strings.Join(contents(pieces), ", ")); diff != "" {
					t.Fatalf("cut behind %d bytes (-want +got):\n%s", len(pieces[0]), diff)
				}
			}
			if got := strings.Join(contents([]string{c.text}), ", "); got != c.told {
				t.Errorf("with lines that end at LF alone: %s, want %s", got, c.told)
			}
		})
	}
}

// Multiparts up to maxBoundaries are told apart; beyond, any line that begins
// with two hyphens may be a delimiter, so that nothing is missed.
func TestNestedParts(t *testing.T) {
	for _, c := range []struct {
		multiparts int
		decoy      bool // a line that is no delimiter begins a part
	}{
		{1, false}, {2, false}, {maxBoundaries, false}, {maxBoundaries + 1, true}, {maxBoundaries + 40, true},
	} {
		var text strings.Builder
		for i := range c.multiparts {
			fmt.Fprintf(&text, "Content-Type: multipart/x; boundary=b%d.\r\n\r\n--b%d.\r\n", i, i)
		}
		text.WriteString("Content-Type: a/evil; name=evil\r\n\r\n--decoy\r\nContent-Type: a/decoy\r\n\r\n")
		want := append(strings.Split(strings.Repeat("multipart/x ", c.multiparts), " ")[:c.multiparts], "a/evil", "name of 4")
		if c.decoy {
			want = append(want, "a/decoy")
		}
		if diff := cmp.Diff(want, contents([]string{text.String()})); diff != "" {
			t.Errorf("%d multiparts (-want +got):\n%s", c.multiparts, diff)
		}
	}
}

// What is kept of a message does not grow with it.
func TestMessageMemory(t *testing.T) {
	var d Dialogue
	d.Init(NewRules(Rules{}))
	d.message, d.judge = newMessage(true), &teller{}
	line := []byte("Content-Type: multipart/x; boundary=00000000" + strings.Repeat("b", 2000) + "; name=" + strings.Repeat("n", 2000) + "\r\n")
	for i := range 1000 {
		copy(line[bytes.IndexByte(line, '=')+1:], fmt.Sprintf("%08d", i))
		d.readMessage(line, 0)
	}
	kept := 0
	for _, b := range d.message.parts.boundaries {
		kept += cap(b.text)
	}
	if n := len(d.message.parts.boundaries); kept > maxBoundaries*maxBoundary || n > maxBoundaries {
		t.Errorf("%d bytes in %d boundaries are kept", kept, n)
	}
}

// Where facts of a message's contents stand.
func TestContentOffsets(t *testing.T) {
	// Offsets: "Content-Type: " is 14 bytes, "Content-Transfer-Encoding: " 27.
	for _, c := range []messageCase{
		{name: "type: at its ';'", text: "Content-Type: a/b; x=y\r\n\r\n.\r\n", rules: watch(KindMediaType), facts: []string{`type@17 "a/b"`}},
		{name: "type: at the end of the field, which is seen at the next line", text: "Content-Type: a/b\r\n x\r\n\r\n.\r\n", rules: watch(KindMediaType), facts: []string{`type@24 "a/bx"`}},
		{name: "type: at the end of the message", text: "Content-Type: a/b\r\n.\r\n", rules: watch(KindMediaType), facts: []string{`type@21 "a/b"`}},
		{name: "type: cut", text: "Content-Type: " + strings.Repeat("a", 256) + "\r\n\r\n.\r\n", rules: watch(KindMediaType), facts: []string{`type@273 cut "` + strings.Repeat("a", 255) + `"`}},
		{name: "type length, comments and blanks not counted", text: "Content-Type: (c) ab / cd; x\r\nContent-Type: x\r\n\r\n.\r\n", rules: func(r *Rules) { bound(mediaTypes, 2, 4, 5)(r); within(mediaTypes)(r) },
			facts: []string{"limit@21 10>2", "limit@24 10>4", "within@25 10=5", "within@48 10=1"}},
		{name: "encoding: at the token's end", text: "Content-Transfer-Encoding: 7bit x\r\nContent-Transfer-Encoding: y\r\n\r\n.\r\n", rules: watch(KindEncoding), facts: []string{`encoding@31 0 "7bit"`, `encoding@66 4 "y"`}},
		{name: "name: bound and end", text: "Content-Type: a/b; name=\"abcd\"; filename=xy\r\n\r\n.\r\n", rules: func(r *Rules) { bound(fileNames, 1, 3)(r); within(fileNames)(r) },
			facts: []string{"limit@26 5>1", "limit@28 5>3", "within@29 5=4", "limit@42 5>1", "within@46 5=2"}},
		{name: "nothing is told that is not asked for", text: "Content-Type: a/b; name=\"abcd\"\r\nContent-Transfer-Encoding: x\r\n\r\n.\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.facts, c.run(t)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}
