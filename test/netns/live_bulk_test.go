package netns

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// The sizes of TestLiveBulk.
const (
	bulkMessage = 20 << 20 // bytes
	bulkReply   = 1 << 20  // bytes, sixteen times what the ledger of replies keeps
	segment     = 1448     // bytes of payload in a segment of these links: 1500 less headers with timestamps
)

// A message of 20 MB, a long reply and a long burst of commands that are masked
// arrive as they should, in packets far longer than the link takes.
func TestLiveBulk(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	text := message(bulkMessage)
	long := []byte(strings.Repeat("214-"+strings.Repeat("h", 70)+"\r\n", bulkReply/76) + "214 end\r\n")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			e := w.started(t, f.server)
			e.talk(t, line{"C", "HELP\r\n", "HELP\r\n"})
			// With one segment to a packet there would be as many packets, and
			// ACKs. A slow machine acknowledges often.
			w.stream(t, e, "S", long, long, len(long)/segment/2)
			e.talk(t, mail[:6]...)
			w.stream(t, e, "C", text, text, len(text)/segment/2)
			e.talk(t, mail[7]) // queued
			// Fewer packets than segments: some were longer. The window is open
			// by now.
			w.stream(t, e, "C", burst("XFOO"), burst("XXXX"), len(burst("XFOO"))/segment)
			all := strings.Repeat("500 5.5.2 what\r\n", 150)
			e.talk(t, line{"S", all, all})
			e.talk(t, quit...)
			e.finish(t)
			w.awaitRecord(t, e.address(), "teardown TCP FINs")
		})
	}
	w.checkCounts(t, counts{"mask-banner": 2, "unknown-command": 300, "match ehlo-reply-parameter others": 6})
}

// A server that stops reading stops the client; when it reads on, everything
// arrives.
func TestLiveStall(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	text := message(bulkMessage)
	e := w.started(t, lab.ServerIP4)
	e.talk(t, mail[:6]...)
	if err := e.client.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := e.client.Write(text)
	if !os.IsTimeout(err) {
		t.Fatalf("the server reads nothing and the client wrote %d bytes, error %v; want a timeout", n, err)
	}
	w.stream(t, e, "C", text[n:], text, anyNumber)
	e.talk(t, mail[7])
	e.talk(t, quit...)
	e.finish(t)
	w.checkCounts(t, counts{"mask-banner": 1, "match ehlo-reply-parameter others": 3})
}

// message is a message in its transfer form, of about so many bytes: lines of
// base64, some of them behind a stuffed dot. It is the same every time.
func message(size int) []byte {
	random := make([]byte, size/78*57)
	if _, err := rand.NewChaCha8([32]byte{}).Read(random); err != nil {
		panic(err) // it never fails
	}
	var b bytes.Buffer
	b.WriteString("Subject: bulk\r\n\r\n")
	for i := 0; i < len(random); i += 57 {
		if random[i] == 0 {
			b.WriteString("..\r\n")
		}
		b.WriteString(base64.StdEncoding.EncodeToString(random[i:i+57]) + "\r\n")
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

// burst is 150 commands of 400 bytes that may not pass, or with XXXX what
// arrives of them: as much as a packet takes.
func burst(word string) []byte {
	text := " and so on"
	if word == "XXXX" {
		text = strings.Repeat("X", len(text))
	}
	one := word + strings.Repeat(text, 39) + strings.Repeat(text[:1], 4) + "\r\n"
	return []byte(strings.Repeat(one, 150))
}

// anyNumber of packets may carry a stream.
const anyNumber = math.MaxInt

// stream writes sent on a side, compares the hash of what arrives with that of
// arrives, and checks that it came through the queue in fewer packets than most.
func (w *wall) stream(t *testing.T, e ends, side string, sent, arrives []byte, most int) {
	t.Helper()
	near, far := e.of(t, side)
	deadline := time.Now().Add(2 * liveTimeout)
	if err := near.SetWriteDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if err := far.SetReadDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	before := w.queued(t)
	written := make(chan error, 1)
	go func() { _, err := near.Write(sent); written <- err }()
	hash := sha256.New()
	if n, err := io.CopyN(hash, far, int64(len(arrives))); err != nil {
		t.Fatalf("%d of %d bytes arrived: %v", n, len(arrives), err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(arrives); !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Errorf("what arrived of %d bytes is not what should", len(sent))
	}
	if n := w.queued(t) - before; n >= uint64(most) {
		t.Errorf("%d packets came to the queue for %d bytes, want less than %d: were there no GSO packets?", n, len(sent), most)
	}
}
