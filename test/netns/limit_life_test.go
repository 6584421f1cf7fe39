package netns

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// A host enters intercept with the flood, and leaves it some time after: half a
// minute, in which the last SYNs answered count as half-open, and ten seconds of
// calm. What happens is told, `show static` says it, and then the kernel's sets are
// empty and the daemon counts as before.
func TestLimitEntersAndLeaves(t *testing.T) {
	t.Parallel() // it waits
	w := newWall(t, withElements(t, "static.nft", limited("tcp 200 100")), "")
	take(t, w.Lab)
	for _, g := range globals {
		addRoute(t, w.Lab, g.global)
		w.flooded(t, g.global)
		if state := w.state(t, g.global); state != "intercept" {
			t.Errorf("%s: show static says %q, want intercept", g.name, state)
		}
	}
	for _, g := range globals {
		within(t, time.Minute, "the server leaves intercept", func() bool { return !w.static(t, g.global).Intercept })
		if state := w.state(t, g.global); state != "-" {
			t.Errorf("%s: show static says %q, want -", g.name, state)
		}
		for _, set := range []string{"intercept", "full"} {
			eventually(t, "set "+set+g.suffix+" is empty", func() bool {
				return !strings.Contains(nft(t, w.Lab, "list set inet smtpwall "+set+g.suffix), "elements")
			})
		}
		w.checkIntercept(t, g.global)
		before := counter(t, w.Lab, "intercepted")
		w.mustDeliver(t, g.global)
		if counter(t, w.Lab, "intercepted") != before {
			t.Errorf("%s: a SYN was intercepted", g.name)
		}
		eventually(t, "nobody is connected", func() bool { return w.agree(t, g.global, g.local) == 0 })
	}
}

// flooded has a flood put a host into intercept, and mail arrive meanwhile.
func (w *wall) flooded(t *testing.T, global string) {
	t.Helper()
	stop := flood(t, w.Lab, netip.AddrPortFrom(netip.MustParseAddr(global), 25), spoofed)
	defer stop()
	eventually(t, "the server is in intercept", func() bool { return w.static(t, global).Intercept })
	for range 20 {
		w.mustDeliver(t, global)
	}
	eventually(t, "SYNs answered are counted", func() bool { return w.static(t, global).Intercepted > 0 })
}

// mustDeliver sends one mail.
func (w *wall) mustDeliver(t *testing.T, global string) {
	t.Helper()
	if err := deliver(w.Lab, global); err != nil {
		t.Fatalf("a mail to %s does not arrive: %v", global, err)
	}
}

// state is the last column of `show static` of a host.
func (w *wall) state(t *testing.T, global string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), w.exe, "show", "static", "--control", w.control()).Output()
	if err != nil {
		t.Fatalf("show static: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == global {
			return f[len(f)-1]
		}
	}
	t.Fatalf("show static has no %s:\n%s", global, out)
	return ""
}

// checkIntercept checks that entering and leaving intercept were told once.
func (w *wall) checkIntercept(t *testing.T, global string) {
	t.Helper()
	var told []string
	for _, r := range w.allRecords(t) {
		if r.Global == global && r.ID/1000 == 201 {
			told = append(told, r.Event)
		}
	}
	if want := []string{"intercept-entered", "intercept-entered", "intercept-left"}; !slices.Equal(told, want) { // 201010, 201003, 201010
		t.Errorf("%s: records %v, want %v", global, told, want)
	}
}

// The daemon is killed while a flood goes on, and started again: meanwhile mail waits
// or passes, as the ruleset says; the new daemon takes up where the other ended, and
// when the flood is over it counts what conntrack does.
func TestLimitKilledInIntercept(t *testing.T) {
	for name, open := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			opt := withElements(t, "static.nft", limited("tcp 50 100"))
			opt.Open = open
			w := newWall(t, opt, "")
			addRoute(t, w.Lab, globalIP4)
			take(t, w.Lab)
			stop := flood(t, w.Lab, netip.MustParseAddrPort(globalIP4+":25"), spoofed)
			defer stop()
			eventually(t, "the server is in intercept", func() bool { return w.static(t, globalIP4).Intercept })
			w.mustDeliver(t, globalIP4)

			w.kill(t)
			if open {
				w.mustDeliver(t, globalIP4)
			} else if _, err := exchange(w.Lab, lab.Client, globalIP4, 300*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a session without the daemon ended with %v, want a time-out behind synproxy's handshake", err)
			}
			w.start(t)
			if text := "addresses are in intercept from before the start"; !strings.Contains(w.log.String(), text) {
				t.Errorf("the log does not say %q:\n%s", text, w.log)
			}
			if !w.static(t, globalIP4).Intercept {
				t.Error("the server is no longer in intercept")
			}
			for range 20 {
				w.mustDeliver(t, globalIP4)
			}
			stop()
			within(t, liveTimeout, "nobody is connected", func() bool { return w.agree(t, globalIP4, lab.ServerIP4) == 0 }) // half-open ones go after five seconds
		})
	}
}
