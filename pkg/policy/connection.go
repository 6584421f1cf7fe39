package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// limitWords are the limits of `set connection`, in the order of figures.
var limitWords = [...]string{"conn-max", "embryonic-conn-max", "per-client-max", "per-client-embryonic-max"}

// figures are the numbers behind limitWords; 0 is unlimited.
type figures [len(limitWords)]uint32

// figures are the limits of a class as the language states them.
func (c *Class) figures() figures {
	return figures{c.Limits.Max, c.Limits.Embryonic, c.ClientLimits.Max, c.ClientLimits.Embryonic}
}

// limits are the figures as a tracker takes them: of each host, and of each
// client of these.
func (f figures) limits() (host, client static.Limits) {
	return static.Limits{Max: f[0], Embryonic: f[1]}, static.Limits{Max: f[2], Embryonic: f[3]}
}

// SetConnection is what stands behind `set connection` to state the class's
// limits, as `show service-policy` has it too; empty if there are none.
func (c *Class) SetConnection() string {
	var words []string
	for i, n := range c.figures() {
		if n > 0 {
			words = append(words, fmt.Sprintf("%s %d", limitWords[i], n))
		}
	}
	return strings.Join(words, " ")
}

// ConnectionLimits returns the limits of each host with a static mapping, and of
// each client of these hosts. The SYNs of limited hosts come in one queue, which
// tells no classes apart: the lowest figure of all classes holds.
func (c *Config) ConnectionLimits() (host, client static.Limits) {
	for i := range c.Classes {
		host, client = host.Lower(c.Classes[i].Limits), client.Lower(c.Classes[i].ClientLimits)
	}
	return host, client
}

// otherConnection are the lines of `set connection` that are not carried over,
// with what is wrong with them and what to do instead.
var otherConnection = []struct{ word, problem, want string }{
	{"random-sequence-number", "not done, the ends choose their sequence numbers themselves", "no such words"},
	{"timeout", "not decided here",
		"no such line: the sysctls net.netfilter.nf_conntrack_tcp_timeout_* hold, and 30 seconds for half-open connections"},
	{"decrement-ttl", "not decided here", "no such line: the kernel decrements the TTL of every packet that it forwards"},
	{"syn-cookie-mss", "not decided here", "no such words: mss behind synproxy in intercept.nft"},
}

// connectionWords is what may stand behind `set connection`: a tcp-map, the
// limits, then what is refused.
var connectionWords = func() []string {
	words := append([]string{"advanced-options"}, limitWords[:]...)
	for _, o := range otherConnection {
		words = append(words, o.word)
	}
	return words
}()

// readSet reads `set connection advanced-options TCPMAP` and `set connection
// {LIMIT N}...`.
func (p *parser) readSet(l *line) {
	if _, ok := l.keyword("connection"); !ok {
		return
	}
	i, ok := l.phrase(connectionWords, 1+len(limitWords))
	if ok && i == 0 {
		p.readAdvancedOptions(l)
		return
	}
	for ok = ok && p.readLimit(l, i-1); ok && l.next < len(l.words); {
		if i, ok = l.phrase(connectionWords[1:], len(limitWords)); ok {
			ok = p.readLimit(l, i)
		}
	}
	if !ok {
		p.lastUse().broken = true
	}
}

// readLimit reads the number behind limit i of `set connection`. A higher i is
// something that is refused.
func (p *parser) readLimit(l *line, i int) bool {
	at := l.words[l.next-1]
	if i >= len(limitWords) {
		o := otherConnection[i-len(limitWords)]
		p.report(at, o.problem, o.want, "")
		return false
	}
	n, ok := l.number(0, static.MostConnections)
	if !ok || !p.once(fmt.Sprintf("class %d of the policy map, %s", len(p.uses), limitWords[i]), at) {
		return false
	}
	p.lastUse().figures[i] = uint32(n)
	return true
}

// readAdvancedOptions reads the name behind `set connection advanced-options`.
func (p *parser) readAdvancedOptions(l *line) {
	at := l.words[0]
	at.text = "set connection advanced-options"
	w, ok := l.name("the name of a tcp-map", maxName)
	if ok && l.end() && p.once(fmt.Sprintf("class %d of the policy map, %s", len(p.uses), at.text), at) {
		p.lastUse().tcpMap = w
	}
}

// lastUse is the class of the policy map that is being read.
func (p *parser) lastUse() *useLines { return p.uses[len(p.uses)-1] }

// checkAction wants a class to do something. A class that only states limits
// inspects nothing, so that a tcp-map would change nothing there.
func (p *parser) checkAction(u *useLines) {
	switch {
	case u.inspect.text != "" || u.broken:
	case u.figures == figures{}:
		p.report(u.class, "class without an action", "inspect esmtp below it, or set connection with a limit", "")
	case u.tcpMap.text != "":
		p.report(u.tcpMap, "tcp-map of a class that inspects nothing", "inspect esmtp below that class, or no such line", "")
	}
}

// warnConnections is about limits that hold otherwise than they read.
func (c *Config) warnConnections() (texts []string) {
	for i := range c.Classes {
		cl := &c.Classes[i]
		f := cl.figures()
		for j := 0; j < len(f); j += 2 { // each maximum stands before its embryonic limit
			if f[j] > 0 && f[j] < f[j+1] {
				texts = append(texts, fmt.Sprintf("class %s: %s %d is reached before %s %d: where half-open connections alone reach it, TCP intercept begins there;"+
					" write %s %d or less", cl.Name, limitWords[j], f[j], limitWords[j+1], f[j+1], limitWords[j+1], f[j]))
			}
		}
	}
	for j, word := range limitWords {
		texts = append(texts, c.warnDifferent(j, word)...)
	}
	return texts
}

// warnDifferent is about classes with different figures for one limit.
func (c *Config) warnDifferent(limit int, word string) []string {
	var stated []string
	var all []uint32
	for i := range c.Classes {
		if n := c.Classes[i].figures()[limit]; n > 0 {
			stated = append(stated, fmt.Sprintf("%d in class %s", n, c.Classes[i].Name))
			all = append(all, n)
		}
	}
	if len(all) == 0 || slices.Min(all) == slices.Max(all) {
		return nil
	}
	return []string{fmt.Sprintf("set connection %s: %s: connections are counted for the hosts of static.nft, whatever their class, and %d holds for all of them;"+
		" write one figure, and limits of single hosts in static.nft", word, strings.Join(stated, ", "), slices.Min(all))}
}
