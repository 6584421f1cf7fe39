package policy

import (
	"fmt"
	"reflect"
	"slices"
)

// maxClasses is the ASA's bound on class maps, the one that each match line
// implies included (asa.md 1.5). Maps and tcp-maps, of which an ASA has no stated
// number, have the same bound, so that comparing each with each stays quick.
const maxClasses = 255

// maxRegexes bounds the regexes: each may be tried on every sender.
const maxRegexes = 1000

// check reports what only the whole file can tell.
func (p *parser) check() {
	if !p.checkSize() {
		return
	}
	p.checkInterfaces()
	p.checkMaps()
	p.checkRegexes()
	p.checkClasses()
	p.checkUses()
	p.checkService()
}

// checkSize reports the first class map, match line, map, tcp-map or regex that
// is too many.
func (p *parser) checkSize() bool {
	if len(p.regexes) > maxRegexes {
		p.report(p.regexes[maxRegexes].name, "too many regexes", fmt.Sprintf("%d at most; one can hold several with | between them", maxRegexes), "")
		return false
	}
	if len(p.tcpMaps) > maxClasses {
		p.report(p.tcpMaps[maxClasses].name, "too many tcp-maps", fmt.Sprintf("%d at most", maxClasses), "")
		return false
	}
	classes := make([]word, 0, maxClasses)
	for _, c := range p.classes {
		classes = append(classes, c.name)
	}
	for _, c := range p.regexClasses {
		classes = append(classes, c.name)
	}
	for i, m := range p.maps {
		if i == maxClasses {
			p.report(m.name, "too many maps", fmt.Sprintf("%d at most", maxClasses), "")
			return false
		}
		for _, match := range m.matches {
			classes = append(classes, match.at)
		}
	}
	if len(classes) > maxClasses {
		p.report(classes[maxClasses], "too many class maps", fmt.Sprintf("%d match lines and class maps at most", maxClasses), "")
	}
	return len(classes) <= maxClasses
}

// checkInterfaces wants a name for each.
func (p *parser) checkInterfaces() {
	for _, i := range p.interfaces {
		if i.nameif.text == "" {
			p.report(i.name, "interface without a name", "nameif NAME below it", "")
		}
	}
}

// checkMaps wants an action for each match, and the default map as it is.
func (p *parser) checkMaps() {
	for _, m := range p.maps {
		for i, lines := range m.matches {
			if lines.action.text == "" && !lines.broken {
				p.report(lines.at, "match without an action", oneOf(actionWords(m.Matches[i].Criterion.actions()))+" below it", "")
			}
			p.checkVerbs(m, i)
			p.checkRepeated(m, i)
		}
		p.checkPrivate(m)
		if m.RequireTLS && !m.AllowTLS {
			p.report(m.requireTLS, "without allow-tls nobody could send mail", "allow-tls too, or no require-tls", "")
		}
		if m.Name == DefaultMapName && !p.wrong(m) && !m.same(defaultMap()) {
			p.report(m.name, "the default map cannot be changed", "a map of another name", "")
		}
	}
}

// wrong tells whether an error was reported in the lines of a map: what it says
// is then not what was meant.
func (p *parser) wrong(m *mapLines) bool {
	return slices.ContainsFunc(p.errs, func(e *Error) bool { return m.name.line <= e.Line && e.Line <= m.last })
}

// checkRepeated reports match i if it only repeats an earlier one of its map.
func (p *parser) checkRepeated(m *mapLines, i int) {
	for j := range i {
		if !m.matches[i].broken && !m.matches[j].broken && reflect.DeepEqual(m.Matches[i], m.Matches[j]) {
			p.report(m.matches[i].at, fmt.Sprintf("the same match and action as in line %d", m.matches[j].at.line), "", "")
			return
		}
	}
}

// same tells whether two maps, neither compiled yet, say the same to the traffic.
func (m *Map) same(other *Map) bool {
	a, b := *m, *other
	a.Description, b.Description = "", ""
	return reflect.DeepEqual(a, b)
}

// checkClasses wants queues for each class, and each queue in one class.
func (p *parser) checkClasses() {
	for i, c := range p.classes {
		if c.queue.text == "" {
			p.report(c.name, "class without a queue", "match queue A-B below it", "")
		}
		for _, other := range p.classes[:i] {
			if c.valid && other.valid && c.first <= other.last && other.first <= c.last {
				p.report(c.queue, fmt.Sprintf("overlaps class-map %s in line %d", other.name.text, other.queue.line), "", "")
			}
		}
	}
}

// checkUses wants the policy map to name each class once, and maps that exist.
// The queues of a class-map that none names would be left to nobody.
func (p *parser) checkUses() {
	used := make(map[string]bool)
	for _, u := range p.uses {
		used[u.class.text] = true
		if u.class.text != "" && p.class(u.class.text) == nil {
			p.report(u.class, "no such class-map", "", nearest(u.class.text, p.classNames()))
		}
		p.checkAction(u)
		if name := u.mapName.text; name != "" && name != DefaultMapName && p.mapNamed(name) == nil {
			p.report(u.mapName, "no such policy-map type inspect esmtp", "", nearest(name, p.mapNames()))
		}
		if name := u.tcpMap.text; name != "" && p.tcpMap(name) == nil {
			p.report(u.tcpMap, "no such tcp-map", "", nearest(name, p.tcpMapNames()))
		}
	}
	for _, c := range p.classes {
		if c.name.text != "" && !used[c.name.text] {
			p.report(c.name, "class-map that nothing inspects", "class "+c.name.text+" in the policy map, or no such class-map", "")
		}
	}
}

// checkService wants the policy map applied.
func (p *parser) checkService() {
	if p.policyMap.text != "" && len(p.uses) == 0 {
		p.report(p.policyMap, "policy map without a class", "class NAME and inspect esmtp below it", "")
	}
	if p.policyMap.text != "" && p.onlyLimits() {
		p.report(p.policyMap, "policy map that inspects nothing", "inspect esmtp below one of its classes", "")
	}
	switch {
	case p.stated["service-policy"].text == "":
		p.report(word{text: "service-policy"}, "missing: nothing is inspected", "service-policy NAME global", "")
	case p.service.text != "" && p.service.text != p.policyMap.text:
		p.report(p.service, "no such policy-map", "", nearest(p.service.text, []string{p.policyMap.text}))
	}
}

// onlyLimits tells whether there are classes, and all of them only state limits.
func (p *parser) onlyLimits() bool {
	limits := func(u *useLines) bool { return u.inspect.text == "" && u.figures != figures{} }
	return len(p.uses) > 0 && !slices.ContainsFunc(p.uses, func(u *useLines) bool { return !limits(u) })
}

// class returns the class map of that name, nil if there is none.
func (p *parser) class(name string) *classLines {
	for _, c := range p.classes {
		if c.name.text == name {
			return c
		}
	}
	return nil
}

// classNames lists the class maps.
func (p *parser) classNames() (names []string) {
	for _, c := range p.classes {
		names = append(names, c.name.text)
	}
	return names
}

// mapNamed returns the map of that name, nil if the file has none.
func (p *parser) mapNamed(name string) *Map {
	for _, m := range p.maps {
		if m.Name == name {
			return m.Map
		}
	}
	return nil
}

// mapNames lists the maps that an inspect line can name.
func (p *parser) mapNames() []string {
	names := []string{DefaultMapName}
	for _, m := range p.maps {
		names = append(names, m.Name)
	}
	return names
}

// config makes the Config of a file without errors.
func (p *parser) config() *Config {
	c := &Config{
		Nameif:        make(map[string]string),
		PolicyMap:     p.policyMap.text,
		Description:   p.description,
		ServicePolicy: "global",
	}
	for _, r := range p.regexes {
		c.Regexes = append(c.Regexes, r.Regex)
	}
	for _, rc := range p.regexClasses {
		c.RegexClasses = append(c.RegexClasses, rc.RegexClass)
	}
	for _, i := range p.interfaces {
		c.Nameif[i.name.text] = i.nameif.text
	}
	if p.mapNamed(DefaultMapName) == nil {
		c.Maps = append(c.Maps, defaultMap())
	}
	for _, m := range p.maps {
		c.Maps = append(c.Maps, m.Map)
	}
	for _, t := range p.tcpMaps {
		c.TCPMaps = append(c.TCPMaps, t.TCPMap)
	}
	patterns := p.patterns()
	for _, m := range c.Maps {
		m.patterns = patterns
		m.index = newIndex(m)
	}
	for _, u := range p.uses {
		c.Classes = append(c.Classes, p.newClass(c, u))
	}
	return c
}

// newClass makes a class of a Config that has its maps.
func (p *parser) newClass(c *Config, u *useLines) Class {
	from := p.class(u.class.text)
	cl := Class{Name: from.name.text, Description: from.description, First: from.first, Last: from.last, TCP: p.tcpMap(u.tcpMap.text)}
	cl.Limits, cl.ClientLimits = u.figures.limits()
	if cl.TCP == nil {
		cl.TCP = DefaultTCPMap()
	}
	switch {
	case u.mapName.text != "":
		cl.Map = c.Map(u.mapName.text)
	case u.inspect.text != "":
		cl.Map = c.Map(DefaultMapName)
	}
	return cl
}
