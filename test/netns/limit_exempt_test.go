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
// inspects, another port, and nothing of either comes to the queues but SYNs. The
// two are compared round by round, the first of a round in turn, because rounds
// differ by far more than the two do.
func TestLimitExemptThroughput(t *testing.T) {
	const rounds, size = 30, 1 << 30
	w := newWall(t, withElements(t, "static.nft", limited("tcp 1000 0")), "")
	nft(t, w.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }")
	var ratios []float64
	queued := w.queued(t)
	for round := range rounds {
		var rate [2]float64 // of mail, of another port
		for i := range rate {
			which := (round + i) % 2
			rate[which] = transfer(t, w.Lab, [2]string{"25", "2525"}[which], size)
		}
		t.Logf("exempt %.1f, a port that is not inspected %.1f Gbit/s", rate[0], rate[1])
		ratios = append(ratios, rate[0]/rate[1])
	}
	if n := w.queued(t) - queued; n != 2*rounds {
		t.Errorf("%d packets of %d connections came to the queues, want their SYNs", n, 2*rounds)
	}
	slices.Sort(ratios)
	ratio := (ratios[rounds/2-1] + ratios[rounds/2]) / 2
	t.Logf("the median ratio is %.2f, of %.2f", ratio, ratios)
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
