package sim

import (
	"bytes"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// events takes what the engine has to tell.
func (w *world) events() {
	for _, ev := range w.eng.TakeEvents() {
		if w.plan.honest() {
			w.told(&ev)
		}
	}
	for _, k := range w.eng.TakeKills() {
		for _, c := range w.conns {
			if c.current(k.Client.Port()) {
				c.killed = true
			}
		}
	}
}

// told checks that the engine takes no session for ended that goes on.
func (w *world) told(ev *engine.Event) {
	for _, c := range w.conns {
		if c.open && c.current(ev.Conn.Client.Port()) {
			return // the kernel knows more than the engine
		}
	}
	switch {
	case ev.Kind == engine.EventTeardown && ev.Teardown == engine.TeardownSYNTimeout: // every answer to the SYN was lost; there will be another one
	case ev.Kind == engine.EventTeardown && ev.Teardown == engine.TeardownTimeout && w.forgetting: // of a connection that the kernel had taken over
	case ev.Kind == engine.EventTeardown && ev.Teardown != engine.TeardownFINs && ev.Teardown != engine.TeardownReplaced,
		ev.Kind == engine.EventUndecided,
		(ev.Kind == engine.EventMatch || ev.Kind == engine.EventParameter || ev.Kind == engine.EventMalicious) && ends(ev.Do.Action):
		w.fail("the engine's view is not ended", "event %d, teardown %d, rule %q, %q", ev.Kind, ev.Teardown, ev.Rule, ev.Detail)
	case ev.Kind == engine.EventTeardown:
		for _, c := range w.conns {
			if c.current(ev.Conn.Client.Port()) && ev.Teardown == engine.TeardownFINs && !(c.host[0].closing && c.host[1].closing) {
				w.fail("the engine's view is not ended", "teardown by FINs, and only %v have closed", []bool{c.host[0].closing, c.host[1].closing})
			}
		}
	}
}

// ends reports whether an action ends a connection.
func ends(a policy.Action) bool { return a == policy.DropConnection || a == policy.Reset }

// current reports whether the client's port is that of c now.
func (c *conn) current(port uint16) bool {
	return !c.reused && c.port[flow.Original] == port && c.host[flow.Original].phase != hostClosed
}

// heard checks a command that a server's application has got.
func (w *world) heard(s *server, word string, line []byte) {
	c := s.host.c
	if c.open || s.wicked || c.tap[flow.Original].lied || !w.forbids(word) {
		return
	}
	w.fail("no forbidden command reaches the server", "conn %d: %q", c.index, line)
}

// forbids reports whether a command may not pass.
func (w *world) forbids(word string) bool {
	m := w.plan.m
	switch word {
	case "STARTTLS":
		return !m.AllowTLS
	case "BDAT":
		return !m.AllowBDAT
	case "MAIL", "AUTH":
		return m.RequireTLS
	}
	for _, f := range forbidden {
		if f == word {
			return !allows(m, word)
		}
	}
	return false
}

// allows reports whether a map has a private command.
func allows(m *policy.Map, word string) bool {
	for _, c := range m.AllowCommands {
		if c.Word == word {
			return true
		}
	}
	return false
}

// finish checks what must hold at the end of a schedule.
func (w *world) finish() {
	if w.fault == nil {
		w.tickUntil(w.now + w.plan.patience + time.Second)
	}
	if w.fault == nil && w.waiting > 0 {
		for _, p := range w.given {
			if p != nil {
				w.failAt(p, "one decision a packet", "none after %v", w.now-p.given)
				break
			}
		}
	}
	if w.fault == nil {
		w.counters()
		w.count()
	}
	for _, c := range w.conns {
		if w.fault == nil && w.plan.honest() {
			w.checkComplete(c)
		}
		if w.fault == nil && !c.server.wicked {
			w.checkMasks(c)
		}
		if w.fault == nil {
			w.replay(c)
		}
	}
}

// checkComplete checks that everything has arrived.
func (w *world) checkComplete(c *conn) {
	client, server := c.host[flow.Original], c.host[flow.Reply]
	for i, e := range []*endpoint{client, server} {
		// Both have got everything and the end of it. The last ACK of all may be
		// lost until the engine has forgotten the connection.
		if !e.eof || !e.closing {
			w.fail("a transfer that nobody attacks completes", "conn %d, %s: phase %d, acknowledged %d of %d, got %d, eof %v, closing %v",
				c.index, [...]string{"client", "server"}[i], e.phase, e.una, e.length(), e.in.next, e.eof, e.closing)
			return
		}
	}
	w.checkOctets(c, flow.Original, func(b byte) bool { return b == 'X' || b == ' ' })
	w.checkOctets(c, flow.Reply, func(b byte) bool { return b == '*' || 'A' <= b && b <= 'Z' })
	if len(c.client.messages) != len(c.server.messages) {
		w.fail("every message arrives", "conn %d: %d of %d", c.index, len(c.server.messages), len(c.client.messages))
		return
	}
	for i, m := range c.client.messages {
		if !bytes.Equal(m, c.server.messages[i]) {
			w.fail("every message arrives", "conn %d, message %d: sent\n%q, arrived\n%q", c.index, i, m, c.server.messages[i])
		}
	}
}

// checkOctets compares what was sent with what has arrived: equal, or masked.
func (w *world) checkOctets(c *conn, dir flow.Dir, mask func(byte) bool) {
	sent, got := c.host[dir].out, c.host[dir.Other()].in.data[:c.host[dir.Other()].in.next]
	if len(sent) != len(got) {
		w.fail("everything arrives", "conn %d, direction %d: %d of %d octets", c.index, dir, len(got), len(sent))
		return
	}
	for i := range sent {
		if sent[i] != got[i] && !mask(got[i]) {
			w.fail("everything arrives", "conn %d, direction %d: octet %d, %q was sent, %q arrived", c.index, dir, i, sent[i], got[i])
			return
		}
	}
}

// checkMasks checks what the policy hides from the client.
func (w *world) checkMasks(c *conn) {
	h := c.host[flow.Original]
	got := h.in.data[:h.in.next]
	if c.tap[flow.Reply].lied {
		return
	}
	if w.plan.m.MaskBanner && bytes.HasPrefix(got, []byte("220")) {
		line, _, _ := bytes.Cut(got, []byte("\n"))
		if len(line) > 4 && len(bytes.Trim(line[4:], "*20\r")) > 0 {
			w.fail("the banner is masked", "conn %d: the client got %q", c.index, line)
		}
	}
	for _, keyword := range []string{secret, "STARTTLS"} {
		if w.hides(keyword) && !c.open && bytes.Contains(got, []byte(keyword)) {
			w.fail("keywords are masked", "conn %d: the client got %q", c.index, got)
		}
	}
}

// hides reports whether the map masks a keyword of the EHLO reply.
func (w *world) hides(keyword string) bool {
	m := w.plan.m
	if keyword == "STARTTLS" && m.AllowTLS {
		return false
	}
	for _, match := range m.Matches {
		if match.Criterion == policy.EHLOReplyParameter && match.Do.Action == policy.Mask {
			for _, k := range match.Keywords {
				if k == smtp.KeywordOthers {
					return true
				}
			}
		}
	}
	return false
}
