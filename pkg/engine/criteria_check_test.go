package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// testCriteria runs a table. Subtests are named CRITERION/ACTION/CASE.
func testCriteria(t *testing.T, list []criterion) {
	for _, c := range list {
		actions := c.actions
		if actions == nil {
			actions = ending
		}
		for _, action := range actions {
			for _, cc := range c.cases {
				t.Run(c.match+"/"+action+"/"+cc.name, func(t *testing.T) {
					e := New(Options{Map: criteriaMap(t, c.match, action)})
					lines := parseTalk(cc.talk)
					for cut := range talkLength(lines) { // in front of octet 0 is no cut
						if cc.check(t, e, lines, cut); t.Failed() {
							t.Fatalf("cut in front of octet %d", cut)
						}
					}
				})
			}
		}
	}
}

// criteriaMap is a map with one match line. It masks nothing else but what no
// map lets pass.
func criteriaMap(t *testing.T, match, action string) *policy.Map {
	t.Helper()
	return parseMap(t, "", " match "+match+"\n  "+action+"\n")
}

// parseMap is a map with the lines of a `parameters` section and the match lines
// given.
func parseMap(t *testing.T, parameters, matches string) *policy.Map {
	t.Helper()
	cfg, err := policy.Parse("test", []byte(`regex spam "spam"
regex scam "@scam\."
regex image "^image/"
regex archive "zip$"
class-map type regex match-any bad
 match regex spam
 match regex scam
class-map type regex match-any files
 match regex image
 match regex archive
policy-map type inspect esmtp m
 parameters
`+parameters+matches+`class-map c
 match queue 0
policy-map p
 class c
  inspect esmtp m
service-policy p global
`))
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Classes[0].Map
}

// parseTalk reads "C: " and "S: " lines.
func parseTalk(talk string) (lines []flight) {
	for _, line := range strings.Split(strings.TrimSuffix(talk, "\n"), "\n") {
		lines = append(lines, flight{side(line), line[3:] + "\r\n"})
	}
	return lines
}

// talkLength is how many octets both sides say.
func talkLength(lines []flight) (n int) {
	for _, l := range lines {
		n += len(l.data)
	}
	return n
}

// cutTalk returns the lines as packets, with one more border in front of octet
// at of all that is said.
func cutTalk(lines []flight, at int) (packets []flight) {
	for _, l := range lines {
		if 0 < at && at < len(l.data) {
			packets = append(packets, flight{l.dir, l.data[:at]}, flight{l.dir, l.data[at:]})
		} else {
			packets = append(packets, l)
		}
		at -= len(l.data)
	}
	return packets
}

// check plays the dialogue with a packet's border in front of octet cut, and
// compares everything with what the case expects.
func (c *criterionCase) check(t *testing.T, e *Engine, lines []flight, cut int) {
	m, before := e.opt.Map, e.Counters()
	w := connectOn(t, e)
	packets := cutTalk(lines, cut)
	for _, p := range packets {
		w.send(p.dir, p.data)
	}
	do, hits, count := m.Matches[0].Do, c.hits, max(c.count, len(c.hits))
	ends := len(hits) > 0 && do.Action != policy.NoAction && do.Action != policy.Mask
	if ends {
		hits, count = hits[:1], 1
	}
	if do.Action == policy.RateLimit {
		do, count = dropAndLog, strings.Count(c.talk, "NOOP")
	}
	if diff := cmp.Diff(hits, matchEvents(t, w, m, do)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := e.Counters().Matches[0] - before.Matches[0]; got != uint64(count) {
		t.Errorf("counted %d, want %d", got, count)
	}
	w.checkEnd(ends, do.Action, before)
	c.checkDelivered(w, packets, ends, do.Action)
	w.done()
}

// matchEvents lists the events of the match line and checks what all must have.
func matchEvents(t *testing.T, w *wireTest, m *policy.Map, do policy.Do) (hits []string) {
	for _, ev := range w.events {
		if ev.Kind != EventMatch {
			continue
		}
		if ev.Class != 1 || ev.Rule != m.Matches[0].String() || ev.Do != do || ev.NotForwarded {
			t.Errorf("event %+v, want class 1, rule %q, action %q", ev, m.Matches[0], do)
		}
		hit := fmt.Sprintf("%c@%d %d>%d %q", "CS"[ev.Side], ev.Offset, ev.Value, ev.Limit, ev.Text)
		if ev.Detail != "" {
			hit += " " + ev.Detail
		}
		hits = append(hits, hit)
	}
	return hits
}

// checkEnd checks whether and how the session was ended; before is what the
// engine had counted before it.
func (w *wireTest) checkEnd(ends bool, action policy.Action, before Counters) {
	w.t.Helper()
	type end struct{ drops, resets, countedDrops, countedResets, rsts, kills int }
	c := w.e.Counters()
	got := end{rsts: w.rsts, kills: len(w.e.TakeKills()),
		countedDrops: int(c.EndedByDrop - before.EndedByDrop), countedResets: int(c.EndedByRST - before.EndedByRST)}
	for _, ev := range w.events {
		switch ev.Teardown {
		case TeardownInspection:
			got.drops++
		case TeardownAppliance:
			got.resets++
		}
	}
	want := end{}
	switch {
	case ends && action == policy.Reset:
		// The other end hears of it with its next packet, and then the entry goes.
		want = end{resets: 1, countedResets: 1, rsts: 1, kills: got.kills}
	case ends:
		want = end{drops: 1, countedDrops: 1, kills: 1}
	}
	if got != want {
		w.t.Errorf("ended %+v, want %+v", got, want)
	}
}

// checkDelivered compares what both ends have got. A session that ends does so
// with the packet that holds the octet which decided: nothing of it, and nothing
// behind it, arrives.
func (c *criterionCase) checkDelivered(w *wireTest, packets []flight, ends bool, action policy.Action) {
	var at int
	var from flow.Dir
	if len(c.hits) > 0 {
		from = side(c.hits[0])
		fmt.Sscanf(c.hits[0][2:], "%d", &at)
	}
	var sent [2]string
	for _, p := range packets {
		if n := len(sent[p.dir]); ends && p.dir == from && n <= at && at < n+len(p.data) {
			break
		}
		sent[p.dir] += p.data
	}
	want := sent
	if c.server != "" {
		want[flow.Original] = c.server[:len(sent[flow.Original])]
	}
	if action == policy.Mask && c.masked != "" {
		want[from] = c.masked
	}
	for dir := range sent {
		checkMasked(w.t, sent[dir], want[dir], string(w.got[dir].bytes), c.server == "")
	}
}

// checkMasked compares what arrived with what was sent and what arrives when
// nothing is cut. Where a packet's border lies in a masked word, its first octets
// may have passed before the word was known, but never, if strict, all of it.
func checkMasked(t testing.TB, sent, want, got string, strict bool) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("arrived %q, want %q", got, want)
		return
	}
	for i := 0; i < len(want); i++ {
		masked, from := false, i
		for ; i < len(want) && want[i] != sent[i]; i++ {
			masked = masked || got[i] != sent[i]
			if got[i] != sent[i] && got[i] != want[i] && got[i] != 'X' {
				t.Errorf("arrived %q, want %q", got, want)
				return
			}
		}
		if i > from && strict && !masked {
			t.Errorf("%q arrived as it was sent, want %q", sent[from:i], want[from:i])
		}
		if i < len(want) && got[i] != sent[i] {
			t.Errorf("arrived %q, want %q", got, want)
			return
		}
	}
}
