package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"sync"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// mailTimeout bounds everything that the lab's client waits for.
const mailTimeout = 10 * time.Second

// mailServer is a go-smtp server on the lab's server that keeps what it got.
type mailServer struct {
	server *gosmtp.Server

	mu       sync.Mutex
	conns    map[uint16]*wiretap // by the client's port
	messages [][]byte
}

// wiretap keeps the bytes of a connection as one end sees them.
type wiretap struct {
	net.Conn
	mu       sync.Mutex
	in, out  []byte
	onChange func(out bool, b []byte)
}

func (w *wiretap) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.note(false, b[:n])
	return n, err
}

func (w *wiretap) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.note(true, b[:n])
	return n, err
}

func (w *wiretap) note(out bool, b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if out {
		w.out = append(w.out, b...)
	} else {
		w.in = append(w.in, b...)
	}
	if w.onChange != nil && len(b) > 0 {
		w.onChange(out, b)
	}
}

// bytes returns copies of what came in and what went out.
func (w *wiretap) bytes() (in, out []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.in), bytes.Clone(w.out)
}

// tapListener taps every connection it accepts.
type tapListener struct {
	net.Listener
	tap func(*wiretap)
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w := &wiretap{Conn: c}
	l.tap(w)
	return w, nil
}

// NewSession is called by go-smtp.
func (m *mailServer) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return &mailSession{m}, nil }

// mailSession takes any message.
type mailSession struct{ server *mailServer }

// Reset, Logout, Mail, Rcpt and Data are called by go-smtp.
func (*mailSession) Reset()                                 {}
func (*mailSession) Logout() error                          { return nil }
func (*mailSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (*mailSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }

func (s *mailSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.server.mu.Lock()
	s.server.messages = append(s.server.messages, b)
	s.server.mu.Unlock()
	return err
}

// startServer runs the mail server on the lab's server.
func startServer(l *lab.Lab) (*mailServer, error) {
	ln, err := l.Listen(lab.Server, net.JoinHostPort(lab.ServerIP4, "25"))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	cert, err := selfSigned()
	if err != nil {
		return nil, err
	}
	m := &mailServer{conns: make(map[uint16]*wiretap)}
	m.server = gosmtp.NewServer(m)
	m.server.Domain = "mail2.example.net"
	m.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	m.server.ErrorLog = discardLog{}
	go m.server.Serve(tapListener{ln, func(w *wiretap) {
		m.mu.Lock()
		m.conns[w.RemoteAddr().(*net.TCPAddr).AddrPort().Port()] = w
		m.mu.Unlock()
	}})
	return m, nil
}

// discardLog takes go-smtp's messages: a session that the firewall ends is no
// error of the lab.
type discardLog struct{}

func (discardLog) Printf(string, ...any) {}
func (discardLog) Println(...any)        {}

// selfSigned makes a certificate, so that the server offers STARTTLS.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// mail lets the client speak and returns what each session was like.
func (d *demo) mail() (sessions []*labSession, err error) {
	server, err := startServer(d.lab)
	if err != nil {
		return nil, err
	}
	defer server.server.Close()
	for _, play := range []struct {
		title, from string
		talk        func(*labSession) error
	}{
		{"a session with commands that may not pass", lab.ClientIP4, forbidden},
		{"a mail, delivered unharmed", lab.ClientIP4, server.deliver},
		{"a pipe in an address", lab.ClientIP4, pipe},
		{"the exempt host " + exemptAddress, exemptAddress, exempt},
	} {
		s, err := d.session(play.title, play.from)
		if err != nil {
			return nil, err
		}
		if err := play.talk(s); err != nil {
			return nil, fmt.Errorf("%s: %w", play.title, err)
		}
		s.conn.Close()
		server.mu.Lock()
		s.server = server.conns[s.port]
		server.mu.Unlock()
		sessions = append(sessions, s)
	}
	return sessions, nil
}

// session connects from an address of the client.
func (d *demo) session(title, from string) (*labSession, error) {
	if out, err := d.lab.Command(lab.Client, "ip", "addr", "replace", from+"/24", "dev", lab.Outside).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add address %s: %w: %s", from, err, out)
	}
	s := &labSession{title: title}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: mailTimeout}
	err := d.lab.Do(lab.Client, func() error {
		c, err := dialer.DialContext(context.Background(), "tcp4", net.JoinHostPort(lab.ServerIP4, "25"))
		if err != nil {
			return err
		}
		c.SetDeadline(time.Now().Add(mailTimeout))
		s.conn = &wiretap{Conn: c, onChange: s.say}
		s.port = c.LocalAddr().(*net.TCPAddr).AddrPort().Port()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", from, err)
	}
	return s, nil
}

// converse sends each line and reads the reply to it; the greeting comes first.
// It returns the first error of the connection.
func converse(s *labSession, lines ...string) error {
	c := textproto.NewConn(s.conn)
	if _, _, err := c.ReadResponse(0); err != nil {
		return err
	}
	for _, line := range lines {
		if err := c.PrintfLine("%s", line); err != nil {
			return err
		}
		if _, _, err := c.ReadResponse(0); err != nil {
			var reply *textproto.Error
			if !errors.As(err, &reply) {
				return err
			}
		}
	}
	return nil
}

func forbidden(s *labSession) error {
	return converse(s, "EHLO client.example.org", "STARTTLS", "TURN", "XCLIENT ADDR=10.0.0.1", "MAIL FROM:<a<b@example.org>", "QUIT")
}

// deliver sends a mail with the standard library's client and compares what the
// server has got.
func (m *mailServer) deliver(s *labSession) error {
	c, err := smtp.NewClient(s.conn, "mail2.example.net")
	if err != nil {
		return err
	}
	body := "Subject: hello\r\n\r\n" + strings.Repeat("unharmed | <line>\r\n", 3)
	if err := c.Hello("client.example.org"); err != nil {
		return err
	}
	if err := c.Mail("alice@example.org"); err != nil {
		return err
	}
	if err := c.Rcpt("bob@example.net"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	io.WriteString(w, body)
	if err := w.Close(); err != nil {
		return err
	}
	if err := c.Quit(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.messages[len(m.messages)-1]
	if sha256.Sum256(got) != sha256.Sum256([]byte(body)) {
		return fmt.Errorf("the message arrived as %q", got)
	}
	return nil
}

// pipe expects that the session ends without a reply.
func pipe(s *labSession) error {
	s.conn.SetDeadline(time.Now().Add(time.Second))
	err := converse(s, "EHLO client.example.org", "MAIL FROM:<alice@example.org>", "RCPT TO:<|/usr/bin/decode@example.net>")
	if err == nil {
		return errors.New("the session went on")
	}
	return nil
}

// exempt expects that nothing is changed.
func exempt(s *labSession) error {
	return converse(s, "EHLO gateway.example.org", "XCLIENT ADDR=10.0.0.1", "QUIT")
}
