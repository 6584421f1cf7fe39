// Package daemon is the running program: one shard a queue, each with an engine
// that only its goroutine touches, and the tasks around them.
//
//	queue reader -> packets (bounded) -> shard: engine -> verdicts
//	conntrack events -> shard             shard -> events (bounded) -> audit
//	                                      shard -> kills (bounded) -> conntrack
//
// It may be imported by cmd only. It must never look into a packet, and never
// leave one without a verdict.
package daemon
