package netns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// What exempt hosts send and get is not changed, and no packet of it comes to
// the daemon.
func TestLiveExempt(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		for _, host := range []string{f.client, f.server} {
			t.Run(host, func(t *testing.T) {
				nft(t, w.Lab, "add element inet smtpwall "+f.exempt+" { "+host+" }")
				queued, packets, exempt := w.queued(t), w.show(t)["packet"], counter(t, w.Lab, "exempt")
				e := connect(t, w.Lab, f.server)
				for _, turn := range []struct{ side, text string }{
					{"S", "220 mx20 ESMTP\r\n"},
					{"C", "EHLO client.example.org\r\n"},
					{"S", "250-mx20\r\n250-STARTTLS\r\n250 XEXCH50\r\n"},
					{"C", "XEXCH50 4 2\r\n"},
					{"S", "354 go\r\n"},
					{"C", "\x00|\r\n"},
					{"C", "RCPT TO:<|decode>\r\n"},
				} {
					e.talk(t, line{turn.side, turn.text, turn.text})
				}
				e.finish(t)
				if n := w.queued(t) - queued; n > 0 {
					t.Errorf("%d packets came to the queue", n)
				}
				if n := w.show(t)["packet"] - packets; n > 0 {
					t.Errorf("%d packets were inspected", n)
				}
				if n := counter(t, w.Lab, "exempt") - exempt; n < 12 { // 3 of the handshake, 7 lines, 2 FINs
					t.Errorf("counter exempt grew by %d", n)
				}
				nft(t, w.Lab, "flush set inet smtpwall "+f.exempt)
			})
		}
	}
	if all := w.allRecords(t); len(all) > 0 {
		t.Errorf("%d audit records of exempt hosts, the first: %s", len(all), all[0])
	}
	w.started(t, lab.ServerIP4) // nobody is exempt any more
	w.started(t, lab.ServerIP6)
}

// tlsPolicy lets STARTTLS pass.
var tlsPolicy = policyWith(" parameters\n  allow-tls action log\n match ehlo-reply-parameter others\n  mask")

// startTLS is a session up to the handshake, under tlsPolicy.
var startTLS = []line{
	{"S", "220 mx20\r\n", "220 mx20\r\n"},
	{"C", "EHLO client.example.org\r\n", "EHLO client.example.org\r\n"},
	{"S", "250-mx20\r\n250-STARTTLS\r\n250 HELP\r\n", "250-mx20\r\n250-STARTTLS\r\n250 XXXA\r\n"},
	{"C", "STARTTLS\r\n", "STARTTLS\r\n"},
	{"S", "220 go\r\n", "220 go\r\n"},
}

// With allow-tls a handshake passes, and then the connection needs no queue.
func TestLiveTLS(t *testing.T) {
	w := newWall(t, lab.Options{}, tlsPolicy)
	certificate := selfSigned(t)
	long := strings.Repeat("RCPT TO:<|decode>\r\n", 1<<15)
	for _, f := range families {
		for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name+" "+f.name, func(t *testing.T) {
				e := connect(t, w.Lab, f.server)
				e.talk(t, startTLS...)
				client, server := shake(t, e, certificate, version)
				queued, offloaded := w.queued(t), counter(t, w.Lab, "offloaded")
				pass(t, client, server, long)
				pass(t, server, client, long)
				if n := w.queued(t) - queued; n > 0 {
					t.Errorf("%d packets came to the queue after the handshake", n)
				}
				if n := counter(t, w.Lab, "offloaded") - offloaded; n < 2*uint64(len(long))/(64<<10) {
					t.Errorf("counter offloaded grew by %d only", n)
				}
				w.checkRecords(t, e.address(), "built", "tls-started")
			})
		}
	}
	w.checkCounts(t, counts{"allow-tls action log": 4, "match ehlo-reply-parameter others": 4})
}

// pass writes text on one end and reads it on the other at the same time.
func pass(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	written := make(chan error, 1)
	go func() { _, err := io.WriteString(from, text); written <- err }()
	want(t, to, text)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

// A connection from an address and port whose last connection was not judged to
// its end, or was ended, is judged anew.
func TestLivePortReuse(t *testing.T) {
	w := newWall(t, lab.Options{}, tlsPolicy)
	certificate := selfSigned(t)
	port := 3000
	for _, f := range families {
		for _, c := range []struct {
			name string
			end  func(*testing.T, ends)
		}{
			{"abandoned", func(*testing.T, ends) {}},
			{"dropped", func(t *testing.T, e ends) {
				write(t, e.client, "RCPT TO:<|decode>\r\n")
				eventually(t, "the conntrack entry is gone", func() bool { return !w.tracked(t, e.address()) })
			}},
			{"encrypted", func(t *testing.T, e ends) { shake(t, e, certificate, tls.VersionTLS13) }},
		} {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				port++
				e := connectFrom(t, w.Lab, port, f.server)
				e.talk(t, startTLS[:3]...)
				if c.name == "encrypted" {
					e.talk(t, startTLS[3:]...)
				}
				c.end(t, e)
				abort(t, e.client) // the port is free
				if w.tracked(t, e.address()) {
					wantError(t, e.server, syscall.ECONNRESET)
				} else { // the reset did not pass
					abort(t, e.server)
				}
				e = connectFrom(t, w.Lab, port, f.server)
				e.talk(t, startTLS[:3]...)
				e.talk(t, line{"C", "XCLIENT ADDR=1\r\n", "XXXXXXXXXXXXXX\r\n"})
			})
		}
	}
	w.checkCounts(t, counts{"unknown-command": 6, "address-pipe": 2, "allow-tls action log": 2, "match ehlo-reply-parameter others": 12})
}

// abort ends a connection with a reset.
func abort(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	if err := errors.Join(conn.SetLinger(0), conn.Close()); err != nil {
		t.Fatal(err)
	}
}

// shake lets both ends do their part of a handshake.
func shake(t *testing.T, e ends, certificate tls.Certificate, version uint16) (client, server *tls.Conn) {
	t.Helper()
	client = tls.Client(e.client, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	server = tls.Server(e.server, &tls.Config{Certificates: []tls.Certificate{certificate}})
	done := make(chan error, 1)
	for _, c := range []*tls.Conn{client, server} {
		if err := c.SetDeadline(time.Now().Add(liveTimeout)); err != nil {
			t.Fatal(err)
		}
	}
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatalf("the client's handshake: %v", err)
	}
	if err := <-done; err != nil {
		t.Fatalf("the server's handshake: %v", err)
	}
	return client, server
}

// selfSigned makes a certificate.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
