package smtp

import (
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzMessage reads any message, in chunks or behind a 354, whole and in pieces:
// with all measured and watched the facts are the same, nothing is asked behind
// an End, and the lengths are those of the slow reading.
func FuzzMessage(f *testing.F) {
	for _, c := range lengthCases {
		f.Add([]byte(c.text), c.chunks, int64(len(c.name)))
	}
	f.Add([]byte("Content-Type: multipart/x; boundary=b; name*0=\"=?u?q?=41?=\"\n\n--b\nContent-Transfer-Encoding: 7bit\n--b--\n"), true, int64(1))
	f.Fuzz(func(t *testing.T, data []byte, chunks bool, seed int64) {
		if len(data) > maxUnsure {
			return // slowFacts does not know of maxUnsure
		}
		r := rand.New(rand.NewSource(seed))
		text := string(data)
		if !chunks {
			text = terminated(text)
		}
		compareWithSlow(t, slowRules(r), text, chunks, cutRandomly(r, text, 1+r.Intn(40)))

		rules := everything()
		for m := range rules.Limits {
			rules.Limits[m] = []uint64{uint64(r.Intn(5)), 5 + uint64(r.Intn(20))}
		}
		whole, pieces := &recorder{}, &recorder{}
		for rec, cut := range map[*recorder][]string{whole: {text}, pieces: cutRandomly(r, text, 1+r.Intn(40))} {
			var d Dialogue
			d.Init(rules)
			d.size.accepted = uint64(seed&0xff) + 1
			readPieces(&d, rec, chunks, cut)
			if d.message != nil {
				t.Fatalf("%q did not end", text)
			}
		}
		if diff := cmp.Diff(whole.facts, pieces.facts); diff != "" {
			t.Fatalf("%q (-whole +pieces):\n%s", text, diff)
		}
		if n := len(whole.facts); n > 0 {
			j := &endAt{at: 1 + r.Intn(n)}
			var d Dialogue
			d.Init(rules)
			d.size.accepted = uint64(seed&0xff) + 1
			readPieces(&d, j, chunks, cutRandomly(r, text, 60))
			if j.calls != j.at {
				t.Fatalf("%q: End at fact %d, but the Judge was asked %d times", text, j.at, j.calls)
			}
		}
	})
}
