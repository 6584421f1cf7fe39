package asa

import (
	"fmt"
	"slices"
	"strings"
)

// inspector is a class that inspects mail.
type inspector struct {
	*use
	scope
	policy *policyMap
}

// policies reads what the policy maps do with mail: which hosts they exempt, by
// which map they inspect, what they limit.
func (im *importer) policies() frame {
	applied := im.applied()
	inspectors := im.inspectors(applied)
	allMail := im.fixup(len(inspectors) > 0) // a line by which all mail is inspected
	for _, in := range inspectors {
		if in.all && allMail == nil {
			allMail = in.use.at
		}
	}
	for _, p := range applied {
		for _, u := range p.uses {
			im.off(u, allMail, len(inspectors) > 0)
		}
	}
	for _, in := range inspectors {
		im.exemptDenied(in, another(in, inspectors, allMail))
	}
	return im.newFrame(applied, inspectors, allMail)
}

// applied returns the policy maps that service-policy lines name. A piece of a
// configuration may have none: then all are taken.
func (im *importer) applied() (all []*policyMap) {
	named := map[*policyMap]bool{}
	for _, s := range im.services {
		p := im.byName[s.arg(1)]
		switch {
		case p == nil:
			im.lose(s, fmt.Sprintf("no policy-map %s", quoted(s.arg(1))))
			continue
		case s.word(2) != "global":
			im.warn(s, "taken as global: nft chooses what is inspected, on whichever interface")
		}
		if !named[p] {
			named[p] = true
			all = append(all, p)
		}
	}
	for _, p := range im.policyMaps {
		switch {
		case named[p]:
		case len(im.services) > 0:
			im.lose(p.at, "no service-policy applies it")
		default:
			im.warn(p.at, "no service-policy in the file applies it: taken as applied")
			all = append(all, p)
		}
	}
	return all
}

// inspectors returns the classes that inspect mail, in the order of the file.
func (im *importer) inspectors(applied []*policyMap) (all []inspector) {
	for _, p := range applied {
		for _, u := range p.uses {
			if u.inspect == nil {
				continue
			}
			sc, err := im.scopeOf(u.class)
			if err != nil {
				im.lose(u.inspect, err.Error())
				continue
			}
			if len(all) >= maxUses {
				im.lose(u.inspect, fmt.Sprintf("more than %d classes inspect mail", maxUses))
				continue
			}
			all = append(all, inspector{u, sc, p})
		}
	}
	return all
}

// fixup reads a PIX's `fixup protocol smtp 25`, and returns the line that
// inspects. inspected says that a class does.
func (im *importer) fixup(inspected bool) (on *statement) {
	var off *statement
	for _, s := range im.fixups {
		port, known := portNumber(s.word(3))
		other := s.arg(3) != "" && (!known || port != 25)
		switch {
		case other && s.no:
			im.take(s) // nothing is inspected there
		case other:
			im.lose(s, "another port than 25: write it into mail_ports of site.nft")
		case s.no:
			im.take(s)
			on, off = nil, s
		default:
			im.warn(s, "a PIX lets 7 commands pass, the default map 15")
			on, off = s, nil
		}
	}
	if off != nil && !inspected {
		im.lose(off, nothingInspects)
	}
	return on
}

// nothingInspects is what becomes of an ASA that leaves mail alone.
const nothingInspects = "nothing inspects mail in this file; policy.conf does: do not load smtpwall's ruleset if none is to be inspected"

// off reads `no inspect esmtp` of a class: the hosts that its access list permits
// are exempt. A real ASA would still inspect them in another class (asa.md
// section 0); what is meant is carried over.
func (im *importer) off(u *use, allMail *statement, inspected bool) {
	if u.off == nil {
		return
	}
	sc, err := im.scopeOf(u.class)
	switch {
	case err != nil:
		im.lose(u.off, err.Error())
	case sc.list != nil:
		if allMail != nil {
			im.warn(u.off, fmt.Sprintf("the ASA inspects what this class permits all the same, by line %d: carried over as meant, not inspected", allMail.line))
		}
		im.exempt(sc.list, true)
	case allMail == nil && !inspected:
		im.lose(u.off, nothingInspects)
	}
}

// another returns a line by which mail that in does not inspect may be inspected,
// nil if there is none.
func another(in inspector, inspectors []inspector, allMail *statement) *statement {
	for _, other := range inspectors {
		if allMail == nil && other.list != in.list {
			return other.inspect
		}
	}
	return allMail
}

// exemptDenied exempts the hosts that the access list of an inspecting class
// denies, if nothing else inspects them.
func (im *importer) exemptDenied(in inspector, another *statement) {
	if in.list == nil {
		return
	}
	entries := im.entriesOf(in.list)
	if another == nil {
		if !slices.ContainsFunc(entries, func(e entry) bool { return e.permit && e.all() }) {
			im.warn(in.inspect, fmt.Sprintf("the ASA inspects only what access-list %s permits; smtpwall inspects all mail but that of exempt hosts", printable(in.list.name)))
		}
		im.exempt(in.list, false)
		return
	}
	if in.list.used[0] {
		return // listed by another class with it
	}
	in.list.used[0] = true
	for _, e := range entries {
		if !e.broken && !e.permit && e.mail {
			im.lose(e.s, fmt.Sprintf("what this list denies may be inspected by line %d all the same", another.line))
		}
	}
}

// newFrame makes the frame of policy.conf. All queues have one class: nft would
// have to tell classes apart.
func (im *importer) newFrame(applied []*policyMap, inspectors []inspector, allMail *statement) frame {
	f := frame{class: defaultClass, policy: defaultPolicy}
	if len(applied) > 0 {
		f.policy = applied[0].name
	}
	var main *inspector
	for i := range inspectors {
		if in := &inspectors[i]; main == nil || in.all && !main.all {
			main = in
		}
	}
	if main != nil {
		f.class, f.policy, f.inspect = main.class, main.policy.name, main.inspect
	} else if allMail == nil && len(applied) > 0 {
		im.warn(applied[0].at, "no class in it has inspect esmtp: policy.conf inspects all mail, by the default map")
	}
	for _, in := range inspectors {
		if f.inspect.arg(2) != in.inspect.arg(2) {
			im.lose(in.inspect, fmt.Sprintf("policy.conf has one class, inspected as in line %d: give this one queues of its own in divert.nft, and a class in policy.conf", f.inspect.line))
		}
	}
	for _, p := range applied {
		for _, u := range p.uses {
			f.sets = im.appendSets(f.sets, u)
		}
	}
	return f
}

// appendSets appends the `set connection` lines of a class that takes in all
// mail.
func (im *importer) appendSets(all []*statement, u *use) []*statement {
	for _, s := range u.sets {
		im.take(s)
		sc, err := im.scopeOf(u.class)
		again := slices.IndexFunc(all, func(other *statement) bool { return setsAlike(other, s) })
		switch {
		case err != nil:
			im.lose(s, err.Error())
		case !sc.all:
			im.lose(s, `policy.conf has one class for all mail: write limits of single hosts into static.nft, as comment "tcp MAX EMBRYONIC"`)
		case again >= 0:
			im.lose(s, fmt.Sprintf("line %d sets it already, and policy.conf has one class for all mail", all[again].line))
		case len(all) >= maxUses:
			im.lose(s, fmt.Sprintf("more than %d set connection lines", maxUses))
		default:
			all = append(all, s)
		}
	}
	return all
}

// setsAlike reports whether two `set connection` lines state something of one
// name.
func setsAlike(a, b *statement) bool {
	return slices.ContainsFunc(a.words[2:], func(word string) bool {
		return !isNumber(word) && slices.ContainsFunc(b.words[2:], func(other string) bool { return strings.EqualFold(word, other) })
	})
}
