package sim

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// forbidden are command words that no map of the simulator allows, but "open"
// the last one.
var forbidden = []string{"EXPN", "TURN", "XCLIENT", "DEBUG", "XFOO", "XONE"}

// secret is an EHLO keyword that a map with `ehlo-reply-parameter others mask`
// hides, but for "open".
const secret = "XSECRET"

// The hellos of a TLS handshake, as far as anybody looks.
var (
	clientHello = []byte("\x16\x03\x01\x00\x30\x01\x00\x00\x2c\x03\x03hello hello hello")
	serverHello = []byte("\x16\x03\x03\x00\x30\x02\x00\x00\x2c\x03\x03hello hello hello")
)

// harmlessLines are single commands of an honest client; some are forbidden or
// no commands at all and come back as 500.
var harmlessLines = []string{
	"NOOP", "noop", "HELP", "VRFY a", "RSET", "RSET", "XX", "", "FOO BAR", "NOOP " + "x", "Noop 1", "ETRN a.example", "MAILX",
	"HELO again.example", "NOOP\t", "STARTTLSX", "DATAX", "BDAT x", "NO", "help me", " NOOP", "XFOO 2020", "NOOP \x80\xff",
}

// badPaths are arguments that a firewall changes and that harm nobody.
var badPaths = []string{
	"<a@a.example>", "<a\x01b@a.example>", "<a<b@a.example>", ">a@a.example", "<>", "a@a.example", "<\"a b\"@a.example>", " <a@a.example> SIZE=2000",
	"<a\x7fb>", "<@x,@y:a@a.example>",
}

// lines is a script being written.
type script struct {
	w   *world
	m   *policy.Map
	ops []op
}

// say adds a line, or several with their number of replies.
func (s *script) say(text string, wait int) {
	s.ops = append(s.ops, op{kind: opSay, text: []byte(text), wait: wait})
}

// honestScript is a session that no lenient map ends.
func (w *world) honestScript(m *policy.Map) []op {
	s := script{w: w, m: m}
	if w.chance(85) {
		s.say("EHLO client.example\r\n", 1)
	} else {
		s.say("HELO client.example\r\n", 1)
	}
	for range w.plan.messages {
		s.chatter()
		if w.chance(10) {
			s.auth()
		}
		s.mail()
	}
	s.chatter()
	switch {
	case w.chance(12):
		s.tls()
	}
	if w.chance(85) {
		s.say("QUIT\r\n", 1)
	}
	s.ops = append(s.ops, op{kind: opClose})
	return s.ops
}

// chatter adds commands that mean little.
func (s *script) chatter() {
	for s.w.chance(35) {
		if s.w.chance(30) {
			s.say(some(s.w, forbidden...)+" x\r\n", 1)
			continue
		}
		s.say(some(s.w, harmlessLines...)+"\r\n", 1)
	}
}

// auth adds an AUTH exchange.
func (s *script) auth() {
	if s.w.chance(30) {
		s.say("AUTH PLAIN AGEAYg==\r\n", 1)
		return
	}
	s.say("AUTH LOGIN\r\n", 1)
	s.ops = append(s.ops, op{kind: opAuth, text: []byte("YQ==\r\n"), wait: 1})
	s.ops = append(s.ops, op{kind: opAuth, text: []byte(some(s.w, "Yg==\r\n", "*\r\n", strings.Repeat("QUJD", 20)+"\r\n")), wait: 1})
}

// tls adds STARTTLS and what follows it.
func (s *script) tls() {
	s.say("STARTTLS\r\n", 1)
	s.ops = append(s.ops, op{kind: opTLS, text: clientHello, wait: 1})
	s.ops = append(s.ops, op{kind: opTLS, text: []byte("\x17\x03\x03\x00\x10XFOO x\r\n.\r\nEXPN\r\n")})
}

// mail adds a transaction.
func (s *script) mail() {
	w := s.w
	commands := []string{"MAIL FROM:" + some(w, badPaths...)}
	for range w.between(1, 4) {
		commands = append(commands, "RCPT TO:"+some(w, "<b@example.com>", "<nobody@example.com>", "<c\x02d@example.com>", "<e<f@example.com>"))
	}
	pipelines := w.chance(50) && s.m.Pipelining.Action != policy.DropConnection
	if !pipelines {
		for _, c := range commands {
			s.say(c+"\r\n", 1)
		}
		commands = nil
	}
	message := w.message()
	all := strings.Join(append(commands, ""), "\r\n")
	o := op{kind: opSay, text: []byte(all + "DATA\r\n"), wait: len(commands) + 1, whole: message}
	if w.chance(60) {
		o.alt, o.altN = w.chunks(message, s.m.Pipelining.Action == policy.DropConnection)
		o.alt, o.altN = append([]byte(all), o.alt...), o.altN+len(commands)
	}
	behind, wait := "", 1
	if pipelines && w.chance(30) && s.m.Pipelining.Action == policy.NoAction {
		behind, wait = "RSET\r\nNOOP\r\n", 3
	}
	s.ops = append(s.ops, o, op{kind: opMessage, text: append(stuff(message), behind...), wait: wait, whole: message})
}

// message makes the octets of a message. Every line ends with CR LF.
func (w *world) message() []byte {
	var b bytes.Buffer
	b.WriteString("From: <a@a.example>\r\nTo: <b@b.example>\r\nSubject: 2020\r\n")
	multipart := w.chance(15)
	if multipart {
		b.WriteString("Content-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain; name=\"a.txt\"\r\n")
	}
	if w.chance(90) {
		b.WriteString("\r\n")
	}
	for b.Len() < w.plan.size {
		b.WriteString(some(w, bodyLines...))
		if w.chance(20) {
			b.WriteString(strings.Repeat("0123456789", w.between(1, 90)))
		}
		if w.chance(5) {
			b.WriteString(some(w, "\n", "\r", "\x00", "\xff\xfe"))
		}
		b.WriteString("x\r\n")
	}
	if multipart {
		b.WriteString("--zz--\r\n")
	}
	if w.chance(20) {
		b.WriteString(some(w, ".\r\n", "..\r\n", ".a\r\n", "\r\n"))
	}
	return b.Bytes()
}

// bodyLines are beginnings of message lines.
var bodyLines = []string{
	"", ".", "..", ".hidden", "EXPN all", "XFOO ", "QUIT ", "354 go", "MAIL FROM:<x|y>", "--", "a", "DATA\r\n", "\r\n", "250 ok\r\n", ".QUIT\r\n",
}

// stuff is the message as DATA carries it.
func stuff(message []byte) []byte {
	var b []byte
	for len(message) > 0 {
		if message[0] == '.' {
			b = append(b, '.')
		}
		end := bytes.Index(message, crlf)
		b = append(b, message[:end+2]...)
		message = message[end+2:]
	}
	return append(b, ".\r\n"...)
}

// chunks is the message as BDAT carries it, and how many replies there will be.
func (w *world) chunks(message []byte, one bool) (text []byte, replies int) {
	rest := message
	for {
		n := len(rest)
		if !one && w.chance(40) && n > 1 {
			n = w.between(1, n)
		}
		last := n == len(rest) && (one || w.chance(80))
		text = fmt.Appendf(text, "BDAT %d%s\r\n", n, [...]string{"", " LAST"}[b2i(last)])
		text = append(text, rest[:n]...)
		replies++
		if rest = rest[n:]; last {
			return text, replies
		}
		if len(rest) == 0 {
			return append(text, "BDAT 0 LAST\r\n"...), replies + 1
		}
	}
}

// b2i is 1 for true.
func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// wickedLines are what a hostile client says.
var wickedLines = []string{
	"MAIL FROM:<a|b>\r\n", "RCPT TO:<b>\nXFOO\r\n", "NOOP\rXFOO\r\n", "DATA\r\nXFOO\r\n", "DATA\r\n.\r\n", "AUTH LOGIN\r\nXFOO\r\n",
	"STARTTLS\r\nXFOO\r\n", "\n.\r\nXFOO\r\n", "\r\n.\nXFOO x\r\n", "\r.\r\n", "\r\n.\r\nXFOO\r\nEXPN\r\n", "BDAT 5\r\nXFOO\r\nXFOO\r\n", "BDAT 0\r\n",
	"BDAT 99 LAST\r\n", "BDAT 4 LAST\r\nEXPN", "EXPN x\r\nDEBUG\r\n", "X", "\x00\r\n", "mail from:<`a`>\r\n", "AUTH PLAIN\r\n", "*\r\n",
	"XEXCH50 5 2\r\n", "X-EXPS LOGIN\r\n", "EHLO x\r\nEHLO y\r\n", "RSET x\r\n", "MAIL FROM:<a> PRDR\r\n", "QUIT\r\nXFOO\r\n",
	"NOOP " + strings.Repeat("y", 600) + "\r\n", "\x16\x03\x01\x00\x05\x01\x00", "TURN\r\n", "XC", "LIENT x\r\n", "DE", "BUG\r\n", "\r", "\n",
}

// wickedScript is a session of a client that wants to harm.
func (w *world) wickedScript(m *policy.Map) []op {
	honest := w.honestScript(m)
	s := script{w: w, m: m}
	for _, o := range honest {
		for w.chance(20) {
			s.say(some(w, wickedLines...), w.rnd.IntN(2))
		}
		if o.kind != opClose && w.chance(15) {
			o.text = w.mangle(o.text)
		}
		if w.chance(20) {
			o.wait = 0
		}
		if o.kind == opMessage && w.chance(40) {
			o.text = append(o.text, some(w, "XFOO x\r\nEXPN\r\n", "DATA\r\nXFOO\r\n", "MAIL FROM:<x|y>\r\n", "RCPT TO:<a\x01b>\r\nNOOP\r\n")...)
		}
		s.ops = append(s.ops, o)
	}
	return s.ops
}

// mangle changes a few octets.
func (w *world) mangle(text []byte) []byte {
	b := append([]byte(nil), text...)
	for range w.between(1, 3) {
		if len(b) > 0 {
			b[w.rnd.IntN(len(b))] = some(w, byte('\r'), '\n', '.', 'X', 0, ' ', '<', '|')
		}
	}
	return b
}
