package asa

import (
	"errors"
	"fmt"
	"strings"
)

// classMap is a layer 3/4 class-map.
type classMap struct {
	at      *statement
	matches []*statement
	scope   scope
	err     error // it could not be read
	read    bool  // scope and err are set
}

// scope is the mail that a class takes in.
type scope struct {
	all  bool
	list *list // if not all: what this permits
}

// policyMap is a layer 3/4 policy-map.
type policyMap struct {
	at   *statement
	name string
	uses []*use
}

// use is a class of a policy map. Of inspect and off the one that stands last in
// the file holds.
type use struct {
	at      *statement
	class   string
	inspect *statement // inspect esmtp
	off     *statement // no inspect esmtp
	sets    []*statement
}

// readClassMap reads `class-map NAME`, and keeps `class-map type regex`.
func (im *importer) readClassMap(s *statement) {
	switch {
	case s.no:
		im.ctx = inOther
	case s.word(1) == "type" && s.word(2) == "regex":
		im.readHeading(s)
	case len(s.words) != 2:
		im.ctx = inOther // type inspect and type management have nothing for mail
	default:
		im.ctx = inClassMap
		im.classMap = im.classMaps[s.arg(1)]
		if im.classMap == nil {
			im.classMap = &classMap{at: s}
			im.classMaps[s.arg(1)] = im.classMap
		}
	}
}

// readMatch keeps a match line of a class.
func (im *importer) readMatch(s *statement) {
	im.classMap.matches = append(im.classMap.matches, s)
}

// readPolicyMap reads `policy-map NAME`, and keeps `policy-map type inspect
// esmtp`.
func (im *importer) readPolicyMap(s *statement) {
	switch {
	case s.no:
		im.ctx = inOther
	case s.word(1) == "type" && s.word(2) == "inspect" && s.word(3) == "esmtp":
		im.readHeading(s)
	case len(s.words) != 2:
		im.ctx = inOther
	default:
		im.ctx = inPolicyMap
		im.take(s)
		im.policyAt = im.byName[s.arg(1)]
		if im.policyAt == nil {
			im.policyAt = &policyMap{at: s, name: s.arg(1)}
			if len(im.policyMaps) >= maxUses {
				im.lose(s, fmt.Sprintf("more than %d policy maps", maxUses))
				return // its lines are read, and have no effect
			}
			im.byName[s.arg(1)] = im.policyAt
			im.policyMaps = append(im.policyMaps, im.policyAt)
		}
	}
}

// readClass reads `class NAME` of a policy map.
func (im *importer) readClass(s *statement) {
	if s.no || s.arg(1) == "" {
		im.ctx = inOther
		return
	}
	im.ctx = inClass
	im.take(s)
	for _, u := range im.policyAt.uses {
		if u.class == s.arg(1) {
			im.use = u
			return
		}
	}
	im.use = &use{at: s, class: s.arg(1)}
	if len(im.policyAt.uses) >= maxUses {
		im.lose(s, fmt.Sprintf("more than %d classes", maxUses))
		return // its lines are read, and have no effect
	}
	im.policyAt.uses = append(im.policyAt.uses, im.use)
}

// maxUses bounds the policy maps, the classes of each and the classes that inspect
// mail. An ASA has at most 255 class maps (asa.md 1.5).
const maxUses = 255

// readInspect reads `[no] inspect esmtp [MAP]`; `smtp` is its older name.
func (im *importer) readInspect(s *statement) {
	if s.word(1) != "esmtp" && s.word(1) != "smtp" {
		return
	}
	im.take(s)
	im.use.inspect, im.use.off = s, nil
	if s.no {
		im.use.inspect, im.use.off = nil, s
	}
}

// readSet keeps `set connection` of a class.
func (im *importer) readSet(s *statement) {
	if s.word(1) == "connection" && !s.no {
		im.use.sets = append(im.use.sets, s)
	}
}

// readService reads `service-policy NAME {global | interface NAME}`.
func (im *importer) readService(s *statement) {
	im.take(s)
	if !s.no {
		im.services = append(im.services, s)
	}
}

// readFixup keeps a PIX's `fixup protocol smtp PORT`.
func (im *importer) readFixup(s *statement) {
	if s.word(1) == "protocol" && s.word(2) == "smtp" {
		im.fixups = append(im.fixups, s)
	}
}

// errPort is a class of another port.
var errPort = errors.New("it matches another port than 25: write that port into mail_ports of site.nft")

// scopeOf tells which mail a class takes in.
func (im *importer) scopeOf(class string) (scope, error) {
	cm := im.classMaps[class]
	switch {
	case class == "class-default", cm == nil && class == "inspection_default":
		return scope{all: true}, nil
	case cm == nil:
		return scope{}, fmt.Errorf("no class-map %s", printable(class))
	}
	if !cm.read {
		cm.read = true
		im.take(cm.at)
		cm.scope, cm.err = im.matched(cm)
	}
	return cm.scope, cm.err
}

// matched reads the match lines of a class. Only default-inspection-traffic and
// an access list may stand together on an ASA: both must match.
func (im *importer) matched(cm *classMap) (sc scope, err error) {
	for _, s := range cm.matches {
		im.take(s)
		one, err := im.match(s)
		switch {
		case err != nil:
			im.lose(s, err.Error())
			return scope{}, fmt.Errorf("its class-map has a match that is not carried over in line %d", s.line)
		case sc.list != nil && one.list != nil:
			im.lose(s, "a second access list")
			return scope{}, fmt.Errorf("its class-map has a match that is not carried over in line %d", s.line)
		case sc.list != nil:
		case one.list != nil:
			sc = one
		default:
			sc.all = true
		}
	}
	if !sc.all && sc.list == nil {
		return sc, fmt.Errorf("class-map %s matches nothing", printable(cm.at.arg(1)))
	}
	return sc, nil
}

// match reads one match line.
func (im *importer) match(s *statement) (scope, error) {
	switch word := s.word(1); {
	case s.no:
	case len(s.words) == 2 && (word == "any" || word == "default-inspection-traffic"):
		return scope{all: true}, nil
	case strings.HasPrefix(strings.ToLower(s.text), "match port tcp "):
		c := &cursor{im: im, s: s, next: 3}
		has, err := c.port()
		if err == nil && !has {
			err = errPort
		}
		return scope{all: true}, err
	case len(s.words) == 3 && (word == "access-list" || word == "address"):
		if word == "address" {
			im.warn(s, "match address is not the ASA's word: taken as match access-list")
		}
		if l := im.lists[s.arg(2)]; l != nil {
			return scope{list: l}, nil
		}
		return scope{}, fmt.Errorf("no access-list %s", printable(s.arg(2)))
	}
	return scope{}, errors.New("not read by this version: want match access-list, port tcp, any or default-inspection-traffic")
}
