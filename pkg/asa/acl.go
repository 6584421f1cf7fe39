package asa

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// list is an access list. Its lines are read only if a class that matters
// matches them: the other lists filter, which is not our business.
type list struct {
	name       string
	statements []*statement
	entries    []entry // of statements, once read
	read       bool
	used       [2]bool // its hosts with deny, with permit, are exempt already
}

// entry is one permit or deny.
type entry struct {
	s        *statement
	permit   bool
	src, dst []netip.Prefix
	mail     bool // it holds for TCP to port 25
	broken   bool // it could not be read, and may mean anyone
	neither  bool // of broken: it may be a permit or a deny
}

// readList keeps `access-list NAME ...` for the class that may match it.
func (im *importer) readList(s *statement) {
	name := s.arg(1)
	if name == "" || s.no {
		return
	}
	l := im.lists[name]
	if l == nil {
		l = &list{name: name}
		im.lists[name] = l
	}
	l.statements = append(l.statements, s)
}

// entriesOf reads the entries of a list, once.
func (im *importer) entriesOf(l *list) []entry {
	if l.read {
		return l.entries
	}
	l.read = true
	for _, s := range l.statements {
		im.take(s)
		if s.word(2) == "remark" || s.word(2) == "line" && s.word(4) == "remark" {
			continue
		}
		if len(l.entries) >= maxElements {
			im.lose(s, fmt.Sprintf("the list has more than %d entries", maxElements))
			continue
		}
		e, err := im.entry(s)
		switch {
		case errors.Is(err, errInactive):
			im.lose(s, err.Error())
			continue
		case err != nil:
			im.lose(s, err.Error())
			e.broken = true
		}
		e.s = s
		l.entries = append(l.entries, e)
	}
	return l.entries
}

// errInactive is an entry that the ASA leaves out.
var errInactive = errors.New("inactive: the ASA leaves it out too")

// entry reads `access-list NAME [line N] [extended] {permit|deny} PROTOCOL SOURCE
// DESTINATION [PORT] [OPTIONS]`.
func (im *importer) entry(s *statement) (e entry, err error) {
	c := &cursor{im: im, s: s, next: 2}
	if c.optional("line") {
		c.next++
	}
	c.optional("extended")
	switch word := c.read(); word {
	case "permit", "deny":
		e.permit = word == "permit"
	default:
		e.neither = true
		return e, fmt.Errorf("%s is not understood there: want extended permit or deny", quoted(word))
	}
	switch protocol := c.peek(); {
	case protocol == "ip", protocol == "tcp", protocol == "6":
		c.next++
		return e, c.rest(&e, protocol != "ip")
	case protocol == "object", protocol == "object-group", protocol == "":
		return e, errors.New("the protocol is not read by this version: write tcp or ip")
	}
	return e, nil // another protocol is no mail
}

// rest reads what stands behind ip or tcp.
func (c *cursor) rest(e *entry, tcp bool) (err error) {
	if e.src, err = c.endpoint(); err != nil {
		return err
	}
	if tcp && slices.Contains(portWords, c.peek()) {
		return errors.New("source ports are not read: a client's is any")
	}
	if e.dst, err = c.endpoint(); err != nil {
		return err
	}
	e.mail = true
	if tcp && slices.Contains(portWords, c.peek()) {
		if e.mail, err = c.port(); err != nil {
			return err
		}
	}
	return c.options()
}

// portWords begin a range of ports.
var portWords = []string{"eq", "neq", "gt", "lt", "range"}

// port reads a range of ports and tells whether it has port 25.
func (c *cursor) port() (bool, error) {
	operator, word := c.read(), c.read()
	n, known := portNumber(word)
	if !known && (operator != "eq" && operator != "neq" || word == "") {
		return false, fmt.Errorf("%s is no port number", quoted(word))
	}
	switch operator {
	case "eq":
		return n == 25, nil
	case "neq":
		return n != 25, nil
	case "gt":
		return 25 > n, nil
	case "lt":
		return 25 < n, nil
	}
	word = c.read()
	last, known := portNumber(word)
	if !known {
		return false, fmt.Errorf("%s is no port number", quoted(word))
	}
	return n <= 25 && 25 <= last, nil
}

// portNumber reads a port. Of the ASA's names only that of mail is of interest.
func portNumber(word string) (n int, known bool) {
	if word == "smtp" {
		return 25, true
	}
	v, err := strconv.ParseUint(word, 10, 16)
	return int(v), err == nil
}

// options reads the words behind an entry: `[log ...] [inactive | time-range NAME]`.
// A class logs nothing on an ASA either.
func (c *cursor) options() error {
	if c.optional("log") {
		for c.more() && c.peek() != "inactive" && c.peek() != "time-range" {
			c.next++ // its level
		}
	}
	switch c.peek() {
	case "":
		return nil
	case "inactive":
		return errInactive
	}
	return fmt.Errorf("%s is not read by this version", quoted(c.read()))
}

// isAny tells whether one side takes in all addresses of a family.
func isAny(side []netip.Prefix, v4 bool) bool {
	return slices.ContainsFunc(side, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() == v4 })
}

// all tells whether an entry holds for all mail of IPv4.
func (e *entry) all() bool { return e.mail && isAny(e.src, true) && isAny(e.dst, true) }

// overlaps tells whether a connection may match both entries.
func (e *entry) overlaps(other *entry) bool {
	return overlap(e.src, other.src) && overlap(e.dst, other.dst)
}

// reversed is the entry for connections the other way.
func (e *entry) reversed() *entry { return &entry{src: e.dst, dst: e.src} }

// overlap tells whether two sides have an address in common.
func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return slices.ContainsFunc(b, p.Overlaps) })
}

// host returns the one side that is not everywhere, and whether it is the
// destination.
func (e *entry) host() (p netip.Prefix, to bool, err error) {
	if len(e.src) == 1 && e.src[0].Bits() > 0 {
		p = e.src[0]
		if !isAny(e.dst, p.Addr().Is4()) {
			return p, false, errors.New("a pair of hosts; exempt.nft holds hosts, whoever they talk to")
		}
		return p, false, nil
	}
	if len(e.dst) == 1 && e.dst[0].Bits() > 0 {
		p = e.dst[0]
		if !isAny(e.src, p.Addr().Is4()) {
			return p, true, errors.New("one side is IPv4, the other IPv6")
		}
		return p, true, nil
	}
	return p, false, errors.New("all hosts: exempting them would leave no mail to inspect")
}
