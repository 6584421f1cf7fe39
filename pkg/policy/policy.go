// Package policy is the ASA's language for ESMTP inspection (reference: ASA
// firewall CLI guide, "ESMTP inspection"; design.md section 5): it parses
// policy.conf, prints it again, and compiles a map into what the engine asks at
// run time.
//
// It may be imported from level 2 up. It must never read a file or hold a
// counter: text comes in as bytes, counters are the engine's.
package policy

import (
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// Action is what happens when a match or parameter applies.
type Action uint8

// The actions of the ASA that this version knows.
const (
	NoAction       Action = iota // counted only (with Log: recorded)
	Mask                         // overwrite in place
	DropConnection               // nothing more passes to the server
	Reset                        // both ends get a RST
)

// String returns the ASA's word, empty for NoAction.
func (a Action) String() string {
	return [...]string{"", "mask", "drop-connection", "reset"}[a]
}

// Do is an action with its log word: "drop-connection log".
type Do struct {
	Action Action
	Log    bool
}

// Criterion is what a match line looks at.
type Criterion uint8

// The criteria of the default map.
const (
	CmdLineLength Criterion = iota
	CmdRcptCount
	BodyLineLength
	HeaderLineLength
	SenderAddressLength
	MIMEFilenameLength
	EHLOReplyParameter
)

// Match is one match line of a map and its action line. Its index in
// Map.Matches plus one is the "Class N" of audit records.
type Match struct {
	Criterion Criterion
	Over      uint64         // the bound of a "gt" criterion: Over itself passes
	Keywords  []smtp.Keyword // of ehlo-reply-parameter, OR-ed
	Do        Do
}

// Parameter names a line of a map's `parameters` section that makes records of
// its own.
type Parameter uint8

// The parameters that decide on findings which no match line covers.
const (
	BareNewline    Parameter = iota // bare-newline {log|mask|drop-connection|reset}
	Pipelining                      // pipelining {allow|mask|drop-connection} [log]
	TLSInjection                    // tls-injection {drop-connection|reset}
	AuthLineLength                  // auth-line-length N: beyond it drop-connection log
	NumParameters
)

// Map is one `policy-map type inspect esmtp`.
type Map struct {
	Name       string
	MaskBanner bool
	AllowTLS   bool
	TLSLog     bool // allow-tls action log

	// The parameters of ours; DefaultMap says what an absent line means.
	BareNewline    Do
	Pipelining     Do
	TLSInjection   Do
	AuthLineLength uint64

	Matches []Match
}

// Class is a class-map of queues with the map that inspects them.
type Class struct {
	Name        string
	First, Last uint16 // queues, both included
	Map         *Map
}

// Config is a whole policy file.
type Config struct {
	Nameif        map[string]string // kernel interface name -> ASA interface name
	Maps          []*Map
	Classes       []Class
	PolicyMap     string // the layer 3/4 policy map: global_policy
	ServicePolicy string // where it is applied: "global"
}
