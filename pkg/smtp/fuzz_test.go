package smtp

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzDialogue feeds any bytes of both sides, whole and in pieces: lengths stay,
// line ends stay, the facts are the same, nothing is kept beyond its bound, and
// edits only mask.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte("S220 mail2\r\n\x00CEHLO a\r\n\x00S250-a\r\n250 STARTTLS\r\n\x00CMAIL FROM:<a<b>\r\nXFOO\r\n"), uint8(3))
	f.Add([]byte("S220 x\r\n\x00CDATA\r\n\x00S354 go\r\n\x00CContent-Type: a; name=\"=?u?B?QUJD?=\"\r\n\r\n.\r\n\x00S250 ok\r\n"), uint8(1))
	f.Add([]byte("S220 x\r\n\x00CAUTH LOGIN\r\n\x00S334 x\r\n\x00Cabc\r\n\x00S235 ok\r\n"), uint8(2))
	f.Add([]byte("S220 x\r\n\x00CSTARTTLS\r\n\x00S220 go\r\n\x00C\x16\x03\x01\x00\x05\x01\x00S\x16\x03\x03\x00\x05\x02"), uint8(5))
	f.Add([]byte("S220 x\r\n\x00CEHLO a\r\n\x00S250-a\r\n250-AUTH=x\r\n250 CHUNKING\r\n\x00CBDAT 5\r\nabcdeBDAT 0 LAST\r\nRSET\r\n\x00S250 x\r\n250 x\r\n"), uint8(1))
	f.Add([]byte("S220 x\r\n\x00CXEXCH50 3 2\r\n\x00S354 go\r\n\x00Cabc\x00S250 x\r\n\x00CMAIL FROM:<a`b> SIZE=3\r\nQUIT\r\n\x00S250 x\r\n221 x\r\n\x00CRSET\r\n"), uint8(2))
	f.Fuzz(func(t *testing.T, script []byte, step uint8) {
		var flights []flight
		for part := range bytes.SplitSeq(script, []byte{0}) {
			if len(part) < 2 {
				continue
			}
			side := Client
			if part[0] == 'S' {
				side = Server
			}
			flights = append(flights, flight{side, string(part[1:])})
		}
		size := int(step)%7 + 1
		whole := fuzzRun(t, flights, 1<<20)
		split := fuzzRun(t, flights, size)
		if whole.held || split.held { // glued flights end, split ones are held: the rule of design.md 6.7
			return
		}
		if diff := cmp.Diff(whole.facts, split.facts); diff != "" {
			t.Fatalf("facts (-whole +pieces of %d):\n%s", size, diff)
		}
	})
}

// fuzzed is what became of a script.
type fuzzed struct {
	facts []string
	held  bool // bytes came that have to wait, or had to end the session
}

func fuzzRun(t *testing.T, flights []flight, size int) (out fuzzed) {
	rules := everything()
	rules.Limits[CmdLineLength] = []uint64{20}
	rules.Limits[SenderLength] = []uint64{5}
	rules.Limits[BodyLineLength] = []uint64{10, 20}
	rules.Limits[HeaderLineLength] = []uint64{30}
	rules.Limits[FilenameLength] = []uint64{4}
	rec := &recorder{}
	var d Dialogue
	d.Init(rules)
	for _, f := range flights {
		for data := []byte(f.data); len(data) > 0; {
			piece := data[:min(size, len(data))]
			data = data[len(piece):]
			if !d.Ready(f.side) {
				return fuzzed{held: true}
			}
			before := bytes.Clone(piece)
			edited, ok := d.Feed(f.side, piece, rec)
			if !ok {
				last := rec.facts[len(rec.facts)-1]
				return fuzzed{rec.facts, strings.HasPrefix(last, "glued") || strings.HasPrefix(last, "injection") || strings.HasPrefix(last, "unclear")}
			}
			if !edited && !bytes.Equal(before, piece) {
				t.Fatalf("not edited, but %q became %q", before, piece)
			}
			for i := range piece {
				if piece[i] != before[i] && (before[i] == '\n' && piece[i] == '\n' || piece[i] != 'X' && piece[i] != '*' && piece[i] != ' ' && (piece[i] < 'A' || piece[i] > 'Z')) {
					t.Fatalf("%q became %q", before[i], piece[i])
				}
			}
			if n := len(d.line.partial); n > 2*MaxText {
				t.Fatalf("%d bytes of a line are kept", n)
			}
			if n := len(d.reply.keyword.partial); n > MaxText {
				t.Fatalf("%d bytes of a reply line are kept", n)
			}
			if len(d.address) > MaxText+1 {
				t.Fatalf("%d bytes of a path are kept", len(d.address))
			}
			if d.Owed() > maxPending {
				t.Fatalf("%d commands are kept", d.Owed())
			}
		}
	}
	return fuzzed{facts: rec.facts}
}
