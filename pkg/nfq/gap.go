package nfq

// gap notices packets that the kernel queued and that nobody here could read.
// The kernel numbers the packets of a queue 1, 2, 3, ... and sends them in that
// order. A number may be missing because the kernel could not deliver the
// packet (it dropped it then: no verdict is wanted) or because it was delivered
// and not understood (it waits for a verdict). Only after a sign of the second,
// suspect, are missing numbers worth a verdict.
type gap struct {
	last    uint32
	suspect bool
}

// next takes the id of a packet that was read. It returns how many ids before
// it are missing, and of these how many may wait for a verdict: at most most,
// as no more packets wait in the queue.
func (g *gap) next(id, most uint32) (missing, waiting uint32) {
	missing = id - g.last - 1
	g.last = id
	if g.suspect {
		waiting = min(missing, most)
	}
	g.suspect = false
	return missing, waiting
}
