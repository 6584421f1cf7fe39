package policy

import (
	"fmt"
	"math/rand"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// sameConfig compares everything, what was computed included.
var sameConfig = cmp.Options{
	cmp.AllowUnexported(Map{}, index{}, bound{}, patternLines{}),
	cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() }),
}

// TestGeneratedConfigs prints and parses policies made at random, which have
// everything that the language has.
func TestGeneratedConfigs(t *testing.T) {
	for seed := range int64(500) {
		want := generate(rand.New(rand.NewSource(seed)))
		printed := want.String()
		got, err := Parse("printed.conf", []byte(printed))
		if err != nil {
			t.Fatalf("seed %d: parse what String printed:\n%v\n%s", seed, err, printed)
		}
		if diff := cmp.Diff(want, got, ignoreIndex); diff != "" {
			t.Fatalf("seed %d: (-generated +parsed):\n%s\n%s", seed, diff, printed)
		}
	}
}

// one chooses one of several.
func one[T any](r *rand.Rand, of ...T) T { return of[r.Intn(len(of))] }

// some chooses at least one of several, in any order.
func some[T any](r *rand.Rand, of []T) (found []T) {
	for _, i := range r.Perm(len(of))[:1+r.Intn(len(of))] {
		found = append(found, of[i])
	}
	return found
}

// generate makes a policy that Parse could have returned.
func generate(r *rand.Rand) *Config {
	patterns := []string{"a", `a"`, `"a b"`, `^\x41\.[a-z]{2,5}$`, " blank ", "! no comment", "é|(?i:b)", "tab\tbed"}
	c := &Config{Nameif: map[string]string{"eth0": "outside"}, PolicyMap: "Policy", Description: one(r, "", "a  b"), ServicePolicy: "global"}
	for i := range 1 + r.Intn(4) {
		c.Regexes = append(c.Regexes, Regex{fmt.Sprint("re", i), one(r, patterns...)})
	}
	names := make([]string, len(c.Regexes))
	for i := range names {
		names[i] = c.Regexes[i].Name
	}
	c.RegexClasses = []RegexClass{{"Class", one(r, "", "! x"), some(r, names)}, {"class", "", some(r, names)}}
	c.Maps = []*Map{defaultMap()}
	for i := range 1 + r.Intn(3) {
		c.Maps = append(c.Maps, generateMap(r, fmt.Sprint("map", i), names))
	}
	tcp := []*TCPMap{DefaultTCPMap()}
	for i := range r.Intn(4) {
		c.TCPMaps = append(c.TCPMaps, generateTCPMap(r, fmt.Sprint("tcp", i)))
	}
	tcp = append(tcp, c.TCPMaps...)
	for i := range uint16(1 + r.Intn(3)) {
		cl := Class{Name: fmt.Sprint("queues", i), Description: one(r, "", "class"), First: i * 10, Last: i*10 + uint16(r.Intn(10)), Map: one(r, c.Maps...), TCP: one(r, tcp...)}
		cl.Limits = static.Limits{Max: generateFigure(r), Embryonic: generateFigure(r)}
		cl.ClientLimits = static.Limits{Max: generateFigure(r), Embryonic: generateFigure(r)}
		if i > 0 && cl.SetConnection() != "" && r.Intn(2) == 0 {
			cl.Map, cl.TCP = nil, DefaultTCPMap() // it only states limits
		}
		c.Classes = append(c.Classes, cl)
	}
	return c
}

// generateFigure makes a limit of connections, often none.
func generateFigure(r *rand.Rand) uint32 {
	return one(r, 0, 0, 1, static.MostConnections, uint32(r.Intn(static.MostConnections)))
}

// generateTCPMap makes a tcp-map.
func generateTCPMap(r *rand.Rand, name string) *TCPMap {
	flag := func() bool { return r.Intn(2) == 0 }
	t := DefaultTCPMap()
	t.Name = name
	if flag() {
		t.QueueLimit, t.QueueTimeout = uint64(r.Intn(maxQueueLimit+1)), time.Duration(1+r.Intn(maxQueueTimeout))*time.Second
	}
	t.CheckRetransmission, t.ChecksumVerification, t.DropOverMSS = flag(), flag(), flag()
	t.AllowUrgent, t.ReservedBits, t.NoTTLProtection = flag(), ReservedBits(r.Intn(3)), flag()
	return t
}

// generateMap makes a map.
func generateMap(r *rand.Rand, name string, regexes []string) *Map {
	m := newMap(name)
	flag := func() bool { return r.Intn(2) == 0 }
	m.Description = one(r, "", "d", "two  words")
	m.MaskBanner, m.AllowTLS, m.AllowBDAT = flag(), flag(), flag()
	m.RequireTLS, m.TLSLog = m.AllowTLS && flag(), m.AllowTLS && flag()
	if flag() {
		m.MailRelayDomain, m.MailRelay = "a.example", generateDo(r, DropConnection, NoAction)
		m.SpecialCharacter = generateDo(r, DropConnection, NoAction)
		m.AllowKeywords = some(r, []string{"AUTH=", "HELP", "X", "9-"})
		m.AuthLineLength, m.AuthCommandLength = uint64(1+r.Intn(smtp.MaxLine-2)), true
	}
	if flag() {
		for _, w := range some(r, []string{"X-EXPS", "X-ANONYMOUSTLS", "XEXCH50", "X-LINK2STATE", "XADR", "Q2345"}) {
			m.AllowCommands = append(m.AllowCommands, smtp.Command{Word: w, Like: smtp.Like(r.Intn(4))})
		}
	}
	m.Pipelining = one(r, Do{}, justLog, generateDo(r, Mask, DropConnection))
	m.BareNewline = generateDo(r, NoAction, Mask, DropConnection, Reset)
	m.TLSInjection = generateDo(r, DropConnection, Reset)
	for i := range r.Intn(20) {
		m.Matches = append(m.Matches, generateMatch(r, m, uint64(i+1), regexes))
	}
	return m
}

// generateDo makes an action.
func generateDo(r *rand.Rand, of ...Action) Do {
	do := Do{Action: one(r, of...), Log: r.Intn(2) == 0}
	switch do.Action {
	case NoAction:
		do.Log = true
	case RateLimit:
		do.Log, do.Rate = false, uint64(1+r.Intn(MaxRate))
	}
	return do
}

// generateMatch makes a match line. Those without a bound may come to be one that
// the map has: Parse refuses that, so it becomes one with a bound.
func generateMatch(r *rand.Rand, m *Map, over uint64, regexes []string) Match {
	match := Match{Criterion: Criterion(r.Intn(len(criteria))), Not: r.Intn(2) == 0}
	switch match.Criterion {
	case EHLOReplyParameter:
		match.Keywords = some(r, []smtp.Keyword{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	case CmdVerb:
		match.Verbs = some(r, m.verbNames())
	case MIMEEncoding:
		match.Encodings = some(r, []smtp.Encoding{0, 1, 2, 3, 4, 5})
	case MIMEFiletypeRegex, SenderAddressRegex:
		if match.Regex = one(r, regexes...); r.Intn(2) == 0 {
			match.Regex, match.Class = one(r, "Class", "class"), true
		}
	default:
		match.Over = over
	}
	match.Do = generateDo(r, match.Criterion.actions()...)
	for _, other := range m.Matches {
		if other.String() == match.String() && other.Do == match.Do {
			return Match{Criterion: BodyLength, Over: 1e6 + over, Do: justLog}
		}
	}
	return match
}
