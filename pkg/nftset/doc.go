// Package nftset reads what concerns the inspection from the live ruleset: where
// packets are sent to a queue, and what would let mail pass beside it.
//
// It may be imported from level 5 up. It must never change a rule, a chain or a
// table: the ruleset belongs to the operator.
package nftset
