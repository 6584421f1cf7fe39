// Package static counts the TCP connections of the hosts behind static mappings
// and decides who may open another one: `static (inside,outside) GLOBAL LOCAL tcp
// MAX EMBRYONIC` of a PIX, and `set connection` of an ASA (design.md section 7).
//
// It may be imported by every package. It is pure: it learns of SYNs, of
// conntrack's entries and of the time from its caller, and tells what it wants
// done; it must never touch a queue, a set or a clock itself.
package static
