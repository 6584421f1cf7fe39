package netns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
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
				for _, text := range []line{
					{side: "S", sent: "220 mx20 ESMTP\r\n"},
					{side: "C", sent: "EHLO client.example.org\r\n"},
					{side: "S", sent: "250-mx20\r\n250-STARTTLS\r\n250 XEXCH50\r\n"},
					{side: "C", sent: "XEXCH50 4 2\r\n"},
					{side: "S", sent: "354 go\r\n"},
					{side: "C", sent: "\x00|\r\n"},
					{side: "C", sent: "RCPT TO:<|decode>\r\n"},
				} {
					e.talk(t, line{text.side, text.sent, text.sent})
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

// With allow-tls a handshake passes, and then the connection needs no queue.
func TestLiveTLS(t *testing.T) {
	w := newWall(t, lab.Options{}, policyWith(" parameters\n  allow-tls action log\n match ehlo-reply-parameter others\n  mask"))
	certificate := selfSigned(t)
	for _, f := range families {
		for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name+" "+f.name, func(t *testing.T) {
				e := connect(t, w.Lab, f.server)
				e.talk(t, []line{
					{"S", "220 mx20\r\n", "220 mx20\r\n"},
					{"C", "EHLO client.example.org\r\n", "EHLO client.example.org\r\n"},
					{"S", "250-mx20\r\n250-STARTTLS\r\n250 HELP\r\n", "250-mx20\r\n250-STARTTLS\r\n250 XXXA\r\n"},
					{"C", "STARTTLS\r\n", "STARTTLS\r\n"},
					{"S", "220 go\r\n", "220 go\r\n"},
				}...)
				client := tls.Client(e.client, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
				server := tls.Server(e.server, &tls.Config{Certificates: []tls.Certificate{certificate}})
				shake(t, client, server)
				queued, offloaded := w.queued(t), counter(t, w.Lab, "offloaded")
				long := strings.Repeat("RCPT TO:<|decode>\r\n", 1<<15)
				for _, from := range []*tls.Conn{client, server} {
					to := server
					if from == server {
						to = client
					}
					sent := make(chan struct{})
					go func() { write(t, from, long); close(sent) }()
					want(t, to, long)
					<-sent
				}
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

// shake lets both ends do their part of the handshake.
func shake(t *testing.T, client, server *tls.Conn) {
	t.Helper()
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
