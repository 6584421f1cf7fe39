package metrics

import (
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// queueFamilies are the metrics of a queue.
func queueFamilies() []family[Queue] {
	l := labels[Queue]{"queue"}
	return []family[Queue]{
		l.counter("packets_total", "Packets given to the inspection.", func(q *Queue) uint64 { return q.Engine.Packets }),
		l.counter("packets_accepted_total", "Packets accepted, edited or not.", func(q *Queue) uint64 { return q.Engine.Accepted }),
		l.counter("packets_edited_total", "Packets accepted with changed bytes.", func(q *Queue) uint64 { return q.Engine.Edited }),
		l.counters("packets_dropped_total", "Packets dropped, by reason.", drops, "reason"),
		l.counter("packets_held_total", "Packets that had to wait for their decision.", func(q *Queue) uint64 { return q.Engine.Held }),
		l.gauge("held_packets", "Packets waiting for their decision now.", func(q *Queue) uint64 { return q.Engine.HeldNow }),
		l.gauge("held_bytes", "Bytes of the packets waiting for their decision now.", func(q *Queue) uint64 { return q.Engine.HeldOctets }),
		l.gauge("ledger_bytes", "Bytes kept for retransmissions now.", func(q *Queue) uint64 { return q.Engine.LedgerBytes }),
		l.counter("packets_early_total", "Message packets forwarded before those that were missing before them.", func(q *Queue) uint64 { return q.Engine.Early }),
		l.counter("packets_conflicting_total", "Packets whose bytes differed from those forwarded before, and were overwritten.", func(q *Queue) uint64 { return q.Engine.Conflicts }),
		l.counter("packets_urgent_cleared_total", "Packets whose URG flag or pointer was cleared.", func(q *Queue) uint64 { return q.Engine.UrgentCleared }),
		l.counter("packets_window_lowered_total", "Packets whose window was lowered to what the ledger can keep.", func(q *Queue) uint64 { return q.Engine.WindowLowered }),
		l.counter("ledgers_forgotten_total", "Silent connections whose unacknowledged octets were forgotten because the ledgers were full. Their retransmissions are dropped.", func(q *Queue) uint64 { return q.Engine.Forgotten }),

		l.counter("sessions_total", "Connections whose SYN passed.", func(q *Queue) uint64 { return q.Engine.Sessions }),
		l.gauge("flows", "Entries of the flow table now, those of ended connections included.", func(q *Queue) uint64 { return q.Engine.Flows }),
		l.counters("sessions_ended_total", "Connections ended by the inspection, by action.", ends, "action"),
		l.counter("sessions_offloaded_total", "Connections handed to the kernel: encrypted, or passed by --undecided open.", func(q *Queue) uint64 { return q.Engine.Offloaded }),
		l.counter("sessions_evicted_total", "Half-open connections that gave their place in a full flow table to a new one.", func(q *Queue) uint64 { return q.Engine.Evicted }),

		l.counters("match_hits_total", "Matches of each match line of the policy.", matches, "class", "line", "match", "action"),
		l.counters("rule_hits_total", "What parameters, and what holds without a line, have acted on.", rules, "rule"),
		l.counters("notices_total", "What was seen and left alone.", notices, "notice"),

		l.counter("events_lost_total", "Events lost on the way to the audit trail.", func(q *Queue) uint64 { return q.Engine.EventsLost }),
		l.counter("engine_panics_total", "Faults of the inspection, each of which replaced it.", func(q *Queue) uint64 { return q.Panics }),
		l.counter("kills_lost_total", "Conntrack entries of ended connections that were not deleted for want of room.", func(q *Queue) uint64 { return q.KillsLost }),
		l.counter("verdict_errors_total", "Verdicts that could not be sent to the kernel.", func(q *Queue) uint64 { return q.VerdictErrors }),
		l.counter("stray_decisions_total", "Decisions about packets that wait for none.", func(q *Queue) uint64 { return q.Strays }),
	}
}

// drops are dropped packets by reason.
func drops(q *Queue, put put) {
	for reason, n := range q.Engine.Drops {
		put(n, engine.Reason(reason).String())
	}
}

// ends are connections ended by the inspection, by the policy's action.
func ends(q *Queue, put put) {
	put(q.Engine.EndedByDrop, policy.DropConnection.String())
	put(q.Engine.EndedByRST, policy.Reset.String())
}

// matches are the match lines of the queue's map.
func matches(q *Queue, put put) {
	if q.Map == nil {
		return
	}
	for i := range min(len(q.Map.Matches), len(q.Engine.Matches)) {
		match := &q.Map.Matches[i]
		put(q.Engine.Matches[i], q.Class, number(uint64(i+1)), match.String(), match.Do.String())
	}
}

// rules are what acted beside match lines, in the words of audit records.
func rules(q *Queue, put put) {
	c := &q.Engine
	put(c.Banners, "mask-banner")
	put(c.TLSStarted, "allow-tls")
	for p, n := range c.Parameters {
		put(n, policy.Parameter(p).String())
	}
	put(c.UnknownCommands, "unknown-command")
	put(c.AddressesChanged, "address-character")
	put(c.PipesEnded, "address-pipe")
	put(c.RefusedParameters, "mail-parameter")
	put(c.AfterQuit, "after-quit")
	put(c.EarlyBytes, "early-bytes")
	put(c.SizeExceeded, "size-exceeded")
	put(c.Undecided, "undecided")
}

// notices are what was seen and left alone, in the words of `show
// service-policy`.
func notices(q *Queue, put put) {
	put(q.Engine.UnexpectedReplies, "unexpected reply")
	put(q.Engine.Transitions, "transition")
	put(q.Engine.LongReplies, "long reply line")
}

// usageFamilies are the metrics of `show conn`.
func usageFamilies() []family[usage] {
	var l labels[usage]
	return []family[usage]{
		l.gauge("connections", "Connections under inspection now.", func(u *usage) uint64 { return u.inUse }),
		l.gauge("connections_most", "The most connections under inspection at the same time since the start.", func(u *usage) uint64 { return u.most }),
	}
}

// hostFamilies are the metrics of a static host.
func hostFamilies() []family[static.HostReport] {
	type host = static.HostReport
	l := labels[host]{"global", "local"}
	return []family[host]{
		l.gauge("static_host_connections", "Connections of the host now, half-open ones included.", func(h *host) uint64 { return uint64(h.Connections) }),
		l.gauge("static_host_connections_limit", "How many connections the host may have; 0 is unlimited.", func(h *host) uint64 { return uint64(h.Limits.Max) }),
		l.gauge("static_host_connections_most", "The most connections that the host had.", func(h *host) uint64 { return uint64(h.Peak) }),
		l.gauge("static_host_half_open", "Half-open connections of the host now.", func(h *host) uint64 { return uint64(h.HalfOpen) }),
		l.gauge("static_host_half_open_limit", "How many half-open connections the host may have before it enters intercept; 0 is unlimited.", func(h *host) uint64 { return uint64(h.Limits.Embryonic) }),
		l.gauge("static_host_intercept", "1 while the kernel answers the host's SYNs with cookies.", func(h *host) uint64 { return oneIf(h.Intercept) }),
		l.counter("static_host_denied_total", "SYNs to the host that were refused.", func(h *host) uint64 { return h.Denied }),
		l.counter("static_host_intercepted_total", "SYNs to the host that were answered with a cookie.", func(h *host) uint64 { return h.Intercepted }),
	}
}

// omittedFamilies is the metric of the static hosts that are not told.
func omittedFamilies() []family[uint64] {
	var l labels[uint64]
	return []family[uint64]{
		l.gauge("static_hosts_omitted", "Static hosts without metrics of their own, because there are too many.", func(n *uint64) uint64 { return *n }),
	}
}

// trackerFamilies are the metrics of the counting of connections.
func trackerFamilies() []family[static.Counters] {
	type counters = static.Counters
	var l labels[counters]
	return []family[counters]{
		l.gauge("static_connections", "Connections counted now, of all static hosts.", func(c *counters) uint64 { return c.Connections }),
		l.counter("static_syns_total", "SYNs to limited static hosts.", func(c *counters) uint64 { return c.SYNs }),
		l.counter("static_syns_refused_total", "SYNs dropped at a limit.", func(c *counters) uint64 { return c.Refused }),
		l.counter("static_syns_delayed_total", "SYNs dropped to come again: as a host entered intercept, or while the entry of their port's last connection was being deleted.", func(c *counters) uint64 { return c.Delayed }),
		l.counter("static_overflow_total", "Connections refused or not counted because the table of connections was full.", func(c *counters) uint64 { return c.Overflow }),
		l.counter("static_unconfirmed_total", "Connections whose SYN was admitted and that conntrack never told of.", func(c *counters) uint64 { return c.Unconfirmed }),
		l.counter("static_missed_total", "Changes that only a dump of conntrack told of.", func(c *counters) uint64 { return c.Missed }),
		l.counter("static_events_lost_total", "Records of limits and intercept that were lost.", func(c *counters) uint64 { return c.EventsLost }),
	}
}

// limiterFamilies are the metrics of what limits connections.
func limiterFamilies() []family[Limiter] {
	var l labels[Limiter]
	return []family[Limiter]{
		l.counter("static_undecodable_total", "Packets of the queue of SYNs that are no TCP: dropped.", func(n *Limiter) uint64 { return n.Undecodable }),
		l.counter("static_verdict_errors_total", "Verdicts on SYNs that could not be sent to the kernel.", func(n *Limiter) uint64 { return n.VerdictErrors }),
		l.counter("static_kills_lost_total", "Conntrack entries of half-open or ended connections that were not deleted for want of room. They are tried again within a second, or with the next dump.", func(n *Limiter) uint64 { return n.KillsLost }),
		l.counter("static_failures_total", "Times that the ruleset could not be read, or the daemon's sets in it not be written.", func(n *Limiter) uint64 { return n.Failures }),
	}
}

// conntrackFamilies are the metrics of the conntrack socket.
func conntrackFamilies() []family[Conntrack] {
	var l labels[Conntrack]
	return []family[Conntrack]{
		l.counter("conntrack_deleted_total", "Conntrack entries deleted.", func(c *Conntrack) uint64 { return c.Deleted }),
		l.counter("conntrack_unknown_total", "Conntrack entries to be deleted that were not there.", func(c *Conntrack) uint64 { return c.Unknown }),
		l.counter("conntrack_events_total", "Events received from conntrack.", func(c *Conntrack) uint64 { return c.Events }),
		l.counter("conntrack_overruns_total", "Times that events of conntrack were lost.", func(c *Conntrack) uint64 { return c.Overruns }),
		l.counter("conntrack_resyncs_total", "Times that all of conntrack was read: at the start, after lost events, and once a minute.", func(c *Conntrack) uint64 { return c.Resyncs }),
		l.counter("conntrack_failures_total", "Times that conntrack could not be read as a whole. It is tried again.", func(c *Conntrack) uint64 { return c.Failures }),
	}
}

// kernelFamilies are the metrics of a queue as the kernel sees it.
func kernelFamilies() []family[KernelQueue] {
	l := labels[KernelQueue]{"queue"}
	return []family[KernelQueue]{
		l.gauge("nfqueue_waiting", "Packets in the kernel's queue without a verdict now.", func(q *KernelQueue) uint64 { return q.Waiting }),
		l.counters("nfqueue_dropped_total", "Packets lost before the inspection: the queue was full, or the socket's buffer.", func(q *KernelQueue, put put) {
			put(q.Full, "queue full")
			put(q.Overflow, "buffer full")
		}, "reason"),
	}
}

// failureFamilies are the metrics of scraping itself.
func failureFamilies() []family[failures] {
	l := labels[failures]{"source"}
	return []family[failures]{
		l.counter("scrape_errors_total", "Scrapes at which a part of the daemon did not answer: its metrics were missing.", func(f *failures) uint64 { return f.n }),
	}
}
