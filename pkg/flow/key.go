package flow

import "net/netip"

// Dir is a direction of a connection, in netfilter's words.
type Dir uint8

// The directions.
const (
	Original Dir = iota // from the sender of the SYN
	Reply
)

// Other returns the opposite direction.
func (d Dir) Other() Dir { return d ^ 1 }

// Key names a connection whichever of its ends sent a packet: the lower end
// stands first. It has no pointers, so that a large table costs the garbage
// collector nothing. IPv4 addresses are stored IPv4-mapped.
type Key struct {
	addr [2][16]byte
	port [2]uint16
}

// KeyOf returns the key of a packet from src to dst.
func KeyOf(src, dst netip.AddrPort) Key {
	if src.Compare(dst) > 0 {
		src, dst = dst, src
	}
	return Key{
		addr: [2][16]byte{src.Addr().As16(), dst.Addr().As16()},
		port: [2]uint16{src.Port(), dst.Port()},
	}
}

// Key returns the key of t.
func (t Tuple) Key() Key { return KeyOf(t.Client, t.Server) }
