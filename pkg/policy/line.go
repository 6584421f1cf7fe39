package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds of the ASA on texts an operator writes: a map's name and description
// (asa.md 1.2), an interface's name (its command reference). A Linux interface
// name has at most 15 bytes (IFNAMSIZ), a domain 255 (RFC 5321 section 4.5.3.1.2).
const (
	maxName        = 40
	maxDescription = 200
	maxNameif      = 48
	maxInterface   = 15
	maxDomain      = 255
)

// unsupported is the problem of what the ASA's language has and this version
// would silently not enforce.
const unsupported = "not supported by this version"

// word is a word of the file and where it stands.
type word struct {
	text      string
	line, col int
}

// line reads the words of one line from left to right. Its methods report what
// they do not find to the parser and then return false.
type line struct {
	p     *parser
	text  string
	words []word
	next  int  // index of the word to be read
	no    bool // the line began with `no`, which is read
}

// newLine splits a line at spaces and tabs.
func newLine(p *parser, number int, text string) *line {
	l := &line{p: p, text: text}
	for i := 0; i < len(text); {
		n := strings.IndexAny(text[i:], " \t")
		if n < 0 {
			n = len(text) - i
		}
		if n > 0 {
			l.words = append(l.words, word{text[i : i+n], number, i + 1})
		}
		i += n + 1
	}
	return l
}

// peek returns the word to be read; behind the last one a word without text
// that stands for the line's end.
func (l *line) peek() word {
	if l.next < len(l.words) {
		return l.words[l.next]
	}
	last := l.words[len(l.words)-1]
	return word{"", last.line, last.col + len(last.text)}
}

// read returns the next word and whether there was one.
func (l *line) read() (word, bool) {
	w := l.peek()
	l.next++
	return w, w.text != ""
}

// is tells whether w is a keyword of the language, which may stand in any case.
func (w word) is(keyword string) bool { return strings.EqualFold(w.text, keyword) }

// keyword reads one of the words given and returns it as given.
func (l *line) keyword(want ...string) (string, bool) {
	w, _ := l.read()
	for _, k := range want {
		if w.is(k) {
			return k, true
		}
	}
	l.p.unexpected(w, oneOf(want), want)
	return "", false
}

// optional reads the keyword if it is the next word.
func (l *line) optional(keyword string) bool {
	found := l.peek().is(keyword)
	if found {
		l.next++
	}
	return found
}

// name reads a name of the operator's choosing: up to most printable ASCII
// characters, case counts.
func (l *line) name(what string, most int) (word, bool) {
	w, ok := l.read()
	if !ok {
		l.p.unexpected(w, what, nil)
		return w, false
	}
	if len(w.text) > most {
		l.p.report(w, fmt.Sprintf("%d characters long", len(w.text)), fmt.Sprintf("%s of at most %d", what, most), "")
		return w, false
	}
	for _, c := range []byte(w.text) {
		if c > '~' {
			l.p.report(w, "not plain ASCII", what, "")
			return w, false
		}
	}
	return w, true
}

// number reads a decimal number from least to most.
func (l *line) number(least, most uint64) (uint64, bool) {
	w, _ := l.read()
	n, ok := number(w.text, least, most)
	if !ok {
		l.p.report(w, "not in range", fmt.Sprintf("a number from %d to %d", least, most), "")
	}
	return n, ok
}

// number parses a decimal number from least to most.
func number(text string, least, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && least <= n && n <= most
}

// rest returns what stands from the next word to the line's end, blanks inside
// as they are.
func (l *line) rest() string {
	return strings.TrimRight(l.text[l.peek().col-1:], " \t")
}

// choices reads words to the line's end, at least one, each of them one of want
// and none twice, and returns their indexes.
func (l *line) choices(want []string) (found []int, ok bool) {
	for len(found) == 0 || l.next < len(l.words) {
		w := l.peek()
		name, ok := l.keyword(want...)
		if !ok {
			return nil, false
		}
		i := slices.Index(want, name)
		if slices.Contains(found, i) {
			l.p.report(w, "stated twice", "", "")
			return nil, false
		}
		found = append(found, i)
	}
	return found, true
}

// description reads the operator's words to the line's end.
func (l *line) description() (string, bool) {
	text := l.rest()
	switch w := l.peek(); {
	case text == "":
		l.p.unexpected(w, "a description", nil)
	case len(text) > maxDescription:
		l.p.report(w, fmt.Sprintf("description of %d characters", len(text)), fmt.Sprintf("at most %d", maxDescription), "")
	default:
		return text, true
	}
	return "", false
}

// end checks that no word is left.
func (l *line) end() bool {
	if l.next >= len(l.words) {
		return true
	}
	l.p.report(l.peek(), "unexpected", "the end of the line", "")
	return false
}

// phrase reads the longest of the phrases given, which are words with one space
// between them, and returns its index. Where none fits, the error names the
// first word that fits none and what supported phrases go on with there.
func (l *line) phrase(phrases []string, supported int) (int, bool) {
	best, length, depth := -1, 0, 0
	for i, phrase := range phrases {
		words := strings.Split(phrase, " ")
		n := l.common(words)
		if n == len(words) && n > length {
			best, length = i, n
		}
		depth = max(depth, n)
	}
	if best >= 0 {
		l.next += length
		return best, true
	}
	want := l.following(phrases[:supported], depth)
	near := l.following(phrases, depth)
	l.next += depth
	if len(want) == 0 {
		want = near
	}
	w, _ := l.read()
	l.p.unexpected(w, oneOf(want), near)
	return 0, false
}

// common counts how many of the keywords the line goes on with.
func (l *line) common(keywords []string) int {
	n := 0
	for n < len(keywords) && l.next+n < len(l.words) && l.words[l.next+n].is(keywords[n]) {
		n++
	}
	return n
}

// following lists, once each, the words that follow the next depth words of the
// line in the phrases that begin with them.
func (l *line) following(phrases []string, depth int) []string {
	var found []string
	for _, phrase := range phrases {
		words := strings.Split(phrase, " ")
		if len(words) > depth && l.common(words[:depth]) == depth && !slices.Contains(found, words[depth]) {
			found = append(found, words[depth])
		}
	}
	return found
}

// oneOf lists alternatives in a sentence.
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
