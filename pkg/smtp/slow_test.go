package smtp

import (
	"fmt"
	"math/rand"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// slowMessage reads a message as a whole, line by line and octet by octet, the
// plain way: the oracle for what readMessage finds in pieces and with shortcuts.
// It knows nothing of MIME, which changes none of these facts.
type slowMessage struct {
	rules *Rules
	facts []string
	seen  map[string]bool // bounds of lines passed
}

// What a line of a header looks like; a fold only where a field is open.
var (
	fieldLike = regexp.MustCompile(`^([!-9;-~]+[ \t]*)?:`)
	foldLike  = regexp.MustCompile(`^[ \t]`)
)

// slowFacts returns the facts of a message, sorted. It ends with its terminator,
// unless it came in chunks.
func slowFacts(rules *Rules, text string, chunks bool) []string {
	s := &slowMessage{rules: rules, seen: map[string]bool{}}
	var octets, colons []int // where what counts stands
	opened, inHeader, header, body := false, true, 0, 0
	for i := 0; i < len(text); {
		end := i + strings.IndexByte(text[i:]+"\n", '\n') + 1
		end = min(end, len(text))
		if !chunks && text[i:end] == ".\r\n" && (i == 0 || strings.HasSuffix(text[:i], "\r\n")) {
			break
		}
		from := i
		if !chunks && text[i] == '.' {
			from++
		}
		first := len(octets) == 0
		for ; i < end; i++ {
			if i >= from {
				octets = append(octets, i)
			}
		}
		line, ended := strings.CutSuffix(text[from:end], "\n")
		if ended {
			line = strings.TrimSuffix(line, "\r")
		}
		mbox := first && strings.HasPrefix(line, "From ")
		switch name, _, _ := strings.Cut(line, ":"); {
		case !inHeader:
			s.line(BodyLineLength, line, from)
		case mbox || fieldLike.MatchString(line) || opened && foldLike.MatchString(line):
			fold := opened && foldLike.MatchString(line)
			opened = !mbox
			if strings.EqualFold(strings.TrimRight(name, " \t"), "to") && !mbox && !fold {
				colons = append(colons, from+len(name))
			}
			header, body = len(octets), len(octets)
			s.line(HeaderLineLength, line, from)
		case line == "":
			inHeader, body = false, len(octets)
		default:
			inHeader = false
			s.line(BodyLineLength, line, from)
		}
	}
	s.total(HeaderLength, octets[:header])
	s.total(BodyLength, octets[body:])
	s.total(ToFieldsCount, colons)
	if !chunks {
		s.dotLines(text)
	}
	slices.Sort(s.facts)
	return s.facts
}

// line tells the length of a line whose text begins at from.
func (s *slowMessage) line(m Measure, line string, from int) {
	for _, bound := range s.rules.Limits[m] {
		if uint64(len(line)) <= bound {
			continue
		}
		key, again := fmt.Sprintf("%d>%d", m, bound), ""
		if s.seen[key] {
			again = " again"
		}
		s.seen[key] = true
		s.facts = append(s.facts, fmt.Sprintf("limit@%d %s%s", from+int(bound), key, again))
	}
	s.within(m, len(line))
}

// total tells a count; at is where each of what it counts stands.
func (s *slowMessage) total(m Measure, at []int) {
	for _, bound := range s.rules.Limits[m] {
		if uint64(len(at)) > bound {
			s.facts = append(s.facts, fmt.Sprintf("limit@%d %d>%d", at[bound], m, bound))
		}
	}
	s.within(m, len(at))
}

func (s *slowMessage) within(m Measure, value int) {
	if s.rules.Within[m] {
		s.facts = append(s.facts, fmt.Sprintf("within %d=%d", m, value))
	}
}

// dotLines tells the lines between any CR or LF that hold one dot, NULs ignored,
// and are not the terminator.
func (s *slowMessage) dotLines(text string) {
	for i, before := 0, "\r\n"; i < len(text); {
		end := i + strings.IndexAny(text[i:], "\r\n")
		after := text[end : end+1]
		if strings.HasPrefix(text[end:], "\r\n") {
			after = "\r\n"
		}
		clean := before == "\r\n" && after == "\r\n"
		if clean && text[i:end] == "." {
			return
		}
		if strings.ReplaceAll(text[i:end], "\x00", "") == "." {
			s.facts = append(s.facts, fmt.Sprintf("dotline@%d", end+len(after)-1))
		}
		i, before = end+len(after), after
	}
}

// slowRules bound and tell all that slowFacts knows. Without Within of lines
// bodyLines is used.
func slowRules(r *rand.Rand) *Rules {
	var rules Rules
	for _, m := range []Measure{BodyLineLength, HeaderLineLength, BodyLength, HeaderLength, ToFieldsCount} {
		rules.Within[m] = r.Intn(2) == 0
		for range r.Intn(3) {
			rules.Limits[m] = append(rules.Limits[m], uint64(r.Intn([]int{8, 40}[r.Intn(2)])))
		}
		slices.Sort(rules.Limits[m])
		rules.Limits[m] = slices.Compact(rules.Limits[m])
	}
	return NewRules(rules)
}

// compareWithSlow reads text in pieces and wants the slow reading's facts.
func compareWithSlow(t *testing.T, rules *Rules, text string, chunks bool, pieces []string) {
	t.Helper()
	var d Dialogue
	d.Init(rules)
	rec := &recorder{}
	left := readPieces(&d, rec, chunks, pieces)
	if left != 0 && !chunks {
		t.Fatalf("%q: %d bytes left behind the end", text, left)
	}
	var got []string
	for _, f := range rec.facts {
		if strings.HasPrefix(f, "within@") { // slowFacts does not know when
			_, f, _ = strings.Cut(f, " ")
			f = "within " + f
		}
		got = append(got, f)
	}
	slices.Sort(got)
	if diff := cmp.Diff(slowFacts(rules, text, chunks), got); diff != "" {
		t.Fatalf("%q in %q\nlimits %v within %v (-slow +fast):\n%s", text, pieces, rules.Limits, rules.Within, diff)
	}
}

// cutRandomly cuts s into pieces of 1 to most bytes.
func cutRandomly(r *rand.Rand, s string, most int) (pieces []string) {
	for len(s) > 0 {
		n := min(len(s), 1+r.Intn(most))
		pieces, s = append(pieces, s[:n]), s[n:]
	}
	return pieces
}

// scraps are what random messages are made of.
var scraps = []string{"\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", ".", ".\r\n", "..", "\r\n.", "\x00", "-", "--", "--b", "--b--", "To: x", "to\t:", "A: b", ": c", "From ", " ", "\tfold",
	"a line of text\r\n", "x", "Content-Type: multipart/x; boundary=b\r\n", "Content-Type: message/rfc822\r\n", "\r\n\r\n", strings.Repeat("w", 30), "\x01"}

// terminated ends text with a terminator, which is its first.
func terminated(text string) string {
	text += "\r\n.\r\n"
	return text[:strings.Index("\r\n"+text, "\r\n.\r\n")+len(".\r\n")]
}

func TestAgainstSlowReading(t *testing.T) {
	for seed := range int64(8000) {
		r := rand.New(rand.NewSource(seed))
		var text string
		for range r.Intn(30) {
			text += scraps[r.Intn(len(scraps))]
		}
		chunks := r.Intn(3) == 0
		if !chunks {
			text = terminated(text)
		}
		rules := slowRules(r)
		compareWithSlow(t, rules, text, chunks, []string{text})
		compareWithSlow(t, rules, text, chunks, cutRandomly(r, text, 1+r.Intn(20)))
	}
}

// Bodies of ordinary lines go the short way and must be read the same.
func TestBodyLinesAgainstSlowReading(t *testing.T) {
	for seed := range int64(200) {
		r := rand.New(rand.NewSource(seed))
		text := "A: b\r\n\r\n"
		for range 200 {
			text += strings.Repeat("w", r.Intn(40)) + "\r\n"
			if r.Intn(40) == 0 {
				text += scraps[r.Intn(len(scraps))]
			}
		}
		rules := slowRules(r)
		text = terminated(text)
		compareWithSlow(t, rules, text, false, []string{text})
		compareWithSlow(t, rules, text, false, cutRandomly(r, text, 1500))
	}
}
