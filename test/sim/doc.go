// Package sim is the simulator: two simple TCP endpoints with SMTP on top, and
// an unlucky or hostile network around engine.Process. It shows that the bytes
// a receiving host delivers are those that were judged, after masks, for any
// sequence of packets, and that a transfer that nobody attacks always completes.
//
// One schedule is one seed: what the ends say, how they cut it into segments,
// what the network does to them and who forges what. Packet time drives
// everything; there is no clock, goroutine or sleep inside a schedule.
package sim
