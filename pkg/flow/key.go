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

// Place says which end of the key an end of the connection is: 0 or 1.
func (k Key) Place(end netip.AddrPort) uint8 {
	if end.Port() == k.port[0] && end.Addr().As16() == k.addr[0] {
		return 0
	}
	return 1
}

// Ends returns the ends of the connection, that with the place first first.
func (k Key) Ends(first uint8) (a, b netip.AddrPort) {
	at := func(i uint8) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(k.addr[i]).Unmap(), k.port[i])
	}
	return at(first), at(first ^ 1)
}
