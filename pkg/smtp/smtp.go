// Package smtp follows one SMTP session from the bytes of both directions:
// framing, words, paths, the dialogue of commands and replies, and the message
// itself. It edits bytes in place where a rule masks them and never changes a
// length.
//
// It may be imported by every package above level 0 (see test/arch). It must
// never know of packets, clocks, logs or policies: what it finds it reports as a
// Fact to its Judge, and the Judge says what happens.
package smtp

import "math"

// Side is the speaker of a byte: the SMTP client or the SMTP server.
type Side uint8

// The two sides of a session.
const (
	Client Side = iota
	Server
)

// String returns the ASA's word for what the side sends: Request or Response.
func (s Side) String() string {
	if s == Client {
		return "Request"
	}
	return "Response"
}

// Action is a Judge's answer to a Fact.
type Action uint8

// The answers, from the mildest to the hardest. A Fact that knows no mask takes
// Mask as Pass.
const (
	Pass Action = iota // leave the bytes as they are
	Mask               // overwrite what the Fact is about
	End                // read nothing more: the session is over
)

// Judge decides on every Fact of a session, in stream order.
type Judge interface {
	// Judge is called while the bytes are scanned. Fact.Text is valid during the
	// call only.
	Judge(Fact) Action
}

// Kind says what a Fact is about.
type Kind uint8

// The kinds of Fact.
const (
	KindNone            Kind = iota
	KindLimit                // a Measure went beyond one of Rules.Limits; Value is the count reached
	KindUnknownCommand       // a command line whose word is not allowed; it is masked whatever the Judge says
	KindPipe                 // a pipe in the argument of MAIL or RCPT
	KindAddressReplaced      // bytes of a path were replaced by spaces; Text is the argument as the client sent it
	KindBareNewline          // a CR or LF in a command that is not part of CR LF
	KindAuthNewline          // the same in a line of an AUTH exchange, which is never masked
	KindDotLine              // DATA: a line holding one dot with a neighbour that is not CR LF
	KindPipelined            // a command that did not wait, and PIPELINING was not announced
	KindEarlyTalker          // a command before the greeting
	KindGluedBytes           // client bytes in the packet of a DATA or AUTH line whose reply decides how to read them
	KindTLSInjection         // bytes glued behind STARTTLS or behind its 220
	KindTLSMissing           // after the 220 to STARTTLS something else than a TLS handshake came
	KindTLSStarted           // ClientHello and ServerHello seen: the rest is opaque
	KindBanner               // a 2yz greeting was masked (reported at its last line's end)
	KindEHLOKeyword          // a keyword of an EHLO reply; Keyword says which
	KindUnexpectedReply      // a reply that answers no command (Value is its code)
	KindUndecided            // 354 or 334 without its command: nobody can say how the client's bytes are read
	KindOverflow             // more commands await a reply than the dialogue keeps
	KindAuthLine             // an AUTH exchange line over Rules.AuthLineLength
)

// Fact is one finding about the session.
type Fact struct {
	Kind    Kind
	Side    Side
	Measure Measure // KindLimit only
	Keyword Keyword // KindEHLOKeyword only
	Limit   uint64  // KindLimit: the bound that was passed
	Value   uint64  // KindLimit: the first value beyond Limit; KindUnexpectedReply: the code
	Repeat  bool    // KindLimit: an earlier line of the message passed it; KindBareNewline: not the line's first
	Offset  uint64  // of the byte that made the finding, counted from the first payload byte of its side
	Text    []byte  // the line (or value) concerned as it was sent, at most MaxText bytes; valid during Judge only
}

// MaxText bounds Fact.Text: the longest command line of RFC 5321 4.5.3.1.4.
const MaxText = 512

// Measure is something counted against a bound of the policy (design.md section
// 5). Every bound N means "more than N".
type Measure uint8

// The measures.
const (
	CmdLineLength    Measure = iota // bytes of a command line with its CR LF, masked or not
	CmdRcptCount                    // RCPT lines forwarded unmasked in the transaction
	BodyLineLength                  // a line behind the header, without its end and its stuffing dot
	HeaderLineLength                // a physical line of the message's own header, without its end
	SenderLength                    // the path of MAIL, SEND, SOML, SAML, without brackets
	FilenameLength                  // a MIME filename or name, decoded, before charset conversion
	NumMeasures
)

// Unlimited is a bound that nothing passes.
const Unlimited = math.MaxUint64

// Keyword classes an EHLO parameter by its text up to the first space (asa.md
// 1.3, `ehlo-reply-parameter`).
type Keyword uint8

// The classes, in the order of the ASA's list; Others is every unknown one.
const (
	KeywordOthers     Keyword = iota
	Keyword8BITMIME           // RFC 6152
	KeywordAUTH               // RFC 4954
	KeywordBINARYMIME         // RFC 3030
	KeywordCHECKPOINT         // RFC 1845
	KeywordDSN                // RFC 3461
	KeywordECODE              // ENHANCEDSTATUSCODES, RFC 2034
	KeywordETRN               // RFC 1985
	KeywordPIPELINING         // RFC 2920
	KeywordSIZE               // RFC 1870
	KeywordVRFY               // RFC 5321
	KeywordSTARTTLS           // RFC 3207; Others unless Rules.AllowTLS
	NumKeywords
)

// Rules is what a Dialogue must know of a policy before a byte comes: what it
// cannot ask its Judge about, because the answer decides how bytes already
// forwarded were read. It is shared by all sessions and never written to.
type Rules struct {
	MaskBanner     bool                  // star the text of a 2yz greeting
	AllowTLS       bool                  // STARTTLS passes, as a command and as a keyword
	MaskKeywords   [NumKeywords]bool     // EHLO keywords of these classes are overwritten
	Limits         [NumMeasures][]uint64 // ascending bounds of each measure
	AuthLineLength uint64                // bytes of an AUTH exchange line without CR LF; 0 means DefaultAuthLineLength
}

// DefaultAuthLineLength is RFC 4954's bound on a line of an AUTH exchange.
const DefaultAuthLineLength = 12288
