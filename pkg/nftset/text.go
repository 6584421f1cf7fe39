package nftset

import (
	"net/netip"
	"regexp"
	"strings"
)

// ParseStatic reads the elements of the static maps from the text of an nft file,
// as ReadStatic does from the live ruleset; faults have the line of their element.
// It is no judge of nft's syntax, and passes over elements that it cannot read
// without nft, such as those with variables; of a map with such ones nothing is
// said about the reverse.
func ParseStatic(text string) *Static {
	text = blankComments(text)
	found, unread := map[string][]entry{}, map[string]bool{}
	for _, list := range elementLists(text) {
		for _, e := range splitElements(text, list) {
			parsed, ok := parseElement(e.text)
			parsed.line = 1 + strings.Count(text[:e.at], "\n")
			if ok {
				found[list.set] = append(found[list.set], parsed)
			} else {
				unread[list.set] = true
			}
		}
	}
	s := compile(found)
	var sure []Fault
	for _, f := range s.Reverse {
		if !unread[strings.TrimPrefix(f.Set, "r")] && !unread["r"+strings.TrimPrefix(f.Set, "r")] {
			sure = append(sure, f)
		}
	}
	s.Reverse = sure
	return s
}

// quotedOrComment matches what may hold any sign: a string, or a comment up to the
// end of its line; and the sign that a line goes on in the next one.
var quotedOrComment = regexp.MustCompile(`"[^"\n]*"|#[^\n]*|(?m:\\[ \t\r]*$)`)

// blankComments writes spaces over comments and over signs that a line goes on, so
// that what remains keeps its place.
func blankComments(text string) string {
	return quotedOrComment.ReplaceAllStringFunc(text, func(s string) string {
		if s[0] == '"' {
			return s
		}
		return strings.Repeat(" ", len(s))
	})
}

// stretch is a part of a text.
type stretch struct {
	set  string // the map whose elements it holds, of a list
	at   int
	text string
}

// The two ways to write elements: a command, whose first word may be left out, and a
// part of a map's declaration.
var (
	addCommand  = regexp.MustCompile(`(?m:\b(?:add|create)\s+|^[ \t]*|;[ \t]*)element\s+inet\s+smtpwall\s+(r?static[46](?:net)?)\s*\{`)
	declaration = regexp.MustCompile(`\bmap\s+(?:inet\s+smtpwall\s+)?(r?static[46](?:net)?)\s*\{`)
	elementsOf  = regexp.MustCompile(`\belements\s*=\s*\{`)
)

// elementLists finds what stands between the braces of each list of elements.
func elementLists(text string) []stretch {
	var lists []stretch
	for _, m := range addCommand.FindAllStringSubmatchIndex(text, -1) {
		lists = append(lists, stretch{text[m[2]:m[3]], m[1], text[m[1] : m[1]+upToBrace(text[m[1]:])]})
	}
	for _, m := range declaration.FindAllStringSubmatchIndex(text, -1) {
		body := text[m[1] : m[1]+upToBrace(text[m[1]:])]
		if in := elementsOf.FindStringIndex(body); in != nil {
			lists = append(lists, stretch{text[m[2]:m[3]], m[1] + in[1], body[in[1] : in[1]+upToBrace(body[in[1]:])]})
		}
	}
	return lists
}

// upToBrace is how many octets of s stand before the brace that closes it.
func upToBrace(s string) int {
	depth, quoted := 1, false
	for i, c := range []byte(s) {
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
		if depth == 0 {
			return i
		}
	}
	return len(s)
}

// splitElements splits a list of elements of text at its commas.
func splitElements(text string, list stretch) []stretch {
	var all []stretch
	add := func(from, to int) {
		part := text[from:to]
		if trimmed := strings.TrimLeft(part, " \t\r\n"); strings.TrimSpace(trimmed) != "" {
			all = append(all, stretch{list.set, to - len(trimmed), strings.TrimSpace(trimmed)})
		}
	}
	from, quoted := list.at, false
	for i := range len(list.text) {
		switch c := list.text[i]; {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			add(from, list.at+i)
			from = list.at + i + 1
		}
	}
	add(from, list.at+len(list.text))
	return all
}

// An element of a map is KEY [comment "..."] : VALUE. The colon stands apart from
// at least one of the two; between IPv4 addresses it need not.
var (
	elementComment = regexp.MustCompile(`\s+comment\s+(?:"([^"]*)"|([^\s":]+))`)
	elementPair    = regexp.MustCompile(`^(\S+?)(?:\s*:\s+|\s+:\s*)(\S+)$|^([\d./-]+):([\d./-]+)$`)
)

// parseElement reads an element.
func parseElement(text string) (e entry, ok bool) {
	if m := elementComment.FindStringSubmatch(text); m != nil {
		e.comment = m[1] + m[2]
		text = strings.Replace(text, m[0], " ", 1)
	}
	m := elementPair.FindStringSubmatch(text)
	if m == nil {
		return e, false
	}
	if key := m[1] + m[3]; key != "*" {
		if e.key, ok = parseInterval(key); !ok {
			return e, false
		}
	}
	e.value, ok = parseInterval(m[2] + m[4])
	return e, ok
}

// parseInterval reads ADDRESS, ADDRESS/LENGTH or ADDRESS-ADDRESS.
func parseInterval(text string) (interval, bool) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return intervalOf(p), true
	}
	from, to, two := strings.Cut(text, "-")
	if !two {
		to = from
	}
	a, err1 := netip.ParseAddr(from)
	b, err2 := netip.ParseAddr(to)
	return interval{a, b}, err1 == nil && err2 == nil && a.BitLen() == b.BitLen() && a.Compare(b) <= 0
}
