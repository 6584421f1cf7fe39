package goodput

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// What a session sends.
const (
	MailSize  = 20 << 20 // octets of the message
	NOOPCount = 200      // round trips
)

// patience is how long a client waits for the reply to a command or a message.
const patience = 10 * time.Minute

// Session is a client's side of a connection.
type Session struct {
	conn    net.Conn
	replies *bufio.Reader
}

// NewSession takes the greeting and says EHLO. The connection belongs to the
// session.
func NewSession(t *testing.T, conn net.Conn) *Session {
	t.Helper()
	s := &Session{conn, bufio.NewReader(conn)}
	s.greet(t)
	return s
}

// greet begins the dialogue.
func (s *Session) greet(t *testing.T) {
	t.Helper()
	s.reply(t, "220")
	s.command(t, "EHLO client.example.org\r\n", "250")
}

// Mail sends a message in its transfer form and returns its goodput in KiB/s,
// from the first octet of the text to the reply to the last.
func (s *Session) Mail(t *testing.T, text string) float64 {
	t.Helper()
	s.command(t, "MAIL FROM:<a@example.org>\r\n", "250")
	s.command(t, "RCPT TO:<b@example.net>\r\n", "250")
	s.command(t, "DATA\r\n", "354")
	start := time.Now()
	s.command(t, text, "250")
	return float64(len(text)) / 1024 / time.Since(start).Seconds()
}

// NOOPs waits for the reply to each of n commands and returns the milliseconds
// that one took.
func (s *Session) NOOPs(t *testing.T, n int) float64 {
	t.Helper()
	start := time.Now()
	for range n {
		s.command(t, "NOOP\r\n", "250")
	}
	return time.Since(start).Seconds() * 1000 / float64(n)
}

// command sends text and takes a reply of one line, of the code given.
func (s *Session) command(t *testing.T, text, code string) {
	t.Helper()
	s.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s.conn, text); err != nil {
		t.Fatal(err)
	}
	s.reply(t, code)
}

// reply takes a reply of one line.
func (s *Session) reply(t *testing.T, code string) {
	t.Helper()
	s.conn.SetReadDeadline(time.Now().Add(patience))
	reply, err := s.replies.ReadString('\n')
	if err != nil || !strings.HasPrefix(reply, code) {
		t.Fatalf("reply %q, error %v; want %s", reply, err, code)
	}
}

// Close ends the session at once.
func (s *Session) Close() { s.conn.Close() }

// Message is a message of some octets in its transfer form. No line of it
// begins with a dot but the last.
func Message(size int) string {
	var b bytes.Buffer
	b.WriteString("Subject: goodput\r\n\r\n")
	for b.Len() < size {
		b.WriteString("The quick brown fox jumps over the lazy dog, and the lazy dog does not care.\r\n")
	}
	b.WriteString(".\r\n")
	return b.String()
}

// Serve answers every command and takes every mail, until the listener closes.
func Serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go sink(conn)
	}
}

// sink is the server's side of a connection.
func sink(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 1<<16)
	fmt.Fprint(conn, "220 sink\r\n")
	data := false
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case data && string(line) == ".\r\n":
			data = false
			fmt.Fprint(conn, "250 taken\r\n")
		case data:
		case string(line) == "DATA\r\n":
			data = true
			fmt.Fprint(conn, "354 go\r\n")
		default:
			fmt.Fprint(conn, "250 ok\r\n")
		}
	}
}
