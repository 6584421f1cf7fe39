package sim

import (
	"bytes"
	"strconv"
	"time"
)

// serverMode is how a server reads the client's octets.
type serverMode uint8

const (
	serverCommands serverMode = iota
	serverData
	serverChunk
	serverAuth
	serverTLS
)

// server is an SMTP server: strict about line ends, and without patience for
// what it does not know.
type server struct {
	w    *world
	host *endpoint
	mode serverMode
	read int // position in the client's octets

	banner   []byte
	features [][]byte // lines of the EHLO reply
	think    int      // percent of commands that take long
	wicked   bool     // it says what it likes
	message  []byte   // in progress
	mail     bool     // a MAIL was accepted
	rcpts    int
	left     int  // serverChunk: octets to come; serverTLS: octets that have come
	last     bool // serverChunk: LAST
	asked    int  // serverAuth: challenges sent
	quit     bool
	helloed  bool // serverTLS: its ServerHello is out
	greeted  bool
	answer   []byte // a reply that is not written yet
	messages [][]byte
}

// wake greets, or writes the reply that took long.
func (s *server) wake() {
	if !s.greeted {
		s.greeted = true
		s.say(s.banner)
		return
	}
	s.host.write(s.answer)
	s.answer = s.answer[:0]
	s.afterReply()
	s.readable()
}

// readable reads commands and octets and answers them.
func (s *server) readable() {
	h := s.host
	for len(s.answer) == 0 && !s.quit && s.read < h.read && s.take() {
	}
	if h.eof && h.read == h.in.next && len(s.answer) == 0 {
		h.close()
	}
}

// take reads the next unit of what has come; false if it is not whole yet.
func (s *server) take() bool {
	text := s.host.in.data[s.read:s.host.read]
	switch s.mode {
	case serverTLS:
		s.read, s.left = s.read+len(text), s.left+len(text)
		if !s.helloed && s.left >= len(clientHello) {
			s.helloed = true
			s.host.write(serverHello)
		}
		return true
	case serverChunk:
		n := min(len(text), s.left)
		s.message = append(s.message, text[:n]...)
		s.read, s.left = s.read+n, s.left-n
		if s.left == 0 {
			s.endChunk()
		}
		return true
	}
	end := bytes.Index(text, crlf)
	if end < 0 {
		return false
	}
	s.read += end + 2
	switch s.mode {
	case serverData:
		s.dataLine(text[:end+2])
	case serverAuth:
		s.authLine(text[:end])
	default:
		s.command(text[:end])
	}
	return true
}

var crlf = []byte("\r\n")

// dataLine takes a line of a message.
func (s *server) dataLine(line []byte) {
	switch {
	case string(line) == ".\r\n":
		s.mode = serverCommands
		s.endMessage("250 queued as 2020\r\n")
	case line[0] == '.':
		s.message = append(s.message, line[1:]...)
	default:
		s.message = append(s.message, line...)
	}
}

// endMessage keeps a message and answers it.
func (s *server) endMessage(reply string) {
	s.messages = append(s.messages, append([]byte(nil), s.message...))
	s.message, s.mail, s.rcpts = s.message[:0], false, 0
	s.reply(reply)
}

// endChunk answers a chunk.
func (s *server) endChunk() {
	s.mode = serverCommands
	if s.last {
		s.endMessage("250 queued as 2002\r\n")
		return
	}
	s.reply("250 octets received\r\n")
}

// authLine takes a line of an AUTH exchange.
func (s *server) authLine(line []byte) {
	s.asked++
	switch {
	case string(line) == "*":
		s.mode = serverCommands
		s.reply("501 cancelled\r\n")
	case s.asked < 2:
		s.reply("334 UGFzc3dvcmQ6\r\n")
	default:
		s.mode = serverCommands
		s.reply("235 welcome\r\n")
	}
}

// command answers a command line.
func (s *server) command(line []byte) {
	end := 0
	for end < len(line) && line[end] != ' ' && line[end] != '\t' {
		end++
	}
	word, argument := string(bytes.ToUpper(line[:end])), bytes.ToUpper(bytes.TrimSpace(line[end:]))
	s.w.heard(s, word, line)
	if s.wicked && s.w.chance(25) {
		s.reply(some(s.w, wickedReplies...))
		return
	}
	switch word {
	case "EHLO":
		s.reply(s.ehlo())
	case "HELO":
		s.reply("250 mail.example\r\n")
	case "MAIL":
		s.mail, s.rcpts = true, 0
		s.reply("250 sender ok\r\n")
	case "RCPT":
		s.rcpt(argument)
	case "DATA":
		s.data(argument)
	case "BDAT":
		s.bdat(argument)
	case "AUTH":
		s.auth(argument)
	case "STARTTLS":
		s.mode, s.left = serverTLS, 0
		s.reply("220 go ahead\r\n")
	case "RSET":
		s.mail, s.rcpts, s.message = false, 0, s.message[:0]
		s.reply("250 ok\r\n")
	case "NOOP", "XONE":
		s.reply("250 ok\r\n")
	case "HELP":
		s.reply("214-this is a server\r\n214 try RFC 5321\r\n")
	case "VRFY", "ETRN":
		s.reply("252 who knows\r\n")
	case "QUIT":
		s.quit = true
		s.reply("221 bye\r\n")
	default:
		s.reply("500 what?\r\n")
	}
}

// ehlo is the reply to EHLO.
func (s *server) ehlo() string {
	var b bytes.Buffer
	b.WriteString("250-mail.example\r\n")
	for i, f := range s.features {
		b.WriteString("250")
		b.WriteByte("- "[i/(len(s.features)-1)])
		b.Write(f)
		b.Write(crlf)
	}
	return b.String()
}

func (s *server) rcpt(argument []byte) {
	switch {
	case !s.mail:
		s.reply("503 MAIL first\r\n")
	case bytes.Contains(argument, []byte("NOBODY")):
		s.reply("550 no such user\r\n")
	default:
		s.rcpts++
		s.reply("250 recipient ok\r\n")
	}
}

func (s *server) data(argument []byte) {
	switch {
	case len(argument) > 0:
		s.reply("501 no argument\r\n")
	case s.rcpts == 0:
		s.reply("503 no recipient\r\n")
	default:
		s.mode = serverData
		s.reply("354 go ahead\r\n")
	}
}

func (s *server) bdat(argument []byte) {
	count, last := bytes.CutSuffix(argument, []byte(" LAST"))
	n, err := strconv.Atoi(string(count))
	if err != nil || n < 0 || n > maxStream {
		s.reply("501 how many?\r\n")
		return
	}
	s.mode, s.left, s.last = serverChunk, n, last
	if n == 0 {
		s.endChunk()
	}
}

func (s *server) auth(argument []byte) {
	if bytes.Contains(argument, []byte(" ")) {
		s.reply("235 welcome\r\n")
		return
	}
	s.mode, s.asked = serverAuth, 0
	s.reply("334 VXNlcm5hbWU6\r\n")
}

// reply says text, now or when it has thought about it.
func (s *server) reply(text string) {
	if s.wicked && s.w.chance(10) {
		text = s.spoil(text)
	}
	if !s.w.chance(s.think) {
		s.say([]byte(text))
		s.afterReply()
		return
	}
	s.answer = append(s.answer[:0], text...)
	d := time.Duration(s.w.between(1, 300)) * time.Millisecond
	if s.w.chance(5) {
		d = time.Duration(s.w.between(3000, 7000)) * time.Millisecond // longer than a packet is held
	}
	s.host.arm(timerApp, d)
}

// say writes text, sometimes in two pieces.
func (s *server) say(text []byte) {
	if len(text) > 1 && s.w.chance(10) {
		n := s.w.between(1, len(text)-1)
		s.host.write(text[:n])
		text = text[n:]
	}
	s.host.write(text)
}

// afterReply closes behind the 221.
func (s *server) afterReply() {
	if s.quit {
		s.host.close()
	}
}

// spoil makes a reply that no honest server gives.
func (s *server) spoil(text string) string {
	switch s.w.rnd.IntN(5) {
	case 0:
		return text + some(s.w, wickedReplies...)
	case 1:
		return text[:len(text)-2] + "\n"
	case 2:
		return "250-" + text
	case 3:
		return text[s.w.rnd.IntN(len(text)):]
	}
	return text + text
}

// wickedReplies are what a hostile server says out of turn.
var wickedReplies = []string{
	"354 go\r\n", "334 \r\n", "220 2020 XSECRET\r\n", "250-a\r\n250-XSECRET\r\n250 STARTTLS\r\n", "250 ok\n",
	"421 closing\r\n", "\r\n", "250", "250-x\r\n354 y\r\n", "999 ?\r\n", "garbage\r\n", "535 no\r\n", "250-\r\n",
}
