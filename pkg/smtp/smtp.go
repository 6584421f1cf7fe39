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

// The kinds of Fact. Those marked "if watched" come only if Rules.Watch asks for
// them.
const (
	KindNone             Kind = iota
	KindLimit                 // a Measure went beyond one of Rules.Limits; Value is the count reached
	KindWithin                // what a Measure measures is over, at Value (of the measures in Rules.Within)
	KindVerb                  // if watched: a command word was read; Verb says which
	KindSender                // if watched: Text is the path of MAIL, SEND, SOML or SAML, without brackets
	KindRecipient             // if watched: Text is the path of RCPT, without brackets
	KindMediaType             // if watched: Text is the type/subtype of a Content-Type, lower case
	KindEncoding              // if watched: a Content-Transfer-Encoding; Encoding says which, Text its token
	KindUnknownCommand        // a command line whose word is not allowed; it is masked whatever the Judge says
	KindTLSRequired           // a command that Rules.RequireTLS masks; it is masked whatever the Judge says
	KindParameterRefused      // MAIL with a parameter that may not pass (PRDR); it is masked whatever the Judge says
	KindAfterQuit             // a command behind the reply to QUIT; it is masked whatever the Judge says
	KindPipe                  // a pipe in the argument of MAIL or RCPT
	KindSpecialCharacter      // a back quote or NUL in the path of MAIL, SEND, SOML, SAML or RCPT
	KindAddressReplaced       // bytes of a path were replaced by spaces; Text is the argument as the client sent it
	KindBareNewline           // a CR or LF in a command that is not part of CR LF
	KindAuthNewline           // the same in a line of an AUTH exchange, which is never masked
	KindDotLine               // DATA: a line holding one dot with a neighbour that is not CR LF
	KindPipelined             // a command that did not wait for the reply before it; Repeat: PIPELINING was announced
	KindGroupEnd              // the same, behind a command that has to be the last of its group (RFC 2920 section 3.1)
	KindEarlyTalker           // a command before the greeting
	KindGluedBytes            // client bytes in the packet of a line whose reply decides how to read them
	KindTLSInjection          // bytes glued behind STARTTLS or behind its 220
	KindTLSMissing            // after the 220 to STARTTLS something else than a TLS handshake came
	KindTLSStarted            // ClientHello and ServerHello seen: the rest is opaque
	KindBanner                // a 2yz greeting was masked (reported at its last line's end)
	KindEHLOKeyword           // a keyword of an EHLO reply; Keyword says which
	KindUnexpectedReply       // a reply that answers no command (Value is its code)
	KindTransition            // a reply that its command does not take, or whose lines differ in their codes (Value is its code, Text the command)
	KindReplyLine             // a reply line over 512 bytes, CR LF included (RFC 5321 section 4.5.3.1.5)
	KindSizeExceeded          // a message of Value octets where MAIL had declared SIZE=Limit (RFC 1870)
	KindUndecided             // 354 or 334 without its command, or a reply both: nobody can say how the client's bytes are read
	KindCountUnclear          // a BDAT line (or one like it) whose count has passed and whose rest is no syntax for it: likewise
	KindLineUnclear           // a command or AUTH line over 16384 bytes (Limit), which servers cut in different places: likewise
	KindOverflow              // more commands await a reply than the dialogue keeps
	KindAuthLine              // an AUTH line over Rules.AuthLineLength
	NumKinds
)

// Fact is one finding about the session.
type Fact struct {
	Kind     Kind
	Side     Side
	Measure  Measure  // KindLimit, KindWithin
	Keyword  Keyword  // KindEHLOKeyword
	Verb     Verb     // KindVerb; VerbUnknown for a word that is not allowed
	Encoding Encoding // KindEncoding
	Limit    uint64   // KindLimit, KindAuthLine: the bound that was passed; KindSizeExceeded: the octets declared
	Value    uint64   // KindLimit: the first value beyond Limit; KindWithin: the final one; replies: the code
	Repeat   bool     // not the first of its message, line or session: nothing new for a log
	Passed   bool     // KindUnknownCommand, KindEHLOKeyword: what was to be masked had passed in earlier packets
	Cut      bool     // KindSender, KindRecipient, KindMediaType: Text is not all of it
	Offset   uint64   // of the byte that made the finding, counted from the first payload byte of its side
	Text     []byte   // the line (or value) concerned as it was sent, at most MaxText bytes; valid during Judge only
}

// MaxText bounds Fact.Text: the longest command line of RFC 5321 4.5.3.1.4. A
// path has at most 256 octets (4.5.3.1.3), a media type 255 (RFC 6838 4.2).
const MaxText = 512

// Measure is something counted against a bound of the policy (design.md section
// 5). Every bound N means "more than N".
type Measure uint8

// The measures.
const (
	CmdLineLength     Measure = iota // bytes of a command line with its CR LF, masked or not
	CmdRcptCount                     // RCPT lines forwarded unmasked in the transaction
	BodyLineLength                   // a line behind the header, without its end and its stuffing dot
	HeaderLineLength                 // a physical line of the message's own header, without its end
	SenderLength                     // the path of MAIL, SEND, SOML, SAML, without brackets
	FilenameLength                   // a MIME filename or name, decoded, before charset conversion
	BodyLength                       // octets behind the header's empty line, line ends counted
	HeaderLength                     // octets of the message's own header, line ends counted, the empty line not
	ToFieldsCount                    // fields named To in the message's own header
	InvalidRecipients                // forwarded RCPT lines of the transaction that were answered 5yz
	TypeLength                       // type/subtype of a Content-Type
	NumMeasures
)

// Encoding is a Content-Transfer-Encoding (RFC 2045 section 6.1).
type Encoding uint8

// The encodings, in the order of the ASA's list.
const (
	Encoding7bit Encoding = iota
	Encoding8bit
	EncodingBase64
	EncodingBinary
	EncodingOthers // a token that is none of the five
	EncodingQuotedPrintable
	NumEncodings
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
	KeywordCHUNKING           // RFC 3030; Others unless Rules.AllowBDAT
	KeywordAllowed            // one of Rules.Keywords: it always passes
	NumKeywords
)

// Like says how a private command is followed.
type Like uint8

// The kinds of private commands (design.md section 5, allow-command).
const (
	LikeLine     Like = iota // a line and its reply
	LikeAUTH                 // 334 opens an exchange of lines
	LikeSTARTTLS             // 220 opens TLS
	LikeCounted              // 354 opens as many octets as its first argument says (XEXCH50)
)

// Command is a private command that passes.
type Command struct {
	Word string // upper case letters, digits and '-'
	Like Like
}

// MaxPrivate bounds Rules.Commands and Rules.Keywords; no server has more of
// either.
const MaxPrivate = 64

// Rules is what a Dialogue must know of a policy before a byte comes: what it
// cannot ask its Judge about, because the answer decides how bytes already
// forwarded were read. NewRules makes them; they are shared by all sessions and
// never written to.
type Rules struct {
	MaskBanner     bool                  // star the text of a 2yz greeting
	AllowTLS       bool                  // STARTTLS passes, as a command and as a keyword
	RequireTLS     bool                  // MAIL, SEND, SOML, SAML and AUTH are masked: they pass inside TLS only
	AllowBDAT      bool                  // CHUNKING passes, and BDAT where the server has offered it
	Commands       []Command             // at most MaxPrivate
	Keywords       []string              // EHLO keywords that pass, upper case; one that ends in "=" is a prefix; at most MaxPrivate
	MaskVerbs      []Verb                // these are masked although they are allowed
	MaskKeywords   [NumKeywords]bool     // EHLO keywords of these classes are overwritten
	Limits         [NumMeasures][]uint64 // ascending bounds of each measure
	Within         [NumMeasures]bool     // KindWithin is wanted for these
	Watch          [NumKinds]bool        // the Judge wants these kinds, of those that say "if watched"
	AuthLineLength uint64                // bytes of an AUTH exchange line without CR LF; 0 means DefaultAuthLineLength
	AuthCommand    bool                  // AuthLineLength bounds the AUTH command too, instead of CmdLineLength

	commandWords wordSet
	keywordWords wordSet
	masked       [256]bool // by Verb
}

// DefaultAuthLineLength is RFC 4954's bound on a line of an AUTH exchange.
const DefaultAuthLineLength = 12288
