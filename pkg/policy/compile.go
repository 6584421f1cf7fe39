package policy

import (
	"reflect"
	"slices"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// index tells the match lines for what a session reports, so that the lookup of
// a Judge neither searches nor allocates.
type index struct {
	bounds   [smtp.NumMeasures][]bound // ascending
	keywords [smtp.NumKeywords][]int   // indexes of match lines, ascending
}

// bound is one bound of a measure.
type bound struct {
	over  uint64
	lines []int // indexes of match lines, ascending
}

// newIndex makes the index of a map.
func newIndex(m *Map) *index {
	x := new(index)
	for i, match := range m.Matches {
		if match.Criterion == EHLOReplyParameter {
			for _, k := range match.Keywords {
				x.keywords[k] = append(x.keywords[k], i)
			}
			continue
		}
		of := &x.bounds[criteria[match.Criterion].measure]
		at, found := slices.BinarySearchFunc(*of, match.Over, bound.compare)
		if !found {
			*of = slices.Insert(*of, at, bound{over: match.Over})
		}
		(*of)[at].lines = append((*of)[at].lines, i)
	}
	if !m.AllowTLS {
		x.keywords[smtp.KeywordSTARTTLS] = x.keywords[smtp.KeywordOthers]
	}
	return x
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

// Rules returns what a Dialogue must know of the map. The caller owns it; one
// serves any number of sessions.
//
// A map that Parse returned is only read. On a map that was made or changed by
// hand Rules writes the index that ByLimit and ByKeyword use: call it after the
// last change and before any other goroutine has the map.
func (m *Map) Rules() *smtp.Rules {
	x := newIndex(m)
	if !reflect.DeepEqual(x, m.index) {
		m.index = x
	}
	r := &smtp.Rules{MaskBanner: m.MaskBanner, AllowTLS: m.AllowTLS, AuthLineLength: m.AuthLineLength}
	for measure, bounds := range x.bounds {
		for _, b := range bounds {
			r.Limits[measure] = append(r.Limits[measure], b.over)
		}
	}
	for k, lines := range x.keywords {
		for _, i := range lines {
			r.MaskKeywords[k] = r.MaskKeywords[k] || m.Matches[i].Do.Action == Mask
		}
	}
	return r
}

// ByLimit returns the indexes, ascending, of the match lines that bound the
// measure at limit, nil if there are none. The slice is the map's. On a map made
// by hand call Rules first.
func (m *Map) ByLimit(measure smtp.Measure, limit uint64) []int {
	bounds := m.index.bounds[measure]
	if at, found := slices.BinarySearchFunc(bounds, limit, bound.compare); found {
		return bounds[at].lines
	}
	return nil
}

// ByKeyword returns the indexes, ascending, of the match lines that name the
// class of EHLO keyword, nil if there are none. The slice is the map's. On a map
// made by hand call Rules first.
func (m *Map) ByKeyword(k smtp.Keyword) []int { return m.index.keywords[k] }
