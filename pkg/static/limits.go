package static

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MostConnections is the highest limit: that of an ASA's `set connection`.
const MostConnections = 2_000_000

// Limits bound the TCP connections of one host, or of one client. 0 is no limit.
type Limits struct {
	Max       uint32 // all, half-open ones included
	Embryonic uint32 // half-open ones
}

// ParseComment reads the limits in an element's comment, in the words that end a
// PIX's `static`: [tcp] MAX [EMBRYONIC]. An empty comment is no limit.
func ParseComment(comment string) (Limits, error) {
	words := strings.Fields(comment)
	if len(words) == 0 {
		return Limits{}, nil
	}
	if words[0] == "tcp" {
		words = words[1:]
	}
	if len(words) < 1 || len(words) > 2 {
		return Limits{}, errComment
	}
	var l Limits
	for i, to := range []*uint32{&l.Max, &l.Embryonic}[:len(words)] {
		n, err := strconv.ParseUint(words[i], 10, 32)
		if errors.Is(err, strconv.ErrRange) || err == nil && n > MostConnections {
			return Limits{}, fmt.Errorf("%s: more than %d", words[i], MostConnections)
		}
		if err != nil {
			return Limits{}, errComment
		}
		*to = uint32(n)
	}
	return l, nil
}

// errComment is a comment that holds something else.
var errComment = errors.New(`want "tcp MAX EMBRYONIC", two numbers; 0 is no limit`)

// String is the comment that says so.
func (l Limits) String() string { return fmt.Sprintf("tcp %d %d", l.Max, l.Embryonic) }

// none reports whether nothing is limited.
func (l Limits) none() bool { return l == Limits{} }

// Lower returns the lower of each limit, as an ASA does where both `static` and
// `set connection` have one.
func (l Limits) Lower(other Limits) Limits {
	return Limits{lowerOf(l.Max, other.Max), lowerOf(l.Embryonic, other.Embryonic)}
}

// lowerOf is the lower of two limits.
func lowerOf(a, b uint32) uint32 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// counts are the connections of a host or of a client.
type counts struct {
	open   uint32 // the handshake is complete
	half   uint32 // it is not
	proven uint32 // of half: the client has answered a cookie
}

// total are all of them.
func (c *counts) total() uint32 { return c.open + c.half }

// verdict is what becomes of a SYN.
type verdict uint8

// The verdicts, the worse ones higher.
const (
	admit      verdict = iota
	proxy              // the kernel is to answer it with a cookie
	refuseHalf         // too many half-open connections, and nobody to send cookies
	refuse             // too many connections
)

// judge decides on one more connection. Where cookies can be sent, half-open
// connections alone refuse nobody: an attacker could open as many with invented
// addresses. proven says that the client has answered a cookie.
func (l Limits) judge(c *counts, cookies, proven bool) verdict {
	full := l.Max > 0 && c.total() >= l.Max
	switch {
	case full && (!cookies || c.open+c.proven >= l.Max):
		return refuse
	case proven:
		return admit
	case full:
		return proxy
	case l.Embryonic == 0 || c.half-c.proven < l.Embryonic:
		return admit
	case cookies:
		return proxy
	}
	return refuseHalf
}
