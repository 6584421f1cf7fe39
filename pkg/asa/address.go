package asa

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// object is an `object network`.
type object struct {
	name   string
	at     *statement
	prefix netip.Prefix // not valid: see reason
	reason string       // why it has no prefix
}

// everywhere is the word any: all addresses of both families.
var everywhere = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// readName reads `name ADDRESS NAME`.
func (im *importer) readName(s *statement) {
	a, err := netip.ParseAddr(s.arg(1))
	if err != nil || s.arg(2) == "" || s.no {
		im.lose(s, "want name ADDRESS NAME")
		return
	}
	im.take(s)
	im.names[s.arg(2)] = a
}

// readObject reads `object network NAME`; again, it goes on with the object of
// that name.
func (im *importer) readObject(s *statement) {
	im.ctx = inOther
	if s.no || s.word(1) != "network" || s.arg(2) == "" {
		return
	}
	im.ctx = inObject
	im.take(s)
	im.object = im.objects[s.arg(2)]
	if im.object == nil {
		im.object = &object{name: s.arg(2), at: s, reason: "it has no address"}
		im.objects[s.arg(2)] = im.object
	}
}

// readObjectAddress reads `host A`, `subnet A MASK`; an ASA has ranges and names
// too.
func (im *importer) readObjectAddress(s *statement) {
	im.take(s)
	if word := s.word(0); word == "range" || word == "fqdn" {
		im.object.reason = "a " + word + " is no network"
		return
	}
	c := cursor{im: im, s: s, next: 1}
	p, err := c.network()
	switch {
	case err == nil && s.word(0) == "subnet" && len(s.words) == 2 && !strings.Contains(s.text, "/"):
		err = errors.New("want subnet ADDRESS MASK")
	case err == nil:
		err = c.end()
	}
	if err != nil {
		im.lose(s, err.Error())
		im.object.reason = fmt.Sprintf("line %d could not be read", s.line)
		return
	}
	im.object.prefix = p
}

// addr reads an address or the name of one.
func (im *importer) addr(word string) (netip.Addr, error) {
	a, known := im.names[word]
	if !known {
		var err error
		if a, err = netip.ParseAddr(word); err != nil {
			return a, fmt.Errorf("%s is no address", quoted(word))
		}
	}
	if a.Zone() != "" || a.Is4In6() || a.IsMulticast() || a.IsUnspecified() {
		return a, fmt.Errorf("%s is no host's address", quoted(word))
	}
	return a, nil
}

// quoted names a word of the file, or its absence.
func quoted(word string) string {
	if word == "" {
		return "the end of the line"
	}
	return printable(word)
}

// maskBits returns the length of a netmask in dotted form.
func maskBits(word string) (int, bool) {
	a, err := netip.ParseAddr(word)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n := bits.LeadingZeros32(^m)
	return n, m == ^uint32(0)<<(32-n)
}

// errWildcard is a mask of another Cisco system.
var errWildcard = errors.New("a wildcard mask of IOS, or a mask with a gap: an ASA's is 255.255.255.0")

// cursor reads the words of a line from left to right.
type cursor struct {
	im   *importer
	s    *statement
	next int
}

// more tells whether a word is left.
func (c *cursor) more() bool { return c.next < len(c.s.words) }

// peek is the next word in lower case, empty at the end.
func (c *cursor) peek() string { return c.s.word(c.next) }

// read returns the next word as it stands, empty at the end.
func (c *cursor) read() string {
	w := c.s.arg(c.next)
	c.next++
	return w
}

// optional reads a word if it is the next one.
func (c *cursor) optional(word string) bool {
	found := c.peek() == word
	if found {
		c.next++
	}
	return found
}

// end wants no more words.
func (c *cursor) end() error {
	if !c.more() {
		return nil
	}
	return fmt.Errorf("%s is not understood there", quoted(c.read()))
}

// endpoint reads one side of an access list's entry: everywhere, or one network.
func (c *cursor) endpoint() ([]netip.Prefix, error) {
	switch c.peek() {
	case "any":
		c.next++
		return everywhere, nil
	case "any4", "any6":
		i := int(c.read()[3]-'4') / 2
		return everywhere[i : i+1], nil
	case "object":
		c.next++
		p, err := c.im.objectNamed(c.read())
		return []netip.Prefix{p}, err
	case "object-group", "interface":
		return nil, fmt.Errorf("%s is not read by this version: write its hosts into entries of their own", c.peek())
	case "host":
		c.next++
		a, err := c.im.addr(c.read())
		return single(a), err
	}
	p, err := c.network()
	if err == nil && p.Bits() == 0 {
		return everywhere[:1], nil
	}
	return []netip.Prefix{p}, err
}

// single is a host as a list of networks; not valid for an address that is not.
func single(a netip.Addr) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
}

// objectNamed returns the network of an object.
func (im *importer) objectNamed(name string) (netip.Prefix, error) {
	o := im.objects[name]
	switch {
	case o == nil:
		return netip.Prefix{}, fmt.Errorf("no object network %s", quoted(name))
	case !o.prefix.IsValid():
		return netip.Prefix{}, fmt.Errorf("object %s: %s", printable(name), o.reason)
	}
	return o.prefix, nil
}

// network reads `ADDRESS MASK`, `ADDRESS/LENGTH`, or an address whose `host` was
// left out.
func (c *cursor) network() (netip.Prefix, error) {
	word := c.read()
	if strings.Contains(word, "/") {
		p, err := netip.ParsePrefix(word)
		if err != nil || p.Addr().Is4In6() || p.Addr().IsMulticast() || p.Bits() == 0 {
			return p, fmt.Errorf("%s is no network", quoted(word))
		}
		return c.masked(p), nil
	}
	n, isMask := maskBits(c.peek())
	if word == "0.0.0.0" && isMask && n == 0 {
		c.next++
		return everywhere[0], nil
	}
	a, err := c.im.addr(word)
	switch {
	case err != nil:
		return netip.Prefix{}, err
	case strings.HasPrefix(c.peek(), "0."):
		return netip.Prefix{}, errWildcard
	case isMask && a.Is4():
		c.next++
		return c.masked(netip.PrefixFrom(a, n)), nil
	}
	if c.s.word(0) == "access-list" {
		c.im.warn(c.s, fmt.Sprintf("host is missing before %s: taken as one host", printable(word)))
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// masked clears the host part of a network, which an ASA does not look at.
func (c *cursor) masked(p netip.Prefix) netip.Prefix {
	m := p.Masked()
	if m != p {
		c.im.warn(c.s, fmt.Sprintf("%s has a host part: taken as the network %s", p, m))
	}
	return m
}
