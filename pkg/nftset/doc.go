// Package nftset reads what concerns the inspection from the live ruleset: where
// packets are sent to a queue, what would let mail pass beside it, the static
// mappings with their limits, and the counters of SYN cookies. It fills the
// daemon's own sets, and tells when the ruleset changes.
//
// It may be imported from level 5 up. It must never change a rule, a chain, a
// table or a map: these belong to the operator.
//
// What reads or writes does so in the network namespace of the calling thread.
package nftset
