package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// maxPattern is the ASA's bound on the text of a regex, in characters (asa.md
// 1.5); ours counts bytes.
const maxPattern = 100

// regexLines is a `regex`.
type regexLines struct {
	Regex
	name     word
	compiled *regexp.Regexp // nil: it was reported
}

// regexClassLines is a `class-map type regex`.
type regexClassLines struct {
	RegexClass
	name    word
	members []word // one for each of RegexClass.Regexes
	broken  bool   // a line of it was reported: that it has no regex tells nothing new
}

// regexName is what a match line names.
type regexName struct {
	name  string
	class bool
}

// readRegex reads `regex NAME "PATTERN"`; a pattern without a blank needs no
// quotes.
func (p *parser) readRegex(l *line) {
	p.ctx = atTop
	w, ok := l.name("a name for the regex", maxName)
	if !ok {
		return
	}
	r := &regexLines{name: w}
	p.regexes = append(p.regexes, r)
	p.once("regex "+w.text, w)
	if at, ok := l.pattern(); ok {
		r.Regex = Regex{w.text, at.text}
		r.compiled = p.compile(at)
	}
}

// pattern reads the text of a regex to the line's end.
func (l *line) pattern() (word, bool) {
	w := l.peek()
	text := l.rest()
	switch {
	case text == "":
		l.p.unexpected(w, "a regular expression", nil)
		return w, false
	case text[0] != '"':
		l.next++
		return w, l.end()
	case len(text) == 1 || text[len(text)-1] != '"':
		l.p.report(w, "no closing quote", `" at the line's end`, "")
		return w, false
	}
	return word{text[1 : len(text)-1], w.line, w.col + 1}, true
}

// compile compiles a pattern. It reports one that is too long or that RE2
// refuses, and returns nil then.
func (p *parser) compile(at word) *regexp.Regexp {
	if at.text == "" {
		p.report(word{`""`, at.line, at.col - 1}, "empty, it would match everything", "a regular expression", "")
		return nil
	}
	if len(at.text) > maxPattern {
		p.report(at, fmt.Sprintf("%d characters long", len(at.text)), fmt.Sprintf("a regular expression of at most %d", maxPattern), "")
		return nil
	}
	re, err := regexp.Compile(at.text)
	var fault *syntax.Error
	if errors.As(err, &fault) {
		if i := strings.Index(at.text, fault.Expr); i >= 0 && fault.Expr != "" {
			at = word{fault.Expr, at.line, at.col + i}
		}
		p.report(at, fault.Code.String(), "a regular expression in the syntax of RE2", "")
		return nil
	}
	return re
}

// readRegexClass reads what stands behind `class-map type`.
func (p *parser) readRegexClass(l *line) {
	p.ctx = inUnread
	if w := l.peek(); w.is("inspect") {
		p.report(w, "there are no classes of inspection", "match lines in the policy-map type inspect esmtp", "")
		return
	}
	if _, ok := l.keyword("regex"); !ok {
		return
	}
	p.ctx = inRegexClass
	c := new(regexClassLines)
	p.regexClasses = append(p.regexClasses, c)
	if _, ok := l.keyword("match-any"); !ok {
		return
	}
	w, ok := l.name("a name for the class", maxName)
	c.name, c.Name = w, w.text
	if ok && l.end() {
		p.once("class-map "+w.text, w)
	}
}

// readMatchRegex reads `match regex NAME`.
func (p *parser) readMatchRegex(l *line) {
	c := p.regexClasses[len(p.regexClasses)-1]
	c.broken = true
	if w := l.peek(); w.is("not") {
		p.report(w, "not for a class of regexes, which matches where any one does",
			"match regex NAME here, or match not CRITERION regex class NAME in the policy map", "")
		return
	}
	if _, ok := l.keyword("regex"); !ok {
		return
	}
	w, ok := l.name("the name of a regex", maxName)
	switch {
	case !ok || !l.end():
	case slices.Contains(c.Regexes, w.text):
		p.report(w, "stated twice", "", "")
	default:
		c.members, c.Regexes = append(c.members, w), append(c.Regexes, w.text)
		c.broken = false
	}
}

// readRegexClassDescription reads `description TEXT` of a class of regexes.
func (p *parser) readRegexClassDescription(l *line) {
	c := p.regexClasses[len(p.regexClasses)-1]
	if text, ok := l.description(); ok && p.once(fmt.Sprintf("regex class %d description", len(p.regexClasses)), l.words[0]) {
		c.Description = text
	}
}

// checkRegexes wants each class and each match line to name what exists.
func (p *parser) checkRegexes() {
	regexes, classes := p.regexNames(), p.regexClassNames()
	for _, c := range p.regexClasses {
		if len(c.members) == 0 && !c.broken && c.name.text != "" {
			p.report(c.name, "class without a regex", "match regex NAME below it", "")
		}
		for _, w := range c.members {
			if !slices.Contains(regexes, w.text) {
				p.report(w, "no such regex", "", nearest(w.text, regexes))
			}
		}
	}
	for _, m := range p.maps {
		for i, lines := range m.matches {
			if lines.regex.text != "" && !lines.broken {
				p.checkRegexName(lines.regex, m.Matches[i].Class, regexes, classes)
			}
		}
	}
}

// checkRegexName wants what a match line names to be one of those that the file
// has.
func (p *parser) checkRegexName(w word, class bool, regexes, classes []string) {
	isRegex, isClass := slices.Contains(regexes, w.text), slices.Contains(classes, w.text)
	switch {
	case class && isClass, !class && isRegex:
	case class && isRegex:
		p.report(w, "no class-map type regex, but a regex", "", "regex "+w.text)
	case class:
		p.report(w, "no such class-map type regex", "", nearest(w.text, classes))
	case isClass:
		p.report(w, "no regex, but a class-map type regex", "", "regex class "+w.text)
	default:
		p.report(w, "no such regex", "", nearest(w.text, regexes))
	}
}

// regexNames lists the regexes.
func (p *parser) regexNames() (names []string) {
	for _, r := range p.regexes {
		names = append(names, r.name.text)
	}
	return names
}

// regexClassNames lists the classes of regexes.
func (p *parser) regexClassNames() (names []string) {
	for _, c := range p.regexClasses {
		names = append(names, c.Name)
	}
	return names
}

// patterns are the regexes behind each name that a match line can have, of a file
// without errors.
func (p *parser) patterns() map[regexName][]*regexp.Regexp {
	of := make(map[regexName][]*regexp.Regexp)
	for _, r := range p.regexes {
		of[regexName{r.Name, false}] = []*regexp.Regexp{r.compiled}
	}
	for _, c := range p.regexClasses {
		name := regexName{c.Name, true}
		for _, member := range c.Regexes {
			of[name] = append(of[name], of[regexName{member, false}]...)
		}
	}
	return of
}
