package policy

import (
	"fmt"
	"strings"
)

// readInterface reads `interface NAME`.
func (p *parser) readInterface(l *line) {
	p.ctx = inInterface
	w, ok := l.name("a kernel interface name", maxInterface)
	p.interfaces = append(p.interfaces, &interfaceLines{name: w})
	if ok && l.end() {
		p.once("interface "+w.text, w)
	}
}

// readNameif reads `nameif NAME`. Two names that differ in case only would be
// one to an ASA.
func (p *parser) readNameif(l *line) {
	w, ok := l.name("a name for the interface", maxNameif)
	i := p.interfaces[len(p.interfaces)-1]
	if !ok || !l.end() {
		i.nameif = l.words[0]
		return
	}
	if i.nameif.text != "" {
		p.report(w, fmt.Sprintf("second name, the first is in line %d", i.nameif.line), "one nameif for each interface", "")
		return
	}
	i.nameif = w
	p.once("nameif "+strings.ToLower(w.text), w)
}

// readPolicyMap reads `policy-map NAME` and `policy-map type inspect esmtp NAME`.
func (p *parser) readPolicyMap(l *line) {
	if l.optional("type") {
		p.readInspectMap(l)
		return
	}
	p.ctx = inPolicyMap
	w, ok := l.name("type inspect esmtp NAME, or the name of a policy map", maxName)
	if !ok || !l.end() {
		return
	}
	if p.policyMap.text != "" {
		p.report(w, fmt.Sprintf("second policy map, the first is in line %d", p.policyMap.line), "one policy map: more are "+unsupported, "")
		return
	}
	p.policyMap = w
}

// readInspectMap reads what stands behind `policy-map type`.
func (p *parser) readInspectMap(l *line) {
	p.ctx = inUnread
	if _, ok := l.keyword("inspect"); !ok {
		return
	}
	if _, ok := l.keyword("esmtp"); !ok {
		return
	}
	w, ok := l.name("a name for the map", maxName)
	p.newMapLines(w)
	if ok && l.end() {
		p.once("map "+w.text, w)
	}
}

// readPolicyDescription reads `description TEXT` of the policy map.
func (p *parser) readPolicyDescription(l *line) {
	if text, ok := l.description(); ok && p.once("policy-map description", l.words[0]) {
		p.description = text
	}
}

// readClassMap reads `class-map NAME` and `class-map type regex match-any NAME`.
func (p *parser) readClassMap(l *line) {
	if l.optional("type") {
		p.readRegexClass(l)
		return
	}
	p.ctx = inClassMap
	w, ok := l.name("a name for the class", maxName)
	p.classes = append(p.classes, &classLines{name: w})
	if ok && l.end() {
		p.once("class-map "+w.text, w)
	}
}

// readClassDescription reads `description TEXT` of a class-map.
func (p *parser) readClassDescription(l *line) {
	c := p.classes[len(p.classes)-1]
	if text, ok := l.description(); ok && p.once(fmt.Sprintf("class %d description", len(p.classes)), l.words[0]) {
		c.description = text
	}
}

// otherTraffic is what an ASA's class-map can match and ours leaves to nft.
var otherTraffic = []string{
	"queue", "access-list", "any", "default-inspection-traffic", "port", "not", "dscp", "precedence", "rtp",
	"tunnel-group", "flow", "regex",
}

// readMatchQueue reads `match queue A[-B]`.
func (p *parser) readMatchQueue(l *line) {
	c := p.classes[len(p.classes)-1]
	before := c.queue
	if before.text == "" {
		c.queue = l.words[0] // whatever follows: one error is enough
	}
	i, ok := l.phrase(otherTraffic, 1)
	if !ok {
		return
	}
	if i > 0 {
		at := l.words[0]
		at.text = "match " + otherTraffic[i]
		p.report(at, unsupported, "match queue A-B: the nft ruleset chooses what reaches which queue", "")
		return
	}
	w, _ := l.read()
	first, last, ok := queueRange(w.text)
	switch {
	case !ok:
		p.report(w, "not a range of queues", "A or A-B, from 0 to 65535", "")
	case before.text != "":
		p.report(w, fmt.Sprintf("second range, the first is in line %d", before.line), "one range for each class", "")
	case l.end():
		c.queue, c.first, c.last, c.valid = w, first, last, true
	}
}

// queueRange parses A or A-B.
func queueRange(text string) (first, last uint16, ok bool) {
	from, to, both := strings.Cut(text, "-")
	if !both {
		to = from
	}
	a, okA := number(from, 0, 65535)
	b, okB := number(to, a, 65535)
	return uint16(a), uint16(b), okA && okB
}

// readClass reads `class NAME` of the policy map.
func (p *parser) readClass(l *line) {
	p.ctx = inClass
	w, ok := l.name("the name of a class-map", maxName)
	p.uses = append(p.uses, &useLines{class: w})
	if ok && l.end() {
		p.once("class "+w.text, w)
	}
}

// readInspect reads `inspect esmtp [MAP]`.
func (p *parser) readInspect(l *line) {
	u := p.uses[len(p.uses)-1]
	if u.inspect.text != "" {
		p.report(l.words[0], fmt.Sprintf("second inspect, the first is in line %d", u.inspect.line), "one inspect for each class", "")
		return
	}
	u.inspect = l.words[0]
	if _, ok := l.keyword("esmtp"); !ok || l.next >= len(l.words) {
		return
	}
	if w, ok := l.name("the name of a map", maxName); ok && l.end() {
		u.mapName = w
	}
}

// readServicePolicy reads `service-policy NAME global`.
func (p *parser) readServicePolicy(l *line) {
	if !p.once("service-policy", l.words[0]) {
		return
	}
	w, ok := l.name("the name of a policy map", maxName)
	if !ok {
		return
	}
	p.service = w
	if l.optional("interface") {
		at := l.words[0]
		at.text = "service-policy interface"
		p.report(at, unsupported, "global: let nft send that interface's traffic to queues of its own, and give these a class", "")
		return
	}
	if _, ok := l.keyword("global"); ok {
		l.end()
	}
}
