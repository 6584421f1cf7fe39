package netns

import (
	"strconv"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// notLimits is what the log says of a comment that is none of limits.
const notLimits = `want "tcp MAX EMBRYONIC", two numbers`

// malformed are elements of the live maps whose comments are no limits, and what
// the log says of each.
var malformed = []struct{ set, key, comment, value, wrong string }{
	{"static4", "10.9.3.21", "at most ten", "10.9.2.21", notLimits},
	{"static4", "10.9.3.22", "tcp", "10.9.2.22", notLimits},
	{"static4", "10.9.3.23", "tcp 1 2 3", "10.9.2.23", notLimits},
	{"static4", "10.9.3.24", "tcp -1 0", "10.9.2.24", notLimits},
	{"static4", "10.9.3.25", "tcp 5,1", "10.9.2.25", notLimits},
	{"static4", "10.9.3.26", "udp 5 1", "10.9.2.26", notLimits},
	{"static4", "10.9.3.27", "tcp 2000001 0", "10.9.2.27", "2000001: more than 2000000"},
	{"static4", "10.9.3.28", "tcp 5 99999999999", "10.9.2.28", "99999999999: more than 2000000"},
	{"static4net", "10.9.4.0/24", "none", "10.9.5.0/24", notLimits},
	{"static6", "fd09:3::21", "tcp 1 2 3", "fd09:2::21", notLimits},
	{"static6net", "fd09:4::/64", "none", "fd09:5::/64", notLimits},
}

// A comment that is no limit limits nobody, and the log names the element and what
// is wrong. All other limits are in force. So it is at the start, and of an element
// that comes later.
func TestLimitMalformed(t *testing.T) {
	t.Parallel() // it waits for the daemon's next look
	start, later := malformed[1:], malformed[0]
	var elements strings.Builder
	for _, m := range start {
		elements.WriteString("add element inet smtpwall " + m.set + " { " + m.key + ` comment "` + m.comment + `" : ` + m.value + " }\n")
	}
	w := newWall(t, withElements(t, "static.nft", elements.String()+limited("tcp 2 0")), "")
	serve(t, w.Lab, lab.Server)
	for _, m := range start {
		w.complains(t, m.set, m.key+` comment "`+m.comment+`" : `+m.value, m.wrong)
	}
	for _, g := range globals {
		w.mustOpen(t, g.global)
		w.mustOpen(t, g.global)
		w.refused(t, g.global)
	}

	element := later.key + ` comment "` + later.comment + `" : ` + later.value
	nft(t, w.Lab, "add element inet smtpwall "+later.set+" { "+element+" }")
	nft(t, w.Lab, `add element inet smtpwall static4 { 10.9.2.2 comment "tcp 3 0" : 10.9.2.2 }`) // has it read the maps again
	eventually(t, "the maps are read again", func() bool { return w.hosts(t) == len(malformed)+3 })
	for _, h := range w.allStatic(t) {
		want := 0
		if h.Local == lab.ServerIP4 || h.Local == lab.ServerIP6 {
			want = 2 // of two mappings of a host the lower one
		}
		if h.Limit != want {
			t.Errorf("%s may have %d connections, want %d", h.Global, h.Limit, want)
		}
	}
	for _, g := range globals {
		w.refused(t, g.global)
	}
	within(t, 2*liveTimeout, "the log tells of the new element", func() bool { return strings.Contains(w.log.String(), later.key+" ") })
	w.complains(t, later.set, element, later.wrong)
}

// complains checks that the log says once what is wrong with the comment of an
// element.
func (w *wall) complains(t *testing.T, set, element, wrong string) {
	t.Helper()
	text := strconv.Quote("element { " + element + " } of map " + set + ": comment: " + wrong)
	if text = strings.Trim(text, `"`); strings.Count(w.log.String(), text) != 1 {
		t.Errorf("the log does not say once %q:\n%s", text, w.log)
	}
}
