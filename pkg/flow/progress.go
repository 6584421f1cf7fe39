package flow

// Established reports whether octets or a FIN were forwarded: both ends have seen
// the handshake to its end. The client's ACK alone does not come through the
// queue.
func (t *TCB) Established() bool { return t.state == established }

// Finished reports whether the FIN of direction d was forwarded, and whether its
// receiver has acknowledged it, as far as is seen: a client's bare ACKs are not.
func (t *TCB) Finished(d Dir) (sent, acked bool) {
	h := &t.half[d]
	return h.fin, h.fin && h.acked == h.next
}
