package asa

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// objectNAT is a nat line below an object.
type objectNAT struct {
	*statement
	object *object
}

// reserved is what is mapped, and by which line, so that no element of a map is
// stated twice and no networks overlap.
type reserved struct {
	global, local map[netip.Prefix]int
	nets          []Mapping
}

// maxNetworks bounds the mapped networks, each of which is compared with each.
const maxNetworks = 1000

// readStatic keeps a `static` line: the names in it may be defined below.
func (im *importer) readStatic(s *statement) {
	if !s.no {
		im.statics = append(im.statics, s)
	}
}

// readNAT keeps an object's `nat (REAL,MAPPED) static`. The other forms translate
// clients, or stand for themselves.
func (im *importer) readNAT(s *statement) {
	rest := afterInterfaces(s)
	switch {
	case s.no || len(rest) == 0:
	case im.ctx == inObject && strings.EqualFold(rest[0], "static"):
		im.nats = append(im.nats, objectNAT{s, im.object})
	case slices.Contains(rest, "static"):
		im.lose(s, "not read by this version: write object network, host and nat static, or elements of static.nft")
	}
}

// afterInterfaces returns the words behind `(REAL,MAPPED)`, in which there may be
// blanks.
func afterInterfaces(s *statement) []string {
	for i := 1; i < len(s.words); i++ {
		if strings.HasSuffix(s.words[i], ")") {
			return s.words[i+1:]
		}
	}
	return nil
}

// interfacesOfStatics gives policy.conf a comment for each interface of a static
// mapping if the file has no nameif: it is a piece of a configuration.
func (im *importer) interfacesOfStatics() {
	if len(im.interfaces) > 0 {
		return
	}
	all := slices.Clone(im.statics)
	for _, n := range im.nats {
		all = append(all, n.statement)
	}
	for _, s := range all {
		pair, _, _ := strings.Cut(strings.Join(s.words[1:], ""), ")")
		for name := range strings.SplitSeq(strings.TrimPrefix(pair, "("), ",") {
			if name != "" && name != "any" && !slices.Contains(im.unnamed, name) && len(im.unnamed) < maxUnnamed {
				im.unnamed = append(im.unnamed, printable(name))
				im.interfaces = append(im.interfaces, fmt.Sprintf("! interface KERNEL-NAME-OF-IT\n!  nameif %s\n", printable(name)))
			}
		}
	}
}

// maxUnnamed is how many interfaces of a piece of a configuration are named.
const maxUnnamed = 100

// mappings reads what was kept, in the order of the file.
func (im *importer) mappings() {
	for _, s := range im.statics {
		m, err := im.static(s)
		im.add(s, m, err)
	}
	for _, n := range im.nats {
		m, err := im.objectNAT(n)
		im.add(n.statement, m, err)
	}
	slices.SortStableFunc(im.mapped, func(a, b Mapping) int { return a.line - b.line })
	for _, m := range im.unchanged {
		im.leave(m)
	}
}

// unchanged is a mapping of addresses to themselves without limits.
type unchanged struct {
	*statement
	local netip.Prefix
}

// leave lists such a mapping. On an ASA it may keep connections over one pair of
// interfaces from what another mapping does to those over other pairs.
func (im *importer) leave(m unchanged) {
	for _, other := range im.mapped {
		if other.Reverse && other.Global != other.Local && other.Local.Overlaps(m.local) {
			im.lose(m.statement, fmt.Sprintf("static.nft does not tell interfaces apart: connections that %s opens over these are translated too, by line %d", element(other.Local), other.line))
			return
		}
	}
	im.warn(m.statement, "it changes no address and limits nothing: nothing to carry over")
}

// errPAT is a mapping of one port.
var errPAT = errors.New("a mapping of one port: static.nft maps whole addresses; write a dnat rule in a table of your own, and no embryonic limit for that host: its SYNs could not be answered with cookies")

// static reads `static (REAL,MAPPED) GLOBAL LOCAL [dns] [netmask MASK] [OPTIONS]`.
func (im *importer) static(s *statement) (m static.Mapping, err error) {
	rest := afterInterfaces(s)
	c := &cursor{im: im, s: s, next: len(s.words) - len(rest)}
	switch word := c.peek(); {
	case word == "":
		return m, errors.New("want static (REAL,MAPPED) GLOBAL LOCAL")
	case word == "tcp", word == "udp":
		return m, errPAT
	case word == "interface":
		return m, errors.New("the interface's address is not known here: write it in place of the word interface")
	case s.word(c.next+1) == "access-list":
		return m, errors.New("translates by access list; static.nft maps an address whoever asks")
	}
	global, err := im.addr(c.read())
	if err != nil {
		return m, err
	}
	local, err := im.addr(c.read())
	if err != nil {
		return m, err
	}
	if !global.Is4() || !local.Is4() {
		return m, errors.New("static maps IPv4 addresses")
	}
	c.dns() // where a PIX 6 has it
	bits, err := c.netmask(local)
	if err != nil {
		return m, err
	}
	m.Global, m.Local = c.masked(netip.PrefixFrom(global, bits)), c.masked(netip.PrefixFrom(local, bits))
	m.Limits, err = c.limits()
	return m, err
}

// netmask reads the optional `netmask MASK`.
func (c *cursor) netmask(local netip.Addr) (int, error) {
	switch {
	case c.optional("netmask"):
		word := c.read()
		n, ok := maskBits(word)
		if !ok || n == 0 {
			return 0, fmt.Errorf("%s is no netmask", quoted(word))
		}
		return n, nil
	case local.As4()[3] == 0:
		return 0, errors.New("a network without netmask MASK")
	}
	return local.BitLen(), nil
}

// limits reads the words behind the addresses: limits and options.
func (c *cursor) limits() (l static.Limits, err error) {
	limited := false
	for c.more() && err == nil {
		switch word := c.peek(); {
		case word == "norandomseq":
			c.next++ // Linux leaves sequence numbers as they are
		case c.dns():
		case word == "udp":
			c.next++
			c.number()
			c.im.warn(c.s, "udp: TCP connections only are limited")
		case !limited && (word == "tcp" || isNumber(word)):
			limited = true
			c.optional("tcp")
			l, err = c.tcpLimits()
		default:
			err = c.end()
		}
	}
	return l, err
}

// dns reads the word dns if it is the next one.
func (c *cursor) dns() bool {
	found := c.optional("dns")
	if found {
		c.im.warn(c.s, "dns: answers of name servers are not rewritten")
	}
	return found
}

// isNumber tells whether a word begins with a digit.
func isNumber(word string) bool { return word != "" && '0' <= word[0] && word[0] <= '9' }

// number reads a number if one is next.
func (c *cursor) number() (uint32, error) {
	if !isNumber(c.peek()) {
		return 0, nil
	}
	word := c.read()
	n, err := strconv.ParseUint(word, 10, 32)
	if err != nil || n > static.MostConnections {
		return 0, fmt.Errorf("%s is not a number from 0 to %d", quoted(word), static.MostConnections)
	}
	return uint32(n), nil
}

// tcpLimits reads `MAX [EMBRYONIC]`.
func (c *cursor) tcpLimits() (l static.Limits, err error) {
	if !isNumber(c.peek()) {
		return l, errors.New("want tcp MAX EMBRYONIC")
	}
	if l.Max, err = c.number(); err == nil {
		l.Embryonic, err = c.number()
	}
	if l.Max > 0 && l.Embryonic > l.Max {
		c.im.warn(c.s, fmt.Sprintf("%d half-open connections can never be reached before %d connections, as half-open ones count too: SYN cookies begin at %d; write an embryonic limit below %d",
			l.Embryonic, l.Max, l.Max, l.Max))
	}
	return l, err
}

// objectNAT reads `nat (REAL,MAPPED) static {ADDRESS | OBJECT} [OPTIONS]`.
func (im *importer) objectNAT(n objectNAT) (m static.Mapping, err error) {
	s := n.statement
	c := &cursor{im: im, s: s, next: len(s.words) - len(afterInterfaces(s)) + 1}
	word := c.read()
	switch {
	case word == "interface":
		return m, errors.New("the interface's address is not known here, and most such lines map one port: write elements of static.nft")
	case slices.Contains(s.words, "service"):
		return m, errPAT
	}
	if m.Local, err = im.objectNamed(n.object.name); err != nil {
		return m, err
	}
	if im.objects[word] != nil {
		m.Global, err = im.objectNamed(word)
	} else {
		var a netip.Addr
		if a, err = im.addr(word); err == nil && a.Is4() == m.Local.Addr().Is4() {
			m.Global = c.masked(netip.PrefixFrom(a, m.Local.Bits()))
		}
	}
	if err != nil {
		return m, err
	}
	return m, c.natOptions()
}

// natOptions reads the words behind an object's addresses.
func (c *cursor) natOptions() error {
	for c.more() {
		if c.dns() {
			continue
		}
		switch c.peek() {
		case "no-proxy-arp", "route-lookup", "net-to-net":
			// smtpwall answers no ARP, Linux routes, and networks keep their host part
		default:
			return c.end()
		}
		c.next++
	}
	return nil
}

// add takes a mapping that can be loaded together with the others.
func (im *importer) add(s *statement, m static.Mapping, err error) {
	im.take(s)
	same := err == nil && m.Global == m.Local && m.Limits == (static.Limits{})
	switch {
	case same && len(im.unchanged) >= maxElements:
		err = fmt.Errorf("more than %d mappings", maxElements)
	case same:
		im.unchanged = append(im.unchanged, unchanged{s, m.Local})
		return
	case err == nil:
		err = im.fits(m)
	}
	if err != nil {
		im.lose(s, err.Error())
		return
	}
	earlier, again := im.taken.local[m.Local]
	if again {
		im.warn(s, fmt.Sprintf("line %d maps the local address already: connections that it opens itself come from the global address there", earlier))
	} else {
		im.taken.local[m.Local] = s.line
	}
	im.taken.global[m.Global] = s.line
	im.mapped = append(im.mapped, Mapping{Mapping: m, line: s.line, Reverse: !again})
	if !m.Local.IsSingleIP() {
		im.taken.nets = append(im.taken.nets, im.mapped[len(im.mapped)-1])
	}
}

// fits tells what keeps a mapping out of the maps.
func (im *importer) fits(m static.Mapping) error {
	g, l := m.Global, m.Local
	line, again := im.taken.global[g]
	switch {
	case !g.IsValid() || g.Addr().Is4() != l.Addr().Is4():
		return errors.New("one address is IPv4, the other IPv6")
	case g.Bits() != l.Bits():
		return errors.New("networks of different sizes")
	case g.Bits() == 0:
		return errors.New("all addresses are no network")
	case len(im.mapped) >= maxElements:
		return fmt.Errorf("more than %d mappings", maxElements)
	case again:
		return fmt.Errorf("line %d maps %s already", line, element(g))
	case g.IsSingleIP():
		return nil
	case len(im.taken.nets) >= maxNetworks:
		return fmt.Errorf("more than %d networks", maxNetworks)
	}
	for _, n := range im.taken.nets {
		if n.Global.Overlaps(g) || n.Local != l && n.Local.Overlaps(l) {
			return fmt.Errorf("its network overlaps one of line %d", n.line)
		}
	}
	return nil
}
