package goodput

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// The kinds take turns, the runs of a round have its number, and the middle run
// counts, not the mean.
func TestCompare(t *testing.T) {
	values := [numKinds][Runs]float64{
		Inspected: {9, 90, 8, 7, 10},
		Queued:    {1, 2, 3, 4, 5},
		Exempt:    {12, 11, 10, 9, 0},
	}
	var order strings.Builder
	now := numKinds
	c := Compare(t, func(_ *testing.T, k Kind) { now = k }, func(t *testing.T, k Kind, run int) float64 {
		order.WriteString(k.String()[:1])
		if k != now {
			t.Errorf("%s is measured as %s", now, k)
		}
		return values[now][run]
	})
	if want := strings.Repeat("iqe", Runs); order.String() != want {
		t.Errorf("order %s, want %s", &order, want)
	}
	for k, want := range [numKinds]float64{Inspected: 9, Queued: 3, Exempt: 10} {
		if got := c.Median(Kind(k)); got != want {
			t.Errorf("median of %s is %v, want %v", Kind(k), got, want)
		}
	}
	if got := c.Ratio(); got != 0.9 {
		t.Errorf("ratio %v, want 0.9", got)
	}
	if got := c.Added(); got != -1 {
		t.Errorf("added %v, want -1", got)
	}
}

// A message has its size, no line of it begins with a dot but the last, and the
// server takes it whole and answers.
func TestSink(t *testing.T) {
	const size = 100_000
	text := Message(size)
	if len(text) < size || len(text) > size+100 {
		t.Errorf("the message has %d octets, want %d and a line at most", len(text), size)
	}
	if at := strings.Index(text, "\n."); at != len(text)-len("\n.\r\n") {
		t.Errorf("the first line with a dot is at %d of %d", at, len(text))
	}
	client, server := net.Pipe()
	go sink(server)
	defer client.Close()
	s := &Session{conn: client, replies: bufio.NewReader(client)}
	s.greet(t)
	if rate := s.Mail(t, text); rate <= 0 {
		t.Errorf("rate %v", rate)
	}
	if each := s.NOOPs(t, 3); each <= 0 {
		t.Errorf("%v ms for a NOOP", each)
	}
}
