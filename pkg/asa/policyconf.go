package asa

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// keptLine is a line that policy.conf has in the same words: of a regex, a
// class-map type regex, a policy-map type inspect esmtp or a tcp-map.
type keptLine struct {
	*statement
	head, unit int // lines that it is of no use without; of a match's action: the match
	dropped    bool
}

// frame is the part of policy.conf that ties a map to the queues.
type frame struct {
	class, policy string
	inspect       *statement // inspect esmtp MAP; nil for the default map
	sets          []*statement
}

// The names of the frame on an ASA that nobody has configured.
const (
	defaultClass  = "inspection_default"
	defaultPolicy = "global_policy"
)

// readHeading begins the lines of policy.conf.
func (im *importer) readHeading(s *statement) {
	im.take(s)
	im.ctx = inText
	im.kept = append(im.kept, keptLine{statement: s, head: s.line, unit: s.line})
}

// readText keeps a line below a heading. An action belongs to the match above it.
func (im *importer) readText(s *statement) {
	im.take(s)
	above := im.kept[len(im.kept)-1]
	k := keptLine{statement: s, head: above.head, unit: s.line}
	switch s.word(0) {
	case "drop-connection", "reset", "mask", "log", "rate-limit", "drop":
		if above.unit != above.head {
			k.unit = above.unit
		}
	}
	im.kept = append(im.kept, k)
}

// maxRounds bounds how often the policy is read: each round drops what the one
// before it has shown to be wrong. After half of them everything from the first
// error on is dropped.
const maxRounds = 8

// policy makes the policy of what was kept. Lines that it does not understand are
// not carried over. Every line stands where it stands in the file, so that the
// parser's errors name its lines.
func (im *importer) policy(f frame) (*policy.Config, error) {
	for round := 1; ; round++ {
		text, behind := im.render()
		cfg, err := policy.Parse(im.file, []byte(text+f.String()))
		var list policy.Errors
		if !errors.As(err, &list) || round > maxRounds {
			return cfg, err
		}
		at := slices.IndexFunc(list, func(e *policy.Error) bool { return e.Line > behind })
		if at < 0 {
			at = len(list)
		}
		im.drop(list[:at], round)
		f = im.reframe(f, list[at:], behind)
		if round == maxRounds {
			f = frame{class: defaultClass, policy: defaultPolicy}
		}
	}
}

// render returns the kept lines and how many lines that is.
func (im *importer) render() (string, int) {
	var b strings.Builder
	behind := 0
	for i := range im.kept {
		k := &im.kept[i]
		if k.dropped {
			continue
		}
		b.WriteString(strings.Repeat("\n", k.line-1-behind))
		b.WriteString(k.text + "\n")
		behind = k.line
	}
	return b.String(), behind
}

// String is the frame's text; reframe knows its lines.
func (f *frame) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "class-map %s\n match queue 0-3\npolicy-map %s\n class %s\n  inspect esmtp", f.class, f.policy, f.class)
	if f.inspect != nil {
		b.WriteString(" " + strings.Join(f.inspect.words[2:], " "))
	}
	b.WriteByte('\n')
	for _, s := range f.sets {
		b.WriteString("  " + s.text + "\n")
	}
	fmt.Fprintf(&b, "service-policy %s global\n", f.policy)
	return b.String()
}

// reframe takes what is wrong out of a frame that stands behind so many lines.
func (im *importer) reframe(f frame, list policy.Errors, behind int) frame {
	const inspect = 5 // its line
	wrong := map[*statement]bool{}
	for _, e := range list {
		switch n := e.Line - behind; {
		case n < inspect, n > inspect+len(f.sets):
			f.class, f.policy = defaultClass, defaultPolicy
		case n > inspect:
			s := f.sets[n-inspect-1]
			if !wrong[s] {
				im.lose(s, reason(e))
			}
			wrong[s] = true
		case f.inspect != nil:
			im.lose(f.inspect, reason(e)+": policy.conf has the default map there")
			f.inspect = nil
		}
	}
	f.sets = slices.DeleteFunc(slices.Clone(f.sets), func(s *statement) bool { return wrong[s] })
	return f
}

// reason is the text of a policy's error without its place.
func reason(e *policy.Error) string {
	text := printable(e.Word) + ": " + e.Problem
	if e.Want != "" {
		text += "; want " + e.Want
	}
	return text
}

// drop takes out the lines that the errors are about, and what is of no use
// without them. In later rounds it takes out more, so that there is an end.
func (im *importer) drop(list policy.Errors, round int) {
	if len(list) == 0 && round < maxRounds {
		return
	}
	lines, units, heads := map[int]*policy.Error{}, map[int]*policy.Error{}, map[int]*policy.Error{}
	for _, e := range slices.Backward(list) {
		lines[e.Line] = e // the first of a line
	}
	for i := range im.kept {
		if k := &im.kept[i]; lines[k.line] != nil {
			units[k.unit] = lines[k.line]
			if k.line == k.head {
				heads[k.head] = lines[k.line]
			}
		}
	}
	for i := range im.kept {
		k := &im.kept[i]
		late := round > maxRounds/2 && len(list) > 0 && k.line >= list[0].Line
		switch {
		case k.dropped:
			continue
		case lines[k.line] != nil:
			im.lose(k.statement, reason(lines[k.line]))
		case units[k.unit] != nil:
			im.lose(k.statement, fmt.Sprintf("goes with line %d, which is not carried over", units[k.unit].Line))
		case heads[k.head] != nil:
			im.lose(k.statement, fmt.Sprintf("goes with line %d, which is not carried over", heads[k.head].Line))
		case late || round == maxRounds:
			im.lose(k.statement, "there are too many errors in lines like this one: correct those first")
		default:
			continue
		}
		k.dropped = true
	}
}
