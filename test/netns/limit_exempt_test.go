//go:build synflood

package netns

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// Mail of an exempt host behind limits is as fast as what the same firewall never
// inspects, another port, and nothing of either comes to the queues but SYNs:
// medians of rounds in turn.
func TestLimitExemptThroughput(t *testing.T) {
	const rounds, size = 7, 1 << 30
	w := newWall(t, withElements(t, "static.nft", limited("tcp 1000 0")), "")
	nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }")
	var exempt, other []float64
	queued := w.queued(t)
	for range rounds {
		exempt = append(exempt, transfer(t, w.Lab, "25", size))
		other = append(other, transfer(t, w.Lab, "2525", size))
	}
	if n := w.queued(t) - queued; n != 2*rounds {
		t.Errorf("%d packets of %d connections came to the queues, want their SYNs", n, 2*rounds)
	}
	slices.Sort(exempt)
	slices.Sort(other)
	ratio := exempt[rounds/2] / other[rounds/2]
	t.Logf("exempt %.1f, a port that is not inspected %.1f Gbit/s: ratio %.2f (%.1f, %.1f)", exempt[rounds/2], other[rounds/2], ratio, exempt, other)
	if ratio < 0.9 {
		t.Errorf("mail of an exempt host has %.2f of the throughput of another port", ratio)
	}
}

// transfer sends octets from the client to a port of the server and returns Gbit/s.
func transfer(t *testing.T, l *lab.Lab, port string, size int64) float64 {
	t.Helper()
	ln, err := l.Listen(lab.Server, lab.ServerIP4+":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	received := make(chan int64, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			received <- 0
			return
		}
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	}()
	conn, err := l.Dial(lab.Client, net.JoinHostPort(globalIP4, port), liveTimeout)
	if err != nil {
		t.Fatal(err)
	}
	start, block := time.Now(), make([]byte, 256<<10)
	for sent := int64(0); sent < size; sent += int64(len(block)) {
		if _, err := conn.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if n := <-received; n != size {
		t.Fatalf("%d octets arrived, want %d", n, size)
	}
	return float64(size) * 8 / 1e9 / time.Since(start).Seconds()
}
