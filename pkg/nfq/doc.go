// Package nfq is the NFQUEUE edge: one netlink socket a queue, packets in,
// verdicts out (kernel: net/netfilter/nfnetlink_queue.c).
//
// It may be imported by daemon and cmd. It must never look at a packet's bytes
// and never leave a packet without a verdict: what the engine cannot be given
// is decided here and counted.
package nfq
