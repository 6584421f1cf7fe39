// Package goodput compares what a firewall makes of mail that it inspects with
// what it makes of mail that it lets pass: how fast a long message gets through,
// and how long the reply to a command takes.
//
// It is for tests only: those of test/netns, and those of test/vm that run in the
// guest. It knows nothing of rulesets, links and namespaces; the tests bring them.
package goodput

import (
	"fmt"
	"slices"
	"testing"
)

// What is measured, and how well it must go.
const (
	Runs       = 5   // of each kind
	LeastRatio = 0.9 // of goodput, inspected to exempt
)

// Kind is what becomes of the client's mail on the firewall.
type Kind int

// The kinds. A sender that loses packets is slower the longer the round trip, and
// the way through a queue takes longer than on any other: Queued shows what of it
// is the queue's.
const (
	Inspected Kind = iota
	Queued         // to a program that accepts everything
	Exempt
	numKinds
)

// String names the kind in the table.
func (k Kind) String() string { return [numKinds]string{"inspected", "queued", "exempt"}[k] }

// Comparison is what was measured of each kind, in the order of the runs.
type Comparison [numKinds][]float64

// Compare measures each kind in turn, so that what else the machine does falls on
// all of them. treat says what becomes of connections from now on; measure is told
// the number of the run, which is the same for a run of each kind.
func Compare(t *testing.T, treat func(*testing.T, Kind), measure func(t *testing.T, k Kind, run int) float64) (c Comparison) {
	t.Helper()
	for run := range Runs {
		for k := range numKinds {
			treat(t, k)
			c[k] = append(c[k], measure(t, k, run))
			t.Logf("%s: %.2f", k, c[k][run])
		}
	}
	return c
}

// Median is the middle one of the runs of a kind.
func (c *Comparison) Median(k Kind) float64 {
	sorted := slices.Sorted(slices.Values(c[k]))
	return sorted[len(sorted)/2]
}

// Ratio is the part of the exempt ones' median that the inspected ones reach.
func (c *Comparison) Ratio() float64 { return c.Median(Inspected) / c.Median(Exempt) }

// Added is by how much the inspected ones' median is above the exempt ones'.
func (c *Comparison) Added() float64 { return c.Median(Inspected) - c.Median(Exempt) }

// Print writes the table.
func (c *Comparison) Print(t *testing.T, what string) {
	t.Helper()
	table := fmt.Sprintf("%-10s %10s %10s   runs\n", "", "median", "inspected")
	for k := range numKinds {
		table += fmt.Sprintf("%-10s %10.2f %10.2f   %.2f\n", k, c.Median(k), c.Median(Inspected)/c.Median(k), c[k])
	}
	t.Logf("%s, and the inspected ones' part of it:\n%s", what, table)
}
