package policy

import (
	"reflect"
	"regexp"
	"slices"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// index tells the match lines for what a session reports, so that the lookup of
// a Judge neither searches the map nor allocates. Its numbers are indexes of
// match lines, ascending.
type index struct {
	bounds     [smtp.NumMeasures][]bound // of gt lines, ascending: those with just this bound
	within     [smtp.NumMeasures][]bound // of not gt lines, ascending: those with this bound or a higher one
	keywords   [smtp.NumKeywords][]int
	verbs      [][]int // by smtp.Verb
	encodings  [smtp.NumEncodings][]int
	senders    patternLines
	mediaTypes patternLines
}

// bound is one bound of a measure.
type bound struct {
	over  uint64
	lines []int
}

// patternLines are the regex lines of one criterion.
type patternLines struct {
	lines    []int
	not      []bool             // one for each of lines
	patterns [][]*regexp.Regexp // one for each of lines, OR-ed
}

// newIndex makes the index of a map.
func newIndex(m *Map) *index {
	x := &index{verbs: make([][]int, int(smtp.NumVerbs)+len(m.AllowCommands))}
	for i := range m.Matches {
		match := &m.Matches[i]
		switch match.Criterion {
		case EHLOReplyParameter:
			for k := range x.keywords {
				x.keywords[k] = appendIf(x.keywords[k], match.hasKeyword(m, smtp.Keyword(k)), i)
			}
		case CmdVerb:
			for v := range x.verbs {
				x.verbs[v] = appendIf(x.verbs[v], match.hasVerb(m, smtp.Verb(v)), i)
			}
		case MIMEEncoding:
			for e := range x.encodings {
				has := slices.Contains(match.Encodings, smtp.Encoding(e))
				x.encodings[e] = appendIf(x.encodings[e], has != match.Not, i)
			}
		case SenderAddressRegex:
			x.senders.add(m, i)
		case MIMEFiletypeRegex:
			x.mediaTypes.add(m, i)
		default:
			x.addBound(match, i)
		}
	}
	for _, bounds := range x.within {
		joinHigher(bounds)
	}
	return x
}

// appendIf appends a match line if it applies.
func appendIf(lines []int, applies bool, line int) []int {
	if applies {
		return append(lines, line)
	}
	return lines
}

// hasKeyword tells whether an ehlo-reply-parameter line of m applies to a class
// of keywords. What a parameter of the map allows is in no line's set.
func (match *Match) hasKeyword(m *Map, k smtp.Keyword) bool {
	switch {
	case k == smtp.KeywordAllowed, k == smtp.KeywordSTARTTLS && m.AllowTLS, k == smtp.KeywordCHUNKING && m.AllowBDAT:
		return false
	case k == smtp.KeywordSTARTTLS, k == smtp.KeywordCHUNKING:
		k = smtp.KeywordOthers
	}
	return slices.Contains(match.Keywords, k) != match.Not
}

// hasVerb tells whether a line of m is a cmd verb line that applies to a command.
func (match *Match) hasVerb(m *Map, v smtp.Verb) bool {
	if match.Criterion != CmdVerb {
		return false
	}
	named := slices.ContainsFunc(match.Verbs, func(w string) bool {
		of, ok := smtp.VerbOf(w, m.AllowCommands)
		return ok && of == v
	})
	return named != match.Not
}

// addBound adds a line of m that has a bound.
func (x *index) addBound(match *Match, line int) {
	of := &x.bounds[criteria[match.Criterion].measure]
	if match.Not {
		of = &x.within[criteria[match.Criterion].measure]
	}
	at, found := slices.BinarySearchFunc(*of, match.Over, bound.compare)
	if !found {
		*of = slices.Insert(*of, at, bound{over: match.Over})
	}
	(*of)[at].lines = append((*of)[at].lines, line)
}

// compare orders bounds.
func (b bound) compare(over uint64) int {
	switch {
	case b.over < over:
		return -1
	case b.over > over:
		return 1
	}
	return 0
}

// joinHigher gives each bound the lines of the higher ones too.
func joinHigher(bounds []bound) {
	for i := len(bounds) - 2; i >= 0; i-- {
		bounds[i].lines = slices.Concat(bounds[i].lines, bounds[i+1].lines)
		slices.Sort(bounds[i].lines)
	}
}

// add adds a regex line of m. Only Parse can make one: a map made by hand knows
// no patterns.
func (p *patternLines) add(m *Map, line int) {
	match := &m.Matches[line]
	patterns, ok := m.patterns[regexName{match.Regex, match.Class}]
	if !ok {
		panic("policy: map " + m.Name + " names regex " + match.Regex + ", which Parse has not read")
	}
	p.lines = append(p.lines, line)
	p.not = append(p.not, match.Not)
	p.patterns = append(p.patterns, patterns)
}

// match returns the lines that apply to a text. One that was cut could hold
// anything: it matches every line, negated or not.
func (p *patternLines) match(f *smtp.Fact) []int {
	if f.Cut {
		return p.lines
	}
	var found []int
	for i, line := range p.lines {
		matched := slices.ContainsFunc(p.patterns[i], func(re *regexp.Regexp) bool { return re.Match(f.Text) })
		found = appendIf(found, matched != p.not[i], line)
	}
	return found
}

// Rules returns what a Dialogue must know of the map. The caller owns it; one
// serves any number of sessions.
//
// A map that Parse returned is only read. On a map that was made or changed by
// hand Rules writes the index that Lines uses: call it after the last change and
// before any other goroutine has the map. It panics if such a map names a regex.
func (m *Map) Rules() *smtp.Rules {
	x := newIndex(m)
	if !reflect.DeepEqual(x, m.index) {
		m.index = x
	}
	r := smtp.Rules{
		MaskBanner:     m.MaskBanner,
		AllowTLS:       m.AllowTLS,
		RequireTLS:     m.RequireTLS,
		AllowBDAT:      m.AllowBDAT,
		Commands:       m.AllowCommands,
		Keywords:       m.AllowKeywords,
		AuthLineLength: m.AuthLineLength,
		AuthCommand:    m.AuthCommandLength,
	}
	for measure, bounds := range x.bounds {
		for _, b := range bounds {
			r.Limits[measure] = append(r.Limits[measure], b.over)
		}
		r.Within[measure] = len(x.within[measure]) > 0
	}
	for k, lines := range x.keywords {
		r.MaskKeywords[k] = m.masks(lines)
	}
	for v := smtp.VerbUnknown + 1; int(v) < len(x.verbs); v++ {
		if m.masks(x.verbs[v]) {
			r.MaskVerbs = append(r.MaskVerbs, v)
		}
	}
	m.watch(&r)
	return smtp.NewRules(r)
}

// masks tells whether one of the match lines masks.
func (m *Map) masks(lines []int) bool {
	return slices.ContainsFunc(lines, func(i int) bool { return m.Matches[i].Do.Action == Mask })
}

// watch asks for the facts that only some maps need.
func (m *Map) watch(r *smtp.Rules) {
	r.Watch[smtp.KindRecipient] = m.MailRelayDomain != ""
	for _, match := range m.Matches {
		switch match.Criterion {
		case CmdVerb:
			r.Watch[smtp.KindVerb] = true
		case SenderAddressRegex:
			r.Watch[smtp.KindSender] = true
		case MIMEFiletypeRegex:
			r.Watch[smtp.KindMediaType] = true
		case MIMEEncoding:
			r.Watch[smtp.KindEncoding] = true
		}
	}
}

// Lines returns the indexes, ascending, of the match lines that apply to a fact
// of KindLimit, KindWithin, KindEHLOKeyword, KindVerb, KindSender, KindMediaType
// or KindEncoding; nil if there are none. The slice is read only. It allocates
// for the regex criteria only. On a map made by hand call Rules first.
func (m *Map) Lines(f *smtp.Fact) []int {
	x := m.index
	switch f.Kind {
	case smtp.KindLimit:
		bounds := x.bounds[f.Measure]
		if at, found := slices.BinarySearchFunc(bounds, f.Limit, bound.compare); found {
			return bounds[at].lines
		}
	case smtp.KindWithin:
		bounds := x.within[f.Measure]
		if at, _ := slices.BinarySearchFunc(bounds, f.Value, bound.compare); at < len(bounds) {
			return bounds[at].lines
		}
	case smtp.KindEHLOKeyword:
		return x.keywords[f.Keyword]
	case smtp.KindVerb:
		return x.verbs[f.Verb]
	case smtp.KindEncoding:
		return x.encodings[f.Encoding]
	case smtp.KindSender:
		return x.senders.match(f)
	case smtp.KindMediaType:
		return x.mediaTypes.match(f)
	}
	return nil
}
