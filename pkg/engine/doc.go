// Package engine is the inspector: one function from packets to decisions.
//
// It may be imported from level 3 up. It has no goroutine, lock, file, socket,
// clock or log: the live queue, capture replay, fuzzers and tests all call the
// same Process. An Engine belongs to one goroutine.
package engine
