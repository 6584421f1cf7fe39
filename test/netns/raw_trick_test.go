package netns

import (
	"testing"
	"time"
)

// holdTime is how long the daemon holds a packet that cannot be judged.
const holdTime = 4 * time.Second

// trick is what a hostile client does in command mode, or a hostile server with
// its reply to EHLO.
type trick struct {
	name    string
	play    func(t *testing.T, d *duel)
	arrives string // what the application at the other end reads of it
	drops   [numAids]dropper
}

// dropper is who drops a packet of a trick.
type dropper int

// The droppers.
const (
	nobody dropper = iota // all that was sent goes on, overwritten or as it is
	kernel                // conntrack calls it invalid
	daemon
	either // which of the two is not for us to say
)

// by is a dropper with the ruleset as it is shipped, and one without
// conntrack's help.
func by(help, alone dropper) [numAids]dropper { return [numAids]dropper{help, alone} }

// tricks plays tricks, each in a session of its own, with conntrack's help and
// without: nothing that is forbidden arrives, and the session stays alive and
// inspected.
func (s *siege) tricks(t *testing.T, list ...trick) {
	t.Helper()
	s.play(t, "", func(t *testing.T) *duel {
		d := s.duel(t, v4)
		d.hello(t)
		return d
	}, list)
}

// serverTricks is tricks of a hostile server.
func (s *siege) serverTricks(t *testing.T, list ...trick) {
	t.Helper()
	s.play(t, "server, ", func(t *testing.T) *duel {
		d := s.ambush(t, v4)
		d.h.acknowledged(t) // the end of the handshake
		d.turn(t, hello[0])
		d.turn(t, hello[1])
		return d
	}, list)
}

// The reply to EHLO of serverTricks: offer is masked to masked; decoy is as long
// and passes.
const (
	offer  = "250-mx\r\n250-STARTTLS\r\n250 HELP\r\n"
	masked = "250-mx\r\n250-XXXXXXXA\r\n250 XXXB\r\n"
	decoy  = "250-mx\r\n250-SIZE 123\r\n250 VRFY\r\n"
)

// play plays tricks with conntrack's help and without; open begins the session
// of each.
func (s *siege) play(t *testing.T, prefix string, open func(*testing.T) *duel, list []trick) {
	t.Helper()
	for a := range numAids {
		s.aid(t, a)
		for _, c := range list {
			t.Run(a.String()+"/"+prefix+c.name, func(t *testing.T) {
				d := open(t)
				kernel, daemon := s.dropped(t)
				c.play(t, d)
				d.h.seq += uint32(len(c.arrives))
				reads(t, d.app, c.arrives)
				d.alive(t)
				s.checkDroppers(t, kernel, daemon, c.drops[a])
			})
		}
	}
}

// checkDroppers compares who has dropped packets since there were so many. A
// drop that must come is waited for, but not as long as a packet may be held.
func (s *siege) checkDroppers(t *testing.T, kernelBefore, daemonBefore uint64, want dropper) {
	t.Helper()
	var k, d uint64
	look := func() bool {
		k, d = s.dropped(t)
		k, d = k-kernelBefore, d-daemonBefore
		return k+d > 0
	}
	for end := time.Now().Add(holdTime / 2); !look() && want != nobody; {
		if time.Now().After(end) {
			t.Fatal("nobody has dropped a packet")
		}
	}
	if want == nobody && k+d > 0 || want == kernel && d > 0 || want == daemon && k > 0 {
		t.Errorf("the kernel dropped %d packets, the daemon %d; want %s", k, d, [...]string{"none", "the kernel to drop", "the daemon to drop"}[want])
	}
}

// segments sends crafted segments; each text stands off octets from the next
// one to send.
func segments(list ...piece) func(*testing.T, *duel) {
	return func(t *testing.T, d *duel) {
		t.Helper()
		for _, p := range list {
			d.h.send(t, p.off, p.text, p.mods...)
		}
	}
}

// piece is one segment of a trick.
type piece struct {
	off  int
	text string
	mods []mod
}

// at is a piece.
func at(off int, text string, mods ...mod) piece { return piece{off, text, mods} }
