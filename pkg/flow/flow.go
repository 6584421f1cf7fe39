// Package flow knows connections: their key, the bounded table that holds them,
// and per connection the TCP control block, which says what the end hosts would
// accept next (RFC 9293).
//
// It may be imported from level 2 up. It must never look at payload bytes.
package flow

import "net/netip"

// Tuple names a TCP connection by its two ends; Client sent the SYN.
type Tuple struct {
	Client, Server netip.AddrPort
}
