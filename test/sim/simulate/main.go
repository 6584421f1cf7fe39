// Command simulate plays schedules of the simulator: `make sim N=20000 SEED=7`.
//
// It is a program and not a test because its last line is the result, and `go
// test` has a last line of its own.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/smtpwall/smtpwall/test/sim"
)

func main() {
	n := flag.Uint64("n", 20000, "schedules")
	seed := flag.Uint64("seed", 1, "seed of the first; the others count up from it")
	first := flag.Bool("first", false, "stop at a violation")
	flag.Parse()
	debug.SetGCPercent(400) // every schedule has an engine of its own, whose buffers are soon garbage
	violations, err := simulate(*n, *seed, *first)
	if err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
	fmt.Printf("%d schedules, %d violations\n", *n, violations)
	if violations > 0 {
		os.Exit(1)
	}
}

// simulate runs the schedules and explains the violations.
func simulate(n, seed uint64, first bool) (violations uint64, err error) {
	res, err := sim.Run(n, seed, first)
	if err != nil {
		return 0, err
	}
	res.Stats.Write(os.Stdout)
	for _, v := range res.First {
		fmt.Printf("\n%v\n", v)
		if err := save(v.Seed, n == 1); err != nil {
			return 0, err
		}
	}
	return res.Violations, nil
}

// save writes the packets of a schedule into a file, and what became of them if
// that is wanted.
func save(seed uint64, explain bool) error {
	var trace io.Writer
	if explain {
		trace = os.Stdout
	}
	f, err := os.CreateTemp("", fmt.Sprintf("smtpwall-sim-%d-*.pcap", seed))
	if err != nil {
		return fmt.Errorf("write the packets of seed %d: %w", seed, err)
	}
	defer f.Close()
	if _, err := sim.Capture(seed, f, trace); err != nil {
		return fmt.Errorf("write the packets of seed %d: %w", seed, err)
	}
	fmt.Printf("again:   make sim N=1 SEED=%d\npackets: smtpwall replay %s\n", seed, f.Name())
	return nil
}
