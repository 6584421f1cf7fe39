package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one thing wrong in a policy file. Its parts are for programs; its
// text is for the operator.
type Error struct {
	File    string
	Line    int    // from 1; 0 if the file as a whole lacks something
	Col     int    // of Word, in bytes from 1; 0 with Line 0
	Word    string // the offending words
	Problem string // what is wrong with them
	Want    string // what was expected there; may be empty
	Near    string // the word that was probably meant; may be empty
}

// Error returns "FILE:LINE:COL: WORD: PROBLEM; want WANT (did you mean NEAR?)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	fmt.Fprintf(&b, ": %s: %s", printable(e.Word), e.Problem)
	if e.Want != "" {
		b.WriteString("; want " + e.Want)
	}
	if e.Near != "" {
		b.WriteString(" (did you mean " + e.Near + "?)")
	}
	return b.String()
}

// Errors is everything wrong in a policy file, in the order of its lines; what
// the file lacks as a whole stands last.
type Errors []*Error

// Error returns one line for each error.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors, for errors.As.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, err := range e {
		all[i] = err
	}
	return all
}

// sort puts the errors into the order that Errors promises.
func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		switch {
		case a.Line == b.Line:
			return a.Col - b.Col
		case a.Line == 0:
			return 1
		case b.Line == 0:
			return -1
		}
		return a.Line - b.Line
	})
}

// printable quotes a text that would disturb a terminal.
func printable(s string) string {
	if strconv.CanBackquote(s) {
		return s
	}
	return strconv.Quote(s)
}

// nearest returns the candidate that word is a typing slip of, "" if there is
// none: one edit in a word of up to five letters, two in a longer one.
func nearest(word string, candidates []string) string {
	best, least := "", 2
	if len(word) > 5 {
		least = 3
	}
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// maxSlip is the longest word that distance compares with; the language has
// none longer than a name (maxName).
const maxSlip = 64

// distance is the number of bytes to insert, delete or replace that turns a
// into b (Levenshtein); more than any slip for a b beyond maxSlip.
func distance(a, b string) int {
	if len(b) > maxSlip {
		return maxSlip
	}
	var row [maxSlip + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
