// Package asa turns the configuration of a PIX or ASA into smtpwall's: the hosts
// that are not inspected, the static mappings with their limits, and the policy
// (design.md sections 3 to 5; reference/asa.md sections 0, 1 and 5).
//
// It may be imported from level 3 up. It is pure: the text of a file comes in,
// the texts of exempt.nft, static.nft and policy.conf go out. It must never drop
// a line silently: what it cannot carry over is a Finding, and what has nothing
// to do with mail is counted.
package asa
