// Package policy is the ASA's language for ESMTP inspection (reference: ASA
// firewall CLI guide, "ESMTP inspection"; design.md section 5): it parses
// policy.conf, prints it again, and compiles a map into what the engine asks at
// run time.
//
// It may be imported from level 2 up. It must never read a file or hold a
// counter: text comes in as bytes, counters are the engine's.
package policy

import (
	"math"
	"slices"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// DefaultMapName is the map that is always there and that no file can change,
// as on the ASA; `inspect esmtp` without a name uses it.
const DefaultMapName = "_default_esmtp_map"

// MaxBound is the largest bound of the language. The ASA documents no range;
// asa.md 1.3 recommends this one.
const MaxBound = math.MaxUint32

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
	Name        string
	Description string // the operator's words; no meaning
	MaskBanner  bool
	AllowTLS    bool
	TLSLog      bool // allow-tls action log

	// The parameters of ours; newMap says what an absent line means.
	BareNewline    Do
	Pipelining     Do
	TLSInjection   Do
	AuthLineLength uint64

	Matches []Match

	index *index // of Matches, for ByLimit and ByKeyword; see Rules
}

// Class is a class-map of queues with the map that inspects them.
type Class struct {
	Name        string
	First, Last uint16 // queues, both included
	Map         *Map
}

// Config is a whole policy file. Several engines may read one at a time; nobody
// writes to it once Parse has returned it.
type Config struct {
	Nameif        map[string]string // kernel interface name -> ASA interface name; never nil
	Maps          []*Map            // in the order of the file; DefaultMapName is always among them
	Classes       []Class           // in the order of the policy map; their queues do not overlap
	PolicyMap     string            // the layer 3/4 policy map: global_policy
	ServicePolicy string            // where it is applied: "global"
}

// Map returns the map of that name, nil if there is none.
func (c *Config) Map(name string) *Map {
	for _, m := range c.Maps {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// ClassFor returns the class that a queue belongs to, nil if there is none.
func (c *Config) ClassFor(queue uint16) *Class {
	for i := range c.Classes {
		if cl := &c.Classes[i]; cl.First <= queue && queue <= cl.Last {
			return cl
		}
	}
	return nil
}

// Queues returns the numbers of all queues that a class names, ascending.
func (c *Config) Queues() []uint16 {
	var all []uint16
	for _, cl := range c.Classes {
		for q := int(cl.First); q <= int(cl.Last); q++ { // int: Last may be 65535
			all = append(all, uint16(q))
		}
	}
	slices.Sort(all)
	return all
}
