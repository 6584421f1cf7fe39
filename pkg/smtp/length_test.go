package smtp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// messageCase is a message that is read on its own: offsets count from its first
// byte. Of chunks (RFC 3030) each piece is one.
type messageCase struct {
	name    string
	chunks  bool
	text    string // with the terminator, unless it comes in chunks
	declare uint64 // by MAIL, with SIZE
	rules   func(*Rules)
	facts   []string
}

// readPieces reads a message in pieces and returns how many bytes were left
// behind its end. A message of chunks ends with the last piece.
func readPieces(d *Dialogue, j Judge, chunked bool, pieces []string) (left int) {
	d.message, d.judge, d.mode = newMessage(chunked), j, modeData
	for _, p := range pieces {
		i := 0
		if d.message != nil && !d.ended {
			i = d.readMessage([]byte(p), 0)
		}
		left += len(p) - i
		d.offset[Client] += uint64(i)
	}
	if chunked && !d.ended {
		d.endMessage(0)
	}
	return left
}

// cutsOf are ways to cut s: whole, into bytes, and in two at up to 400 places.
func cutsOf(s string) [][]string {
	cuts := [][]string{{s}, strings.Split(s, "")}
	for n := 1; n < len(s); n += 1 + len(s)/400 {
		cuts = append(cuts, []string{s[:n], s[n:]})
	}
	return cuts
}

// run reads the message however it is cut and returns its facts, which must be
// the same.
func (c *messageCase) run(t *testing.T) []string {
	t.Helper()
	rules := Rules{}
	if c.rules != nil {
		c.rules(&rules)
	}
	var want []string
	for i, pieces := range cutsOf(c.text) {
		var d Dialogue
		d.Init(NewRules(rules))
		d.size.accepted = c.declare
		rec := &recorder{}
		if left := readPieces(&d, rec, c.chunks, pieces); left != 0 || d.message != nil {
			t.Fatalf("the message did not end with its last byte: %d bytes left", left)
		}
		if i == 0 {
			want = rec.facts
		}
		if diff := cmp.Diff(want, rec.facts); diff != "" {
			t.Fatalf("cut behind %d bytes (-whole +cut):\n%s", len(pieces[0]), diff)
		}
	}
	return want
}

func bound(m Measure, bounds ...uint64) func(*Rules) {
	return func(r *Rules) { r.Limits[m] = bounds }
}

func within(measures ...Measure) func(*Rules) {
	return func(r *Rules) {
		for _, m := range measures {
			r.Within[m] = true
		}
	}
}

// The numbers of the measures in facts.
const (
	bodyLine, headerLine, fileNames, body, header, toFields, mediaTypes = BodyLineLength, HeaderLineLength, FilenameLength, BodyLength, HeaderLength, ToFieldsCount, TypeLength
)

// The tables below show measures as these numbers.
func TestMeasureNumbers(t *testing.T) {
	if got := [...]Measure{bodyLine, headerLine, fileNames, body, header, toFields, mediaTypes}; got != [...]Measure{2, 3, 5, 6, 7, 8, 10} {
		t.Errorf("the measures have the numbers %d", got)
	}
}

// Measures in facts: 2 body line, 3 header line, 5 file name, 6 body, 7 header,
// 8 To fields, 10 type.
var lengthCases = []messageCase{
	// Header length: "A: b" and its end are 6 octets.
	{name: "header at its bound", text: "A: b\r\nC: d\r\n\r\nx\r\n.\r\n", rules: bound(header, 12)},
	{name: "header over: the LF of its last line", text: "A: b\r\nC: d\r\n\r\nx\r\n.\r\n", rules: bound(header, 11), facts: []string{"limit@11 7>11"}},
	{name: "header over at the CR", text: "A: b\r\nC: d\r\n\r\n.\r\n", rules: bound(header, 10), facts: []string{"limit@10 7>10"}},
	{name: "header over in a value", text: "A: b\r\nC: d\r\n\r\n.\r\n", rules: bound(header, 9), facts: []string{"limit@9 7>9"}},
	{name: "header over in a name, told at its colon", text: "A: b\r\nCcc: d\r\n\r\n.\r\n", rules: bound(header, 6), facts: []string{"limit@6 7>6"}},
	{name: "two bounds of the header", text: "A: b\r\nC: d\r\n\r\n.\r\n", rules: bound(header, 3, 7), facts: []string{"limit@3 7>3", "limit@7 7>7"}},
	{name: "a fold is header", text: "A: b\r\n\tc\r\n\r\n.\r\n", rules: within(header), facts: []string{"within@11 7=10"}},
	{name: "LF alone is one octet", text: "A: b\nC: d\n\nx\r\n.\r\n", rules: within(header, body), facts: []string{"within@10 7=10", "within@16 6=3"}},
	{name: "mbox line is header", text: "From x\r\nA: b\r\n\r\n.\r\n", rules: within(header), facts: []string{"within@15 7=14"}},
	{name: "a bare CR in a header line is header", text: "A: \rb\r\n\r\n.\r\n", rules: within(header, body), facts: []string{"within@8 7=7", "within@11 6=0"}},
	{name: "a line that is no field is body", text: "A: b\r\nxyz\r\n.\r\n", rules: within(header, body), facts: []string{"within@10 7=6", "within@13 6=5"}},
	{name: "the same, seen at a byte of it", text: "A: b\r\nx\x01z\r\n.\r\n", rules: within(header, body), facts: []string{"within@7 7=6", "within@13 6=5"}},
	{name: "and is no header line however long", text: "A: b\r\nxyz uvw\r\n.\r\n", rules: func(r *Rules) { bound(headerLine, 4)(r); bound(header, 6)(r) }},
	{name: "and counts for the body from its first byte", text: "A: b\r\nxyz uvw\r\n.\r\n", rules: func(r *Rules) { bound(bodyLine, 2)(r); bound(body, 3)(r) },
		facts: []string{"limit@9 6>3", "limit@8 2>2"}},
	{name: "and so at its end", text: "A: b\r\nxyzuvw\r\n.\r\n", rules: func(r *Rules) { bound(bodyLine, 5)(r); bound(body, 7)(r) },
		facts: []string{"limit@13 6>7", "limit@11 2>5"}},
	{name: "and so at its LF", text: "A: b\r\nxyzuvw\n.\r\n.\r\n", rules: func(r *Rules) { bound(bodyLine, 5)(r); bound(body, 6)(r) },
		facts: []string{"limit@12 6>6", "limit@11 2>5", "dotline@15"}},
	{name: "a name of 998 bytes is not judged before its colon", text: strings.Repeat("n", 998) + "\r\n.\r\n", rules: bound(headerLine, 997)},
	{name: "a longer one is: it may be one", text: strings.Repeat("n", 1000) + "\r\n.\r\n", rules: bound(headerLine, 997), facts: []string{"limit@997 3>997"}},
	{name: "no header", text: "\r\nx\r\n.\r\n", rules: within(header, body), facts: []string{"within@1 7=0", "within@7 6=3"}},
	{name: "no body", text: "A: b\r\n.\r\n", rules: within(header, body), facts: []string{"within@8 7=6", "within@8 6=0"}},
	{name: "nothing", text: ".\r\n", rules: within(header, headerLine, bodyLine, body, toFields), facts: []string{"within@2 7=0", "within@2 8=0", "within@2 6=0"}},

	// Body length.
	{name: "body at its bound", text: "A: b\r\n\r\nab\r\n..c\r\n.\r\n", rules: bound(body, 8)},
	{name: "body over at the last LF", text: "A: b\r\n\r\nab\r\n..c\r\n.\r\n", rules: bound(body, 7), facts: []string{"limit@16 6>7"}},
	{name: "body over at the last CR", text: "A: b\r\n\r\nab\r\n..c\r\n.\r\n", rules: bound(body, 6), facts: []string{"limit@15 6>6"}},
	{name: "body over: the stuffing dot is none of it", text: "A: b\r\n\r\nab\r\n..c\r\n.\r\n", rules: bound(body, 4), facts: []string{"limit@13 6>4"}},
	{name: "body and its bounds, once each", text: "\r\na\r\nb\r\nc\r\n.\r\n", rules: bound(body, 1, 7), facts: []string{"limit@3 6>1", "limit@9 6>7"}},
	{name: "a bare CR counts", text: "\r\na\rb\r\n.\r\n", rules: bound(body, 1, 4), facts: []string{"limit@3 6>1", "limit@6 6>4"}},
	{name: "the terminator's CR is none of the body", text: "\r\na\r\n.\r\n", rules: bound(body, 3)},
	{name: "part headers are body", text: "Content-Type: multipart/x; boundary=b\r\n\r\n--b\r\nA: b\r\n\r\nx\r\n--b--\r\n.\r\n",
		rules: within(header, body), facts: []string{"within@40 7=39", "within@66 6=23"}}, // --b 5, A: b 6, empty 2, x 3, --b-- 7

	// Lines.
	{name: "lines that end", text: "A: bc\r\n\td\n\r\nx\r\n\r\n..\r\n.\r\n", rules: within(headerLine, bodyLine),
		facts: []string{"within@6 3=5", "within@9 3=2", "within@14 2=1", "within@16 2=0", "within@20 2=1"}},
	{name: "the line that ended the header", text: "A: b\r\nno field\r\n.\r\n", rules: within(headerLine, bodyLine), facts: []string{"within@5 3=4", "within@15 2=8"}},
	{name: "lines longer than is searched at once", text: "\r\n" + strings.Repeat("x", 2048) + "\r\n" + strings.Repeat("x", 1024) + "\n" + strings.Repeat("x", 1025) + "\r.\r\n.\r\n", rules: within(bodyLine),
		facts: []string{"within@2051 2=2048", "within@3076 2=1024", "dotline@4105", "within@4105 2=1027"}},
	{name: "bounds of lines", text: "\r\nabcd\r\nab\r\nabcd\r\nabcdef\r\n.\r\n", rules: bound(bodyLine, 3, 5),
		facts: []string{"limit@5 2>3", "limit@15 2>3 again", "limit@21 2>3 again", "limit@23 2>5"}},

	// To fields.
	{name: "To fields at the bound", text: "To: a, b\r\nTO : c\r\n\r\nTo: d\r\n.\r\n", rules: bound(toFields, 2)},
	{name: "To fields over, at the colon", text: "To: a\r\nTo:b\r\ntO\t :c\r\n\r\n.\r\n", rules: bound(toFields, 2), facts: []string{"limit@17 8>2"}},
	{name: "no To fields", text: "Too: a\r\nReply-To: b\r\nT: c\r\n To: d\r\nTo\r\n.\r\n", rules: within(toFields), facts: []string{"within@38 8=0"}},
	{name: "To in a part", text: "To: a\r\nContent-Type: message/rfc822\r\n\r\nTo: b\r\n\r\n.\r\n", rules: within(toFields), facts: []string{"within@38 8=1"}},

	// SIZE: 6 + 2 + 3 octets.
	{name: "as long as declared", text: "A: b\r\n\r\n.x\r\n.\r\n", declare: 11},
	{name: "longer than declared", text: "A: b\r\n\r\n.x\r\n.\r\n", declare: 10, facts: []string{"size@14 11>10"}},
	{name: "nothing declared", text: "A: b\r\n\r\n.x\r\n.\r\n"},
	{name: "header alone, longer than declared", text: "A: b\r\n.\r\n", declare: 1, facts: []string{"size@8 6>1"}},
	{name: "chunks, longer than declared", chunks: true, text: "A: b\r\n\r\n.x", declare: 9, facts: []string{"size@10 10>9"}},

	// Chunks.
	{name: "chunk: dots are text", chunks: true, text: "A: b\r\n\r\n.\r\n..\r\n\n.\n\r.\r", rules: within(bodyLine, body),
		facts: []string{"within@10 2=1", "within@14 2=2", "within@15 2=0", "within@17 2=1", "within@21 2=3", "within@21 6=13"}},
	{name: "chunk: the last line has no end", chunks: true, text: "A: b", rules: within(header, headerLine, body), facts: []string{"within@4 3=4", "within@4 7=4", "within@4 6=0"}},
	{name: "chunk: the last line is no field", chunks: true, text: "A b", rules: within(header, bodyLine, headerLine, body), facts: []string{"within@2 7=0", "within@3 2=3", "within@3 6=3"}},
	{name: "chunk: a name without a colon", chunks: true, text: "A\nBc", rules: within(header, bodyLine, body), facts: []string{"within@1 7=0", "within@1 2=1", "within@4 2=2", "within@4 6=4"}},
	{name: "chunk: ends behind a CR", chunks: true, text: "\r\nab\r", rules: func(r *Rules) { bound(bodyLine, 2)(r); bound(body, 2)(r) },
		facts: []string{"limit@4 6>2", "limit@4 2>2"}},
	{name: "chunk: empty", chunks: true, rules: within(header, headerLine, bodyLine, body), facts: []string{"within@0 7=0", "within@0 6=0"}},
	{name: "chunk: NUL and dot are text", chunks: true, text: "\n\x00.\r\n.\r\n", rules: within(body), facts: []string{"within@8 6=7"}},
}

func TestMessageLengths(t *testing.T) {
	for _, c := range lengthCases {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.facts, c.run(t)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

// A message goes on over chunks, wherever they end; the commands between are
// none of it. Only the first chunk may be empty (see attackCases).
func TestChunksAreOneMessage(t *testing.T) {
	const text = "A: b\r\n\r\nabc\r\n\rd\r\n"
	const want = "within 7=6 within 2=3 within 2=2 within 6=9 size 17>16"
	for n := 0; n <= len(text); n++ {
		for k := n + 1; k <= len(text); k++ {
			rec := &recorder{}
			in := []flight{{Server, "220 x\r\n"}, {Client, "EHLO a\r\n"}, {Server, "250-a\r\n250 CHUNKING\r\n"}, {Client, "MAIL FROM:<> SIZE=16\r\n"}, {Server, "250 ok\r\n"},
				{Client, fmt.Sprintf("BDAT %d\r\n%sBDAT %d\r\n%sBDAT %d LAST\r\n%s", n, text[:n], k-n, text[n:k], len(text)-k, text[k:])}}
			run(rulesWith(func(r *Rules) { r.AllowBDAT = true; within(header, bodyLine, body)(r) })(), rec, in, whole)
			got := withoutOffsets(rec.facts, "within", "size")
			if strings.Join(got, " ") != want {
				t.Fatalf("chunks of %d, %d and %d octets: facts %q, want %q", n, k-n, len(text)-k, got, want)
			}
		}
	}
}

// withoutOffsets keeps the facts of these kinds, without their offsets.
func withoutOffsets(facts []string, kinds ...string) (kept []string) {
	for _, f := range facts {
		kind, rest, _ := strings.Cut(f, "@")
		if slices.Contains(kinds, kind) {
			_, rest, _ = strings.Cut(rest, " ")
			kept = append(kept, strings.TrimSpace(kind+" "+rest))
		}
	}
	return kept
}

// Nothing is reported behind an End.
func TestNothingBehindAnEnd(t *testing.T) {
	rules := everything()
	for m := range rules.Limits {
		rules.Limits[m] = []uint64{1}
	}
	const text = "To: a\rb\r\nContent-Type: a/b; name=cd\r\nno field\r\nx\r\n.\r\r\n.\r\n"
	all := &recorder{}
	var d Dialogue
	d.Init(rules)
	readPieces(&d, all, false, []string{text})
	if len(all.facts) < 15 {
		t.Fatalf("only %d facts to end at", len(all.facts))
	}
	for n := range all.facts {
		for _, pieces := range [][]string{{text}, strings.Split(text, "")} {
			j := &endAt{at: n + 1}
			d.Init(rules)
			readPieces(&d, j, false, pieces)
			if j.calls != n+1 {
				t.Errorf("End at fact %d %s: the Judge was asked %d times", n+1, all.facts[n], j.calls)
			}
		}
	}
}

// endAt is a Judge that says End to one fact.
type endAt struct{ at, calls int }

func (j *endAt) Judge(Fact) Action {
	if j.calls++; j.calls == j.at {
		return End
	}
	return Pass
}
