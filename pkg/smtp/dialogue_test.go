package smtp

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// classic are the rules of the built-in default map.
func classic() *Rules { return NewRules(classicRules()) }

func classicRules() Rules {
	r := Rules{MaskBanner: true}
	r.MaskKeywords[KeywordOthers] = true
	r.Limits[CmdLineLength] = []uint64{512}
	r.Limits[CmdRcptCount] = []uint64{100}
	r.Limits[BodyLineLength] = []uint64{998}
	r.Limits[HeaderLineLength] = []uint64{998}
	r.Limits[SenderLength] = []uint64{320}
	r.Limits[FilenameLength] = []uint64{255}
	return r
}

func withTLS() *Rules {
	r := classicRules()
	r.AllowTLS = true
	return NewRules(r)
}

// recorder is a Judge that writes facts down and answers from a table.
type recorder struct {
	facts   []string
	answers map[Kind]Action
}

var kindNames = map[Kind]string{
	KindLimit: "limit", KindUnknownCommand: "unknown", KindPipe: "pipe", KindAddressReplaced: "replaced",
	KindBareNewline: "bare", KindDotLine: "dotline", KindPipelined: "pipelined", KindEarlyTalker: "early",
	KindGluedBytes: "glued", KindTLSInjection: "injection", KindTLSMissing: "notls", KindTLSStarted: "tls",
	KindBanner: "banner", KindEHLOKeyword: "keyword", KindUnexpectedReply: "unexpected",
	KindUndecided: "undecided", KindOverflow: "overflow", KindAuthLine: "authline", KindAuthNewline: "authbare",
	KindWithin: "within", KindVerb: "verb", KindSender: "sender", KindRecipient: "recipient", KindMediaType: "type",
	KindEncoding: "encoding", KindTLSRequired: "tlsrequired", KindAfterQuit: "afterquit", KindSpecialCharacter: "special",
	KindTransition: "transition", KindReplyLine: "replyline", KindSizeExceeded: "size", KindCountUnclear: "unclear",
	KindGroupEnd: "groupend", KindLineUnclear: "toolong", KindParameterRefused: "parameter",
}

func (r *recorder) Judge(f Fact) Action {
	if f.Kind == KindPipelined && f.Repeat && r.answers[f.Kind] == Pass {
		return Pass // the server has offered it
	}
	s := fmt.Sprintf("%s@%d", kindNames[f.Kind], f.Offset)
	switch f.Kind {
	case KindLimit:
		s += fmt.Sprintf(" %d>%d", f.Measure, f.Limit)
		if f.Repeat {
			s += " again"
		}
	case KindSpecialCharacter:
		if f.Repeat {
			s += " again"
		}
	case KindWithin:
		s += fmt.Sprintf(" %d=%d", f.Measure, f.Value)
	case KindSizeExceeded:
		s += fmt.Sprintf(" %d>%d", f.Value, f.Limit)
	case KindVerb:
		s += " " + f.Verb.String()
	case KindEncoding:
		s += fmt.Sprintf(" %d", f.Encoding)
	case KindEHLOKeyword:
		s = fmt.Sprintf("keyword %d", f.Keyword)
	case KindUnexpectedReply, KindUndecided, KindTransition:
		s += fmt.Sprintf(" %d", f.Value)
	}
	if f.Cut {
		s += " cut"
	}
	if f.Text != nil && f.Kind != KindLimit && f.Kind != KindWithin {
		s += fmt.Sprintf(" %q", f.Text)
	}
	r.facts = append(r.facts, s)
	return r.answers[f.Kind]
}

// flight is bytes that one side sends before the other speaks.
type flight struct {
	side Side
	data string
}

// transcript splits "C: " and "S: " lines into flights; each line gets CR LF,
// unless it ends in a backslash. \r, \n, \0 and \t are bytes.
func transcript(text string) []flight {
	var fs []flight
	bytes := strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00", `\t`, "\t", `\x7f`, "\x7f", `\v`, "\v")
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		line = strings.TrimLeft(line, "\t")
		side := Client
		if line[0] == 'S' {
			side = Server
		}
		data, glue := strings.CutSuffix(line[min(3, len(line)):], `\`)
		if data = bytes.Replace(data); !glue {
			data += "\r\n"
		}
		if n := len(fs); n > 0 && fs[n-1].side == side {
			fs[n-1].data += data
			continue
		}
		fs = append(fs, flight{side, data})
	}
	return fs
}

// run feeds the flights in pieces that cut chooses, and returns what each side
// gets. It stops at an End.
func run(r *Rules, rec *recorder, fs []flight, cut func(string) []string) (out [2]string, ok bool) {
	var d Dialogue
	d.Init(r)
	for _, f := range fs {
		for _, piece := range cut(f.data) {
			if !d.Ready(f.side) {
				return out, false
			}
			b := []byte(piece)
			edited, ok := d.Feed(f.side, b, rec)
			if !ok {
				return out, true
			}
			if !edited && string(b) != piece {
				panic(fmt.Sprintf("not edited, but %q became %q", piece, b))
			}
			out[f.side] += string(b)
		}
	}
	return out, true
}

func whole(s string) []string { return []string{s} }

func eachByte(s string) []string { return strings.Split(s, "") }

type dialogueCase struct {
	name    string
	rules   func() *Rules
	answers map[Kind]Action
	in      string
	client  string // what the client gets, LF for CR LF
	server  string // what the server gets
	facts   []string
}

// allCases are the tables of cases_test.go, extension_test.go and attack_test.go.
func allCases() []dialogueCase { return slices.Concat(dialogueCases, extensionCases, attackCases) }

func TestDialogue(t *testing.T) {
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			rules := classic()
			if c.rules != nil {
				rules = c.rules()
			}
			rec := &recorder{answers: c.answers}
			out, ok := run(rules, rec, transcript(c.in), whole)
			if !ok {
				t.Error("bytes came while a reply was awaited that decides how to read them")
			}
			if diff := cmp.Diff(c.client, strings.ReplaceAll(out[Server], "\r\n", "\n")); diff != "" {
				t.Errorf("what the client got (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.server, strings.ReplaceAll(out[Client], "\r\n", "\n")); diff != "" {
				t.Errorf("what the server got (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.facts, rec.facts); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

// A transcript gives the same facts however its flights are cut, and the same
// bytes but for those of a masked line that had passed before it was known.
func TestSplitInvariance(t *testing.T) {
	for _, c := range allCases() {
		t.Run(c.name, func(t *testing.T) {
			rules := classic()
			if c.rules != nil {
				rules = c.rules()
			}
			fs := transcript(c.in)
			want := &recorder{answers: c.answers}
			out, _ := run(rules, want, fs, whole)
			check := func(name string, cut func(string) []string) {
				t.Helper()
				got := &recorder{answers: c.answers}
				o, ready := run(rules, got, fs, cut)
				if !ready { // glued flights end, split ones wait: that is the rule
					return
				}
				if n := len(got.facts); n > 0 && strings.HasPrefix(got.facts[n-1], "unclear") {
					return // digits of a bad BDAT line had passed in a packet before
				}
				if diff := cmp.Diff(want.facts, got.facts); diff != "" {
					t.Fatalf("%s: facts (-whole +split):\n%s", name, diff)
				}
				for side := range o {
					if !sameButMasked(out[side], o[side], fs, Side(side)) {
						t.Fatalf("%s: side %d got %q, whole %q", name, side, o[side], out[side])
					}
				}
			}
			check("every byte", eachByte)
			total := 0
			for _, f := range fs {
				total += len(f.data)
			}
			for at := range total {
				n := at
				check(fmt.Sprintf("cut at %d", at), func(s string) []string {
					defer func() { n -= len(s) }()
					if n > 0 && n < len(s) {
						return []string{s[:n], s[n:]}
					}
					return []string{s}
				})
			}
		})
	}
}

// sameButMasked allows b to keep sent bytes where a masked them, and to have
// more of a flight that a whole one lost when it was ended.
func sameButMasked(a, b string, fs []flight, side Side) bool {
	var sent strings.Builder
	for _, f := range fs {
		if f.side == side {
			sent.WriteString(f.data)
		}
	}
	if len(b) < len(a) {
		return false
	}
	for i := range a {
		letter := a[i] == 'X' || 'A' <= a[i] && a[i] <= 'Z' && b[i] == 'X'
		if a[i] == 'X' && b[i] == ' ' && isControl(sent.String()[i]) { // of a path, before it was masked
			continue
		}
		if a[i] != b[i] && (!letter || b[i] != sent.String()[i] && b[i] != 'X') {
			return false
		}
	}
	return true
}

// A line end stays where it is, whatever is masked around it.
func TestEditsKeepLineEnds(t *testing.T) {
	for _, c := range allCases() {
		var d Dialogue
		d.Init(classic())
		for _, f := range transcript(c.in) {
			if !d.Ready(f.side) {
				break
			}
			b := []byte(f.data)
			before := bytes.Clone(b)
			if _, ok := d.Feed(f.side, b, &recorder{}); !ok {
				break
			}
			for i := range b {
				if (before[i] == '\n') != (b[i] == '\n') {
					t.Errorf("%s: a line end moved at %d of %q", c.name, i, before)
				}
			}
		}
	}
}
