package netns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// loss is a rule for an end host that drops the first segment, and no other, to
// or from port 25 whose payload begins with eight bytes; a second rule counts
// what begins with eight others. Both expect a TCP header with timestamps.
func loss(port, lost, forbidden string) string {
	return `table inet loss {
	counter lost { }
	counter again { }
	counter forbidden { }
	chain input {
		type filter hook input priority filter; policy accept;
		tcp ` + port + ` 25 @th,256,64 ` + hex8(forbidden) + ` counter name forbidden
		tcp ` + port + ` 25 @th,256,64 ` + hex8(lost) + ` numgen inc mod 65536 == 0 counter name lost drop
		tcp ` + port + ` 25 @th,256,64 ` + hex8(lost) + ` counter name again
	}
}`
}

// hex8 writes the first eight bytes of text as nft reads a number.
func hex8(text string) string { return fmt.Sprintf("0x%x", text[:8]) }

// A masked segment that is lost behind the firewall is sent again by an end that
// knows nothing of masks: what arrives is masked all the same.
func TestLiveRetransmission(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	for _, f := range families {
		t.Run("greeting "+f.name, func(t *testing.T) {
			lose(t, w.Lab, lab.Client, loss("sport", "220 **20", "220 mx20"))
			connect(t, w.Lab, f.server).talk(t, hello...)
			checkLoss(t, w.Lab, lab.Client)
		})
		t.Run("command "+f.name, func(t *testing.T) {
			lose(t, w.Lab, lab.Server, loss("dport", "XXXXXXXX", "XCLIENT "))
			e := connect(t, w.Lab, f.server)
			e.talk(t, hello...)
			// Lines of one segment and of another: the kernel may send them
			// again in one.
			write(t, e.client, "XCLIENT ADDR=1\r\n")
			write(t, e.client, "NOOP\r\nVERB ON\r\n")
			want(t, e.server, "XXXXXXXXXXXXXX\r\nNOOP\r\nXXXXXXX\r\n")
			e.talk(t, line{"S", "500 a\r\n250 b\r\n500 c\r\n", "500 a\r\n250 b\r\n500 c\r\n"})
			checkLoss(t, w.Lab, lab.Server)
		})
	}
	// NOOP ends a group of RFC 2920: VERB behind it did not wait.
	w.checkCounts(t, counts{"mask-banner": 4, "unknown-command": 4, "pipelining allow log": 2, "match ehlo-reply-parameter others": 12})
}

// lose loads the table of a loss on a host, in the place of an earlier one.
func lose(t *testing.T, l *lab.Lab, on lab.Host, table string) {
	t.Helper()
	cmd := l.Command(on, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet loss\ndelete table inet loss\n" + table)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("load %s on %s: %v: %s", table, on, err, out)
	}
}

// lossCounter reads a counter of the table of a loss.
func lossCounter(t *testing.T, l *lab.Lab, on lab.Host, name string) int {
	t.Helper()
	out, err := l.Command(on, "nft", "list", "counters", "table", "inet", "loss").CombinedOutput()
	if err != nil {
		t.Fatalf("list counters: %v: %s", err, out)
	}
	_, value, _ := strings.Cut(string(out), "counter "+name+" {")
	var packets int
	if _, err := fmt.Sscanf(strings.TrimSpace(value), "packets %d", &packets); err != nil {
		t.Fatalf("no counter %s in %s", name, out)
	}
	return packets
}

// checkLoss fails unless the first copy was lost, another came, and none showed
// what was masked.
func checkLoss(t *testing.T, l *lab.Lab, on lab.Host) {
	t.Helper()
	lost, again, forbidden := lossCounter(t, l, on, "lost"), lossCounter(t, l, on, "again"), lossCounter(t, l, on, "forbidden")
	if lost != 1 || again == 0 || forbidden > 0 {
		t.Errorf("%d segments were lost (want 1), %d came again, %d unmasked (want 0)", lost, again, forbidden)
	}
}

// everywhere drops every 31st packet of mail that comes to a host, in either
// direction.
const everywhere = `table inet loss {
	counter lost { }
	chain prerouting {
		type filter hook prerouting priority raw; policy accept;
		tcp dport 25 numgen inc mod 31 == 7 counter name lost drop
		tcp sport 25 numgen inc mod 31 == 7 counter name lost drop
	}
}`

// Packets are lost before the firewall and behind it: all that was written
// arrives, masked where it should be.
func TestLiveLoss(t *testing.T) {
	w := newWall(t, lab.Options{}, "")
	hosts := []lab.Host{lab.Firewall, lab.Server}
	text, answers := message(1<<18), []byte(strings.Repeat("500 "+strings.Repeat("e", 400)+"\r\n", 150))
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for _, h := range hosts {
				lose(t, w.Lab, h, everywhere)
			}
			e := w.started(t, f.server)
			w.stream(t, e, "C", burst("XFOO"), burst("XXXX"), anyNumber)
			w.stream(t, e, "S", answers, answers, anyNumber)
			e.talk(t, mail[:6]...)
			w.stream(t, e, "C", text, text, anyNumber)
			e.talk(t, mail[7])
			e.talk(t, quit...)
			e.finish(t)
			for _, h := range hosts {
				if lossCounter(t, w.Lab, h, "lost") == 0 {
					t.Errorf("%s has lost no packet", h)
				}
			}
		})
	}
	// A packet that waits too long for the one before it is dropped.
	w.checkCounts(t, counts{"drop": w.show(t)["drop"], "mask-banner": 2, "unknown-command": 300, "match ehlo-reply-parameter others": 6})
}
