package sim

import (
	"io"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/engine"
)

// TestSim plays a fixed set of schedules; `make sim` plays others.
func TestSim(t *testing.T) {
	const n, seed = 3000, 1
	res, err := Run(n, seed, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range res.First {
		t.Errorf("%v\nagain: make sim N=1 SEED=%d", v, v.Seed)
	}
	if res.Violations > uint64(len(res.First)) {
		t.Errorf("%d schedules, %d violations", n, res.Violations)
	}
}

// A seed is one schedule, whoever runs it and whatever ran before.
func TestSeedsAreSchedules(t *testing.T) {
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(300) {
		w.run(seed)
		alone, err := newWorld()
		if err != nil {
			t.Fatal(err)
		}
		alone.run(seed)
		if w.now != alone.now || w.handled != alone.handled || len(w.given) != len(alone.given) {
			t.Errorf("seed %d: ended at %v with %d events and %d packets, alone at %v with %d and %d",
				seed, w.now, w.handled, len(w.given), alone.now, alone.handled, len(alone.given))
		}
	}
}

// The simulator must meet what it is for.
func TestSchedulesMeetEverything(t *testing.T) {
	res, err := Run(2000, 100000, false)
	if err != nil {
		t.Fatal(err)
	}
	s := &res.Stats
	for name, n := range map[string]uint64{
		"early": s.Early, "conflicts": s.Conflicts, "behind a synproxy": s.Proxied,
		"lost": s.Lost, "late": s.Late, "cut": s.Cut, "merged": s.Merged, "forged": s.Forged, "kernel-accepted ACKs": s.KernelACKs,
		"held": s.Held, "edited": s.Edited, "reset marks": s.Resets, "RSTs": s.RSTs, "ended": s.Ended, "offloaded": s.Offloaded, "judged again": s.Replayed,
	} {
		if n < 20 {
			t.Errorf("%s: only %d in 2000 schedules", name, n)
		}
	}
	for _, r := range []engine.Reason{
		engine.ReasonUndecodable, engine.ReasonMidstream, engine.ReasonTableFull, engine.ReasonNotSYN, engine.ReasonSYNPayload,
		engine.ReasonDuplicateSYN, engine.ReasonSpoofed, engine.ReasonInvalidRST, engine.ReasonInvalidACK, engine.ReasonBeyondFIN,
		engine.ReasonLedgerFull, engine.ReasonHoldFull, engine.ReasonHoldTimeout, engine.ReasonEnded, engine.ReasonPolicy,
		engine.ReasonUndecided, engine.ReasonChecksum, engine.ReasonBeyondWindow, engine.ReasonOldTimestamp, engine.ReasonReservedBits,
	} {
		if s.Drops[r] == 0 {
			t.Errorf("no packet was dropped for %v", r)
		}
	}
	for i, n := range s.Classes {
		if n < 100 {
			t.Errorf("%s: only %d of 2000 schedules", classNames[i], n)
		}
	}
}

func TestCapture(t *testing.T) {
	if _, err := Capture(1, io.Discard, nil); err != nil {
		t.Fatal(err)
	}
}
