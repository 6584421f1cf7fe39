package sim

import (
	"bytes"
	"time"
)

// opKind says when a step of a client's script is taken and what it means.
type opKind uint8

const (
	opSay     opKind = iota
	opMessage        // only behind a 354: text is the message with its dot
	opAuth           // only behind a 334
	opTLS            // only behind a 220: octets that nobody can read
	opClose          // nothing: the client sends its FIN
)

// op is a step of a client's script.
type op struct {
	kind  opKind
	text  []byte
	wait  int    // replies to wait for before the next step
	alt   []byte // opSay: what is said instead if the server offers CHUNKING; nil: the same
	altN  int    // replies to that
	whole []byte // opMessage, alt: the message that the server must have in the end
}

// client is an SMTP client that follows a script and reacts to replies.
type client struct {
	w    *world
	host *endpoint
	ops  []op
	next int
	owed int // replies that it waits for
	read int // position in the server's octets
	code int // of the last reply

	chunking bool
	greeted  bool
	done     bool
	sealed   bool     // TLS has begun: nothing is read any more
	messages [][]byte // those sent whole

	typing  bool // it sends commands letter by letter
	queued  []byte
	waiting bool // timerApp writes queued
}

// wake begins the session, or writes the next letters.
func (c *client) wake() {
	if !c.greeted {
		c.greeted = true
		c.owed = 1
		if c.w.plan.early(c.w) {
			c.owed = 0
			c.step()
		}
		return
	}
	c.waiting = false
	c.flush()
}

// readable reads replies and goes on with the script.
func (c *client) readable() {
	h := c.host
	for !c.sealed {
		line, ok := lineAt(h, c.read)
		if !ok {
			break
		}
		c.read += len(line)
		c.reply(bytes.TrimRight(line, "\r\n"))
	}
	if c.sealed && c.read < h.read && c.owed > 0 {
		c.owed = 0
		c.step()
	}
	if c.sealed {
		c.read = h.read
	}
	if h.eof && h.read == h.in.next {
		c.done = true
		h.close()
	}
}

// lineAt is the line that begins at a position of what an application has read.
func lineAt(h *endpoint, at int) ([]byte, bool) {
	text := h.in.data[min(at, h.read):h.read]
	end := bytes.IndexByte(text, '\n')
	return text[:end+1], end >= 0
}

// reply takes a line of a reply.
func (c *client) reply(line []byte) {
	if len(line) < 3 {
		return
	}
	if bytes.HasSuffix(line, []byte("CHUNKING")) {
		c.chunking = true
	}
	if len(line) > 3 && line[3] == '-' {
		return
	}
	c.code = 0
	for _, d := range line[:3] {
		c.code = c.code*10 + int(d-'0')
	}
	if c.owed--; c.owed <= 0 {
		c.step()
	}
}

// step takes the steps of the script that need not wait.
func (c *client) step() {
	for c.owed <= 0 && c.next < len(c.ops) && !c.done {
		o := &c.ops[c.next]
		c.next++
		switch o.kind {
		case opSay:
			if c.sealed {
				continue
			}
		case opMessage:
			if c.code != 354 && !c.w.plan.reckless(c.w) {
				continue
			}
			c.messages = append(c.messages, o.whole)
		case opAuth:
			if c.code != 334 {
				continue
			}
		case opTLS:
			if c.code != 220 {
				continue
			}
			c.sealed, c.read = true, c.host.read
		case opClose:
			c.done = true
			c.host.close()
			return
		}
		if bytes.HasPrefix(o.text, []byte("HELO")) {
			c.chunking = false // HELO takes back what EHLO has offered
		}
		text, wait := o.text, o.wait
		if o.alt != nil && c.chunking {
			text, wait = o.alt, o.altN
			c.messages = append(c.messages, o.whole)
		}
		c.owed = max(0, c.owed) + wait
		c.say(text)
	}
}

// say writes text: at once, in pieces or letter by letter.
func (c *client) say(text []byte) {
	c.queued = append(c.queued, text...)
	if !c.waiting {
		c.flush()
	}
}

// flush writes what is queued.
func (c *client) flush() {
	for len(c.queued) > 0 {
		n := len(c.queued)
		switch {
		case c.typing && n < 200:
			n = min(n, c.w.between(1, 3))
		case c.w.chance(20):
			n = c.w.between(1, n)
		}
		c.host.write(c.queued[:n])
		c.queued = c.queued[:copy(c.queued, c.queued[n:])]
		if c.typing && len(c.queued) > 0 {
			c.waiting = true
			c.host.arm(timerApp, time.Duration(c.w.between(1, 30))*time.Millisecond)
			return
		}
	}
}
