package flow

import "math/bits"

// Walk calls yield for some connections, those of one bucket, and returns where
// to go on. Begin at 0; 0 means that all were seen. The table may change between
// two calls: what is in it from the first to the last is seen once.
//
// Buckets are visited in the order of their reversed numbers. A table that grows
// splits a bucket into two, whose numbers differ in the highest bit: in that order
// they stand where the one stood.
func (t *Table[V]) Walk(at uint64, yield func(*Entry[V])) (next uint64) {
	n := uint64(len(t.buckets))
	for e := t.buckets[bits.Reverse64(at)&(n-1)]; e != nil; e = e.chain {
		yield(e)
	}
	return at + 1<<(64-bits.Len64(n-1)) // the sum wraps behind the last bucket
}
