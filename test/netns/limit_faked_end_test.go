package netns

import (
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// What conntrack takes for the end of a connection, and its server does not, gives
// no client more connections than it may have.
func TestLimitFakedEnd(t *testing.T) {
	t.Parallel() // it waits
	ends := []struct {
		name  string
		fools bool // also where nothing is queued
		again bool // once the next one is open, the client sends a SYN, which is refused
		send  func(t *testing.T, h *hostile)
	}{
		// conntrack believes a RST that follows a segment, wherever that was
		// (nf_conntrack_proto_tcp.c, "Check if rst is part of train"). The server
		// answers both with a challenge ACK.
		{"a RST behind a gap", false, false, func(t *testing.T, h *hostile) {
			h.send(t, 1000, "x")
			h.send(t, 1001, "", flags(flagRST|flagACK))
		}},
		// A SYN would begin a new entry, but for the ACK behind the RST.
		{"a RST behind a gap, and a SYN", false, true, func(t *testing.T, h *hostile) {
			h.send(t, 1000, "x")
			h.send(t, 1001, "", flags(flagRST|flagACK))
		}},
		// Two FINs of one side are enough for LAST_ACK, and any ACK for TIME_WAIT.
		// The server waits for what is missing before them.
		{"FINs behind a gap", true, false, func(t *testing.T, h *hostile) {
			h.send(t, 1000, "", flags(flagFIN|flagACK))
			h.send(t, 1000, "", flags(flagFIN|flagACK))
			h.send(t, 0, "")
		}},
	}
	for _, end := range ends {
		for _, exempt := range []bool{false, true} {
			name := end.name
			if exempt {
				name += ", exempt"
			}
			t.Run(name, func(t *testing.T) {
				s := newSiege(t, "")
				s.limitOne(t, lab.ServerIP4, exempt)
				all := s.fakeEnds(t, lab.ServerIP4, end.send, end.again)
				if len(all) == 1 {
					// The server's ACK of the segment came before the RST, as it may
					// where nothing is queued: conntrack was not fooled.
					if end.fools || !exempt {
						t.Fatal("conntrack was not fooled")
					}
					return
				}
				eventually(t, "conntrack has forgotten all but as many as may be open", func() bool {
					n := 0
					for _, d := range all {
						if s.tracked(t, d.h.self) {
							n++
						}
					}
					return n <= 1
				})
				s.wantForgotten(t, all)
			})
		}
	}
}

// So it is where NAT changes both addresses of the connections: then neither of
// conntrack's tuples has the two that the firewall's own hosts know.
func TestLimitFakedEndBothTranslated(t *testing.T) {
	t.Parallel() // it waits
	for name, rules := range map[string]string{
		"masquerade":    "add table ip own; add chain ip own post { type nat hook postrouting priority srcnat; }; add rule ip own post oifname " + lab.Inside + " masquerade",
		"mapped client": "add element inet smtpwall rstatic4 { " + hostileClient[v4] + " : 10.9.3.50 }",
	} {
		for _, exempt := range []bool{false, true} {
			if exempt {
				name += ", exempt"
			}
			t.Run(name, func(t *testing.T) {
				s := newSiege(t, "")
				nft(t, s.Lab, rules)
				s.limitOne(t, globalIP4, exempt)
				all := s.fakeEnds(t, globalIP4, func(t *testing.T, h *hostile) {
					h.send(t, 1000, "", flags(flagFIN|flagACK))
					h.send(t, 1000, "", flags(flagFIN|flagACK))
					h.send(t, 0, "")
				}, false)
				if len(all) == 1 {
					t.Fatal("conntrack was not fooled")
				}
				s.wantForgotten(t, all)
			})
		}
	}
}

// limitOne gives the server, by one of its addresses, a limit of one connection.
func (s *siege) limitOne(t *testing.T, global string, exempt bool) {
	t.Helper()
	if exempt {
		nft(t, s.Lab, "add element inet smtpwall exempt4 { "+lab.ServerIP4+" }")
	}
	nft(t, s.Lab, "add element inet smtpwall static4 { "+global+` comment "tcp 1 0" : `+lab.ServerIP4+" }")
	eventually(t, "the limit holds", func() bool { return s.limits(t, lab.ServerIP4) })
}

// wantForgotten waits until nothing knows connections that were taken for ended, and
// checks that nothing of them passes any more.
func (s *siege) wantForgotten(t *testing.T, all []*duel) {
	t.Helper()
	for _, d := range all {
		eventually(t, "conntrack has forgotten it", func() bool { return !s.tracked(t, d.h.self) })
		if d.goesOn(t) {
			t.Error("it goes on without an entry")
		}
	}
	eventually(t, "the inspection has forgotten them", func() bool { return s.inUse(t) == 0 })
}

// fakeEnds opens up to three connections to an address of the server's, and sends of each what may be taken for
// its end before it opens the next one. With again, a SYN of each follows that the
// next one's being open refuses.
func (s *siege) fakeEnds(t *testing.T, global string, send func(*testing.T, *hostile), again bool) (all []*duel) {
	t.Helper()
	for range 3 {
		h, ln := s.attacker(t, v4)
		h.far = addrPort(global + ":25")
		h.syn(t, mss)
		if !h.opened(t) {
			break
		}
		d := s.joined(t, h, ln)
		all = append(all, d)
		write(t, d.app, "220 hi\r\n")
		h.await(t, "the greeting", func(s layers.TCP) bool { return len(s.Payload) > 0 })
		if before := len(all) - 2; again && before >= 0 {
			refused := s.static(t, global).Denied
			all[before].h.send(t, 0, "")
			eventually(t, "a SYN is refused", func() bool { // not while the entry is being deleted
				all[before].h.synAgain(t, mss)
				return s.static(t, global).Denied > refused
			})
		}
		send(t, h)
		s.agree(t, global, lab.ServerIP4)
	}
	return all
}

// goesOn reports whether the server's application gets what the client sends.
func (d *duel) goesOn(t *testing.T) bool {
	t.Helper()
	d.h.say(t, "NOOP\r\n")
	return hears(t, d.app, "NOOP\r\n")
}

// inUse is how many connections are inspected.
func (w *wall) inUse(t *testing.T) int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), w.exe, "show", "conn", "--json", "--control", w.control()).Output()
	if err != nil {
		t.Fatalf("show conn: %v: %s", err, out)
	}
	var answer struct {
		InUse int `json:"in_use"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("show conn printed %s: %v", out, err)
	}
	return answer.InUse
}

// hears reports whether an application gets a text within a moment.
func hears(t *testing.T, app net.Conn, text string) bool {
	t.Helper()
	if err := app.SetReadDeadline(time.Now().Add(time.Second / 2)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	_, err := io.ReadFull(app, got)
	return err == nil && string(got) == text
}
