// Package stream holds what is kept of one direction of a connection: the
// ledger of octets that were forwarded, the segments that must wait, and the
// adapter of gopacket's tcpassembly, whose only importer this is.
//
// It may be imported from level 2 up. It must never decide on a packet: it says
// what fits and what does not.
package stream
