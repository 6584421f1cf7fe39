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
	"regexp"
	"slices"

	"github.com/smtpwall/smtpwall/pkg/smtp"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// DefaultMapName is the map that is always there and that no file can change,
// as on the ASA; `inspect esmtp` without a name uses it.
const DefaultMapName = "_default_esmtp_map"

// MaxBound is the largest bound of the language. The ASA documents no range;
// asa.md 1.3 recommends this one.
const MaxBound = math.MaxUint32

// Action is what happens when a match or parameter applies.
type Action uint8

// The actions of the ASA.
const (
	NoAction       Action = iota // counted only (with Log: recorded)
	Mask                         // overwrite in place
	DropConnection               // nothing more passes to the server
	Reset                        // both ends get a RST
	RateLimit                    // more than Do.Rate within a second: as DropConnection with Log
)

// String returns the ASA's word, empty for NoAction.
func (a Action) String() string {
	return [...]string{"", "mask", "drop-connection", "reset", "rate-limit"}[a]
}

// MaxRate is the largest number of a rate-limit. A session keeps 8 bytes for
// each of it, so that N+1 matches within any second are told exactly.
const MaxRate = 1000

// Do is an action with its log word: "drop-connection log". Its zero value is a
// parameter that is off.
type Do struct {
	Action Action
	Log    bool
	Rate   uint64 // RateLimit: matches a second that pass
}

// Criterion is what a match line looks at (asa.md 1.3, design.md section 5).
type Criterion uint8

// The criteria. Those up to MIMETypeLength have a bound.
const (
	CmdLineLength Criterion = iota
	CmdRcptCount
	BodyLineLength
	HeaderLineLength
	SenderAddressLength
	MIMEFilenameLength
	BodyLength
	HeaderLength
	HeaderToFieldsCount
	InvalidRecipientsCount
	MIMETypeLength
	EHLOReplyParameter
	CmdVerb
	MIMEEncoding
	MIMEFiletypeRegex
	SenderAddressRegex
)

// Match is one match line of a map and its action line. Its index in
// Map.Matches plus one is the "Class N" of audit records.
type Match struct {
	Criterion Criterion
	Not       bool            // match not: the action applies to what does not match
	Over      uint64          // the bound of a "gt" criterion: Over itself passes
	Keywords  []smtp.Keyword  // of ehlo-reply-parameter, OR-ed
	Verbs     []string        // of cmd verb, upper case, OR-ed
	Encodings []smtp.Encoding // of mime encoding, OR-ed
	Regex     string          // of the regex criteria: the name of a regex, or of a class of them
	Class     bool            // Regex is a class-map type regex
	Do        Do
}

// Regex is a `regex NAME "PATTERN"`: an expression in Go's syntax (RE2, which
// takes linear time on any input), not anchored.
type Regex struct{ Name, Pattern string }

// RegexClass is a `class-map type regex match-any`: it matches where one of its
// regexes does.
type RegexClass struct {
	Name        string
	Description string
	Regexes     []string // names, in the order of the file
}

// Parameter names a line of a map's `parameters` section that makes records of
// its own.
type Parameter uint8

// The parameters that decide on findings which no match line covers.
const (
	BareNewline      Parameter = iota // bare-newline {log|mask|drop-connection|reset}
	Pipelining                        // pipelining {allow|mask|drop-connection} [log]
	TLSInjection                      // tls-injection {drop-connection|reset}
	AuthLineLength                    // auth-line-length N: beyond it drop-connection log
	MailRelay                         // mail-relay DOMAIN action {drop-connection [log] | log}
	SpecialCharacter                  // special-character action {drop-connection [log] | log}
	RequireTLS                        // require-tls: mail commands outside TLS are masked, with a record
	NumParameters
)

// Map is one `policy-map type inspect esmtp`.
type Map struct {
	Name             string
	Description      string // the operator's words; no meaning
	MaskBanner       bool
	MailRelayDomain  string // lower case; empty: no mail-relay
	MailRelay        Do
	SpecialCharacter Do
	AllowTLS         bool
	TLSLog           bool // allow-tls action log

	// The parameters of ours; newMap says what an absent line means.
	RequireTLS        bool
	AllowBDAT         bool
	AllowCommands     []smtp.Command // allow-command, in the order of the file
	AllowKeywords     []string       // allow-ehlo-parameter, upper case, in the order of the file
	BareNewline       Do
	Pipelining        Do
	TLSInjection      Do
	AuthLineLength    uint64
	AuthCommandLength bool // auth-line-length was stated: it bounds the AUTH command too, instead of cmd line length

	Matches []Match

	patterns map[regexName][]*regexp.Regexp // of the Config; read only
	index    *index                         // of Matches, for Lines; see Rules
}

// Class is a class-map of queues with the map that inspects them, and limits.
type Class struct {
	Name         string
	Description  string
	First, Last  uint16        // queues, both included
	Map          *Map          // nil: nothing inspects them, and no queue is bound for this class
	TCP          *TCPMap       // set connection advanced-options, or DefaultTCPMap; Parse leaves none nil
	Limits       static.Limits // set connection conn-max, embryonic-conn-max
	ClientLimits static.Limits // set connection per-client-max, per-client-embryonic-max
}

// Config is a whole policy file. Several engines may read one at a time; nobody
// writes to it once Parse has returned it.
type Config struct {
	Nameif        map[string]string // kernel interface name -> ASA interface name; never nil
	Regexes       []Regex           // in the order of the file
	RegexClasses  []RegexClass      // in the order of the file
	Maps          []*Map            // in the order of the file; DefaultMapName is always among them
	TCPMaps       []*TCPMap         // in the order of the file
	Classes       []Class           // in the order of the policy map; their queues do not overlap, and one at least has a Map
	PolicyMap     string            // the layer 3/4 policy map: global_policy
	Description   string            // of PolicyMap
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

// Inspecting returns the first class that inspects: what captures and
// transcripts, which come by no queue, are judged by. Parse gives no Config
// without one; it is nil if a Config made by hand has none.
func (c *Config) Inspecting() *Class {
	for i := range c.Classes {
		if cl := &c.Classes[i]; cl.Map != nil {
			return cl
		}
	}
	return nil
}

// ClassFor returns the class that inspects a queue, nil if there is none.
func (c *Config) ClassFor(queue uint16) *Class {
	for i := range c.Classes {
		if cl := &c.Classes[i]; cl.Map != nil && cl.First <= queue && queue <= cl.Last {
			return cl
		}
	}
	return nil
}

// Queues returns the numbers of all queues that a class inspects, ascending.
func (c *Config) Queues() []uint16 {
	var all []uint16
	for _, cl := range c.Classes {
		if cl.Map == nil {
			continue
		}
		for q := int(cl.First); q <= int(cl.Last); q++ { // int: Last may be 65535
			all = append(all, uint16(q))
		}
	}
	slices.Sort(all)
	return all
}
