package smtp

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rulesWith are the default map's with a change.
func rulesWith(change func(*Rules)) func() *Rules {
	return func() *Rules {
		r := classicRules()
		change(&r)
		return NewRules(r)
	}
}

// everything allows and watches all there is.
func everything() *Rules {
	return rulesWith(func(r *Rules) {
		r.AllowTLS, r.AllowBDAT = true, true
		r.Commands = private
		r.Keywords = []string{"AUTH=", "HELP"}
		for m := range r.Within {
			r.Within[m] = true
		}
		for k := range r.Watch {
			r.Watch[k] = true
		}
	})()
}

var private = []Command{{"X-EXPS", LikeAUTH}, {"X-ANONYMOUSTLS", LikeSTARTTLS}, {"XEXCH50", LikeCounted}, {"X-LINK2STATE", LikeLine}}

func bdat(r *Rules)     { r.AllowBDAT = true }
func exchange(r *Rules) { r.Commands = private }

func watch(kinds ...Kind) func(*Rules) {
	return func(r *Rules) {
		for _, k := range kinds {
			r.Watch[k] = true
		}
	}
}

// offered is a session up to a server's offer of CHUNKING; 10 bytes of the
// client's, and what both ends get of it.
const (
	chunking       = "S: 220 x\nC: EHLO abc\nS: 250-mx\nS: 250 CHUNKING\n"
	chunkingClient = "220 *\n250-mx\n250 CHUNKING\n"
	chunkingServer = "EHLO abc\n"
)

var chunkingFacts = []string{"banner@6", `keyword 12 "CHUNKING"`}

func behind(facts []string, more ...string) []string { return append(slices.Clone(facts), more...) }

// The cases of what a map allows beyond the 15 commands, and of what it watches.
// Offsets count from 0; each expectation was worked out by hand.
var extensionCases = []dialogueCase{
	// BDAT (RFC 3030).
	{
		name:   "BDAT: octets are no commands, the next command follows at once",
		rules:  rulesWith(bdat),
		in:     chunking + "C: BDAT 6\nC: QUIT\nC: BDAT 7 last\nC: XFOO\nC: .\\\nC: RSET\nS: 250 a\nS: 250 b\nS: 250 c",
		server: chunkingServer + "BDAT 6\nQUIT\nBDAT 7 last\nXFOO\n.RSET\n",
		client: chunkingClient + "250 a\n250 b\n250 c\n",
		facts:  behind(chunkingFacts, "pipelined@24"),
	},
	{
		name:   "BDAT 0 LAST ends a message",
		rules:  rulesWith(func(r *Rules) { r.AllowBDAT = true; r.Within[CmdRcptCount] = true }),
		in:     chunking + "C: RCPT TO:<a>\nS: 250 ok\nC: BDAT 4\nC: ab\\\nC: \nS: 250 ok\nC: BDAT 0 LAST\nS: 250 ok\nC: RCPT TO:<b>\nS: 250 ok",
		server: chunkingServer + "RCPT TO:<a>\nBDAT 4\nab\nBDAT 0 LAST\nRCPT TO:<b>\n",
		client: chunkingClient + strings.Repeat("250 ok\n", 4),
		facts:  behind(chunkingFacts, "within@22 1=1", "within@60 1=1"),
	},
	{
		name:   "BDAT: a refused chunk is counted off",
		rules:  rulesWith(bdat),
		in:     chunking + "C: BDAT 6 LAST\nS: 503 no\nC: QUIT\nS: 221 bye",
		server: chunkingServer + "BDAT 6 LAST\nQUIT\n",
		client: chunkingClient + "503 no\n221 bye\n",
		facts:  behind(chunkingFacts, "unexpected@45 221"),
	},
	{
		name:   "BDAT is masked where the server has not offered CHUNKING: its octets are commands",
		rules:  rulesWith(bdat),
		in:     "S: 220 x\nC: EHLO a\nS: 250 mx\nC: BDAT 4\nS: 500 no\nC: XX",
		server: "EHLO a\nXXXXXX\nXX\n",
		client: "220 *\n250 mx\n500 no\n",
		facts:  []string{"banner@6", `unknown@15 "BDAT 4"`, `unknown@19 "XX"`},
	},
	{
		name:   "BDAT is masked behind a HELO, and while an EHLO is not answered",
		rules:  rulesWith(bdat),
		in:     chunking + "C: EHLO abc\nC: BDAT 4\nS: 250 mx\nS: 500 no\nC: HELO abc\nS: 250 mx\nC: BDAT 4",
		server: chunkingServer + "EHLO abc\nXXXXXX\nHELO abc\nXXXXXX\n",
		client: chunkingClient + "250 mx\n500 no\n250 mx\n",
		facts:  behind(chunkingFacts, "pipelined@20", `unknown@27 "BDAT 4"`, `unknown@45 "BDAT 4"`),
	},
	{
		name:   "BDAT without a count that all servers read alike is masked",
		rules:  rulesWith(bdat),
		in:     chunking + strings.Join([]string{"C: BDAT", "C: BDAT ", "C: BDAT x", "C: BDAT\\t5", "C: BDAT 5\\t", "C: BDAT 5x", "C: BDAT 5 LASTx", "C: BDAT 5 LAST x", "C: BDAT 5 LA", "C: BDAT 5 LA ", "C: BDAT 2147483648", "C: BDAT 00000000000000000005", "C: BDAT -1", "C: BDAT +1"}, "\nS: 500 no\n"),
		server: chunkingServer + "XXXX\nXXXXX\nXXXXXX\nXXXXXX\nXXXXXXX\nXXXXXXX\n" + strings.Repeat("X", 12) + "\n" + strings.Repeat("X", 13) + "\n" + strings.Repeat("X", 9) + "\n" + strings.Repeat("X", 10) + "\n" + strings.Repeat("X", 15) + "\n" + strings.Repeat("X", 25) + "\nXXXXXXX\nXXXXXXX\n",
		client: chunkingClient + strings.Repeat("500 no\n", 13),
		facts: behind(chunkingFacts, `unknown@15 "BDAT"`, `unknown@22 "BDAT "`, `unknown@30 "BDAT x"`, `unknown@38 "BDAT\t5"`, `unknown@47 "BDAT 5\t"`,
			`unknown@56 "BDAT 5x"`, `unknown@70 "BDAT 5 LASTx"`, `unknown@85 "BDAT 5 LAST x"`, `unknown@96 "BDAT 5 LA"`, `unknown@108 "BDAT 5 LA "`, `unknown@125 "BDAT 2147483648"`,
			`unknown@152 "BDAT 00000000000000000005"`, `unknown@161 "BDAT -1"`, `unknown@170 "BDAT +1"`),
	},
	{
		name:   "BDAT: blanks around the count and LAST, leading zeros",
		rules:  rulesWith(bdat),
		in:     chunking + "C: BDAT   0000000000000000003 \\\nC: \nC: 1\nC: bdat 3   LaSt  \nC: 1",
		server: chunkingServer + "BDAT   0000000000000000003 \n1\nbdat 3   LaSt  \n1\n",
		client: chunkingClient,
		facts:  behind(chunkingFacts, "pipelined@42"),
	},
	{
		name:   "BDAT behind a MAIL in the midst of a message waits for nothing and is masked",
		rules:  rulesWith(bdat),
		in:     chunking + "C: BDAT 3\nC: a\nC: MAIL FROM:<>\nC: BDAT 3 LAST\nS: 250 ok\nS: 250 ok\nS: 500 no",
		server: chunkingServer + "BDAT 3\na\nMAIL FROM:<>\nXXXXXXXXXXX\n",
		client: chunkingClient + "250 ok\n250 ok\n500 no\n",
		facts:  behind(chunkingFacts, "pipelined@21", `unknown@47 "BDAT 3 LAST"`),
	},
	{
		name:   "BDAT behind another command in the midst of a message is masked until a RSET, NOOP is none",
		rules:  rulesWith(bdat),
		in:     chunking + "C: BDAT 3\nC: a\nS: 250 ok\nC: NOOP\nS: 250 ok\nC: BDAT 3\nC: a\nS: 250 ok\nC: XFOO\nS: 503 no\nC: BDAT 3\nS: 500 no\nC: a\nS: 500 no\nC: RSET\nC: BDAT 3 LAST\nC: a",
		server: chunkingServer + "BDAT 3\na\nNOOP\nBDAT 3\na\nXXXX\nXXXXXX\nX\nRSET\nBDAT 3 LAST\na\n",
		client: chunkingClient + "250 ok\n250 ok\n250 ok\n503 no\n500 no\n500 no\n",
		facts:  behind(chunkingFacts, `unknown@43 "XFOO"`, `unknown@51 "BDAT 3"`, `unknown@54 "a"`, "pipelined@61"),
	},
	{
		name:   "an EHLO that is taken begins anew: chunks are welcome, and begin a message",
		rules:  rulesWith(func(r *Rules) { bdat(r); r.Limits[HeaderLineLength] = []uint64{6} }),
		in:     chunking + "C: BDAT 2\nC: \nS: 250 ok\nC: EHLO abc\nS: 250-mx\nS: 250 CHUNKING\nC: BDAT 9 LAST\nC: Subject",
		server: chunkingServer + "BDAT 2\n\nEHLO abc\nBDAT 9 LAST\nSubject\n",
		client: chunkingClient + "250 ok\n250-mx\n250 CHUNKING\n",
		facts:  behind(chunkingFacts, `keyword 12 "CHUNKING"`),
	},
	{
		name:   "SIZE of a MAIL whose reply is awaited counts for the chunks behind it",
		rules:  rulesWith(bdat),
		in:     chunking + "C: MAIL FROM:<> SIZE=2\nC: BDAT 3 LAST\nC: a",
		server: chunkingServer + "MAIL FROM:<> SIZE=2\nBDAT 3 LAST\na\n",
		client: chunkingClient,
		facts:  behind(chunkingFacts, "pipelined@31", "size@47 3>2"),
	},
	{
		name:   "XEXCH50 without octets: the server answers again at once",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: XEXCH50 0 2\nS: 354 go\nS: 250 ok\nC: XFOO",
		server: "XEXCH50 0 2\nXXXX\n",
		client: "220 *\n354 go\n250 ok\n",
		facts:  []string{"banner@6", `unknown@18 "XFOO"`},
	},
	{
		name:   "a masked NOOP between chunks is no NOOP",
		rules:  rulesWith(func(r *Rules) { bdat(r); r.MaskVerbs = []Verb{VerbNOOP}; r.Watch[KindVerb] = true }),
		in:     chunking + "C: BDAT 3\nC: a\nS: 250 ok\nC: NOOP\nS: 500 no\nC: BDAT 3",
		server: chunkingServer + "BDAT 3\na\nXXXX\nXXXXXX\n",
		client: chunkingClient + "250 ok\n500 no\n",
		facts: []string{"banner@6", "verb@4 EHLO", `keyword 12 "CHUNKING"`, "verb@14 BDAT", "verb@25 NOOP",
			`verb@34  "BDAT 3"`, `unknown@34 "BDAT 3"`},
	},
	{
		name:   "a session where MAIL and the first chunk of a message went together goes on behind the reply to MAIL",
		rules:  rulesWith(func(r *Rules) { bdat(r); r.Limits[HeaderLineLength] = []uint64{6} }),
		in:     chunking + "C: MAIL FROM:<>\nC: BDAT 2\nC: \nS: 250 ok\nS: 250 ok\nC: BDAT 9 LAST\nC: 1234567",
		server: chunkingServer + "MAIL FROM:<>\nBDAT 2\n\nBDAT 9 LAST\n1234567\n",
		client: chunkingClient + "250 ok\n250 ok\n",
		facts:  behind(chunkingFacts, "pipelined@24"),
	},
	{
		name:   "BDAT behind a RSET begins a message anew",
		rules:  rulesWith(func(r *Rules) { bdat(r); r.Limits[HeaderLineLength] = []uint64{6} }),
		in:     chunking + "C: BDAT 2\nC: \nC: RSET\nC: BDAT 12 LAST\nC: Subject: a\\",
		server: chunkingServer + "BDAT 2\n\nRSET\nBDAT 12 LAST\nSubject: a",
		client: chunkingClient,
		facts:  behind(chunkingFacts, "pipelined@20", "limit@46 3>6"),
	},
	{
		name:   "CHUNKING is masked and BDAT X-ed by default",
		in:     chunking + "C: BDAT 4\nS: 500 no",
		server: chunkingServer + "XXXXXX\n",
		client: "220 *\n250-mx\n250 XXXXXXXA\n500 no\n",
		facts:  []string{"banner@6", `keyword 0 "CHUNKING"`, `unknown@17 "BDAT 4"`},
	},

	// Private commands and keywords.
	{
		name:   "allowed keywords pass, one that ends in = as a prefix",
		rules:  rulesWith(func(r *Rules) { r.Keywords = []string{"AUTH=", "HELP"} }),
		in:     "S: 220 x\nC: EHLO a\nS: 250-mx\nS: 250-auth=LOGIN PLAIN\nS: 250-AUTH=\nS: 250-AUTH LOGIN\nS: 250-HELP\nS: 250-HELPME\nS: 250 AUTHX=",
		server: "EHLO a\n",
		client: "220 *\n250-mx\n250-auth=LOGIN PLAIN\n250-AUTH=\n250-AUTH LOGIN\n250-HELP\n250-XXXXXA\n250 XXXXXB\n",
		facts: []string{"banner@6", `keyword 13 "auth=LOGIN PLAIN"`, `keyword 13 "AUTH="`, `keyword 2 "AUTH LOGIN"`, `keyword 13 "HELP"`,
			`keyword 0 "HELPME"`, `keyword 0 "AUTHX="`},
	},
	{
		name:   "a private command like AUTH has an exchange",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: X-EXPS GSSAPI\nS: 334 go\nC: QUITE\nS: 235 ok\nC: X-EXPSS",
		server: "X-EXPS GSSAPI\nQUITE\nXXXXXXX\n",
		client: "220 *\n334 go\n235 ok\n",
		facts:  []string{"banner@6", `unknown@30 "X-EXPSS"`},
	},
	{
		name:   "a private command like STARTTLS opens TLS",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: X-ANONYMOUSTLS\nS: 220 go\nC: \x16\x03\x01\x00\x05\x01\\\nS: \x16\x03\x03\x00\x05\x02\\",
		server: "X-ANONYMOUSTLS\n\x16\x03\x01\x00\x05\x01",
		client: "220 *\n220 go\n\x16\x03\x03\x00\x05\x02",
		facts:  []string{"banner@6", "tls@20"},
	},
	{
		name:   "XEXCH50 counts its octets behind the 354",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: XEXCH50 6 2\nS: 354 go\nC: .\nC: .\nC: QUIT\nS: 250 ok\nS: 221 bye",
		server: "XEXCH50 6 2\n.\n.\nQUIT\n",
		client: "220 *\n354 go\n250 ok\n221 bye\n",
		facts:  []string{"banner@6", "pipelined@19"},
	},
	{
		name:   "XEXCH50 refused: what follows are commands",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: XEXCH50 7 2\nS: 504 no\nC: XFOO",
		server: "XEXCH50 7 2\nXXXX\n",
		client: "220 *\n504 no\n",
		facts:  []string{"banner@6", `unknown@18 "XFOO"`},
	},
	{
		name:   "XEXCH50 without a number is masked",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: XEXCH50 x2\nS: 500 no",
		server: strings.Repeat("X", 10) + "\n",
		client: "220 *\n500 no\n",
		facts:  []string{"banner@6", `unknown@11 "XEXCH50 x2"`},
	},
	{
		name:   "bytes glued behind XEXCH50 end the session",
		rules:  rulesWith(exchange),
		in:     "S: 220 x\nC: XEXCH50 2 2\nC: ab",
		client: "220 *\n",
		facts:  []string{"banner@6", "glued@13"},
	},

	// What a map masks although it is a command, and what it watches.
	{
		name: "a masked verb",
		rules: rulesWith(func(r *Rules) {
			r.MaskVerbs = []Verb{VerbVRFY, VerbHELP}
			r.Watch[KindVerb] = true
		}),
		answers: map[Kind]Action{KindVerb: Mask},
		in:      "S: 220 x\nC: VRFY root\nS: 500 no\nC: HELO a\nS: 250 mx\nC: HELP\nS: 500 no\nC: XFOO",
		server:  "XXXXXXXXX\nHELO a\nXXXX\nXXXX\n",
		client:  "220 *\n500 no\n250 mx\n500 no\n",
		facts:   []string{"banner@6", "verb@4 VRFY", "verb@15 HELO", "verb@23 HELP", `verb@30  "XFOO"`, `unknown@30 "XFOO"`},
	},
	{
		name: "BDAT and STARTTLS masked though they are allowed",
		rules: rulesWith(func(r *Rules) {
			r.AllowTLS, r.AllowBDAT = true, true
			r.MaskVerbs = []Verb{VerbSTARTTLS, VerbBDAT}
		}),
		in:     chunking + "C: STARTTLS\nC: BDAT 3\nC: a",
		server: chunkingServer + "XXXXXXXX\nXXXXXX\nX\n",
		client: chunkingClient,
		facts:  behind(chunkingFacts, "pipelined@20", `unknown@30 "a"`),
	},
	{
		name: "a verb that ends the session, at the byte behind it",
		rules: rulesWith(func(r *Rules) {
			r.Watch[KindVerb] = true
		}),
		answers: map[Kind]Action{KindVerb: End},
		in:      "S: 220 x\nC: ETRN a",
		client:  "220 *\n",
		facts:   []string{"banner@6", "verb@4 ETRN"},
	},
	{
		name: "require-tls masks mail commands outside TLS",
		rules: rulesWith(func(r *Rules) {
			r.AllowTLS, r.RequireTLS = true, true
			r.Commands = private
		}),
		in:     "S: 220 x\nC: MAIL FROM:<a|b>\nS: 500 no\nC: auth PLAIN secret\nS: 500 no\nC: RCPT TO:<a>\nS: 503 no\nC: NOOP\nS: 250 ok\nC: X-EXPS a",
		server: strings.Repeat("X", 15) + "\n" + strings.Repeat("X", 17) + "\nRCPT TO:<a>\nNOOP\nXXXXXXXX\n",
		client: "220 *\n500 no\n500 no\n503 no\n250 ok\n",
		facts:  []string{"banner@6", `tlsrequired@16 "MAIL FROM:<a|b>"`, `tlsrequired@35 "auth PLAIN secret"`, `tlsrequired@64 "X-EXPS a"`},
	},
	{
		name:   "paths are told without brackets and parameters",
		rules:  rulesWith(watch(KindSender, KindRecipient)),
		in:     "S: 220 x\nC: MAIL FROM:<a@b> SIZE=3\nS: 250 ok\nC: RCPT TO: @c:d@e x\nS: 250 ok\nC: RCPT TO:<\"a>b\"@c>\nS: 250 ok\nC: RCPT TO:x<y\nS: 250 ok\nC: SEND FROM:<>",
		server: "MAIL FROM:<a@b> SIZE=3\nRCPT TO: @c:d@e x\nRCPT TO:<\"a>b\"@c>\nRCPT TO:x<y\nSEND FROM:<>\n",
		client: "220 *\n" + strings.Repeat("250 ok\n", 4),
		facts: []string{"banner@6", `sender@14 "a@b"`, `recipient@39 "@c:d@e"`, `recipient@59 "\"a>b\"@c"`,
			`recipient@71 "x"`, `recipient@74 "y"`, `sender@86 ""`},
	},
	{
		name:   "a path too long to be kept is cut",
		rules:  rulesWith(func(r *Rules) { watch(KindSender)(r); r.Limits[CmdLineLength] = nil; r.Limits[SenderLength] = nil }),
		in:     "S: 220 x\nC: MAIL FROM:<" + strings.Repeat("a", 513) + ">\nS: 250 ok\nC: MAIL FROM:<" + strings.Repeat("b", 512) + ">",
		server: "MAIL FROM:<" + strings.Repeat("a", 513) + ">\nMAIL FROM:<" + strings.Repeat("b", 512) + ">\n",
		client: "220 *\n250 ok\n",
		facts:  []string{"banner@6", `sender@524 cut "` + strings.Repeat("a", 512) + `"`, `sender@1050 "` + strings.Repeat("b", 512) + `"`},
	},
	{
		name:   "a back quote and a NUL in a path",
		in:     "S: 220 x\nC: MAIL FROM:<`id`@b> X=`\nS: 250 ok\nC: RCPT TO:<a\\0b>",
		server: "MAIL FROM:<`id`@b> X=`\nRCPT TO:<a b>\n",
		client: "220 *\n250 ok\n",
		facts: []string{"banner@6", "special@11 \"MAIL FROM:<`\"", "special@14 again \"MAIL FROM:<`id`\"", `special@34 "RCPT TO:<a\x00"`,
			`replaced@38 "RCPT TO:<a\x00b>"`},
	},
	{
		name: "what ends within its bound is told",
		rules: rulesWith(func(r *Rules) {
			r.Within[CmdLineLength], r.Within[SenderLength], r.Within[CmdRcptCount], r.Within[InvalidRecipients] = true, true, true, true
		}),
		in:     "S: 220 x\nC: MAIL FROM:<abc>\nS: 250 ok\nC: RCPT TO:<a>\nS: 550 no\nC: XFOO\nS: 500 no",
		server: "MAIL FROM:<abc>\nRCPT TO:<a>\nXXXX\n",
		client: "220 *\n250 ok\n550 no\n500 no\n",
		facts: []string{"banner@6", "within@16 4=3", "within@16 0=17", "within@29 1=1", "within@29 0=13", "within@22 9=1",
			`unknown@35 "XFOO"`, "within@35 0=6"},
	},
	{
		name:   "invalid recipients count refusals for good, and begin anew with the transaction",
		rules:  rulesWith(func(r *Rules) { r.Limits[InvalidRecipients] = []uint64{1} }),
		in:     "S: 220 x\nC: RCPT TO:<a>\nC: RCPT TO:<b>\nC: RCPT TO:<c>\nC: RSET\nC: RCPT TO:<d>\nC: RCPT TO:<e>\nS: 550 no\nS: 450 later\nS: 553 no\nS: 250 ok\nS: 550 no\nS: 550 no",
		server: "RCPT TO:<a>\nRCPT TO:<b>\nRCPT TO:<c>\nRSET\nRCPT TO:<d>\nRCPT TO:<e>\n",
		client: "220 *\n550 no\n450 later\n553 no\n250 ok\n550 no\n550 no\n",
		facts:  []string{"banner@6", "pipelined@13", "limit@33 9>1", "limit@57 9>1"},
	},
	{
		name: "auth-line-length bounds the AUTH command instead of cmd line length",
		rules: rulesWith(func(r *Rules) {
			r.Limits[CmdLineLength], r.AuthLineLength, r.AuthCommand = []uint64{12}, 16, true
		}),
		in:     "S: 220 x\nC: AUTH PLAIN 12345\nS: 235 ok\nC: AUTH PLAIN 123456\nS: 235 ok\nC: NOOP 789012",
		server: "AUTH PLAIN 12345\nAUTH PLAIN 123456\nNOOP 789012\n",
		client: "220 *\n235 ok\n235 ok\n",
		facts:  []string{"banner@6", "authline@34", "limit@49 0>12"},
	},

	// Dialogue.
	{
		name:   "MAIL with PRDR is masked: the dot would get a reply for each recipient",
		in:     "S: 220 x\nC: MAIL FROM:<a> SIZE=1 prdr\nS: 500 no\nC: MAIL FROM:<PRDR> XPRDR PRD\nS: 555 no\nC: RCPT TO:<a> PRDR",
		server: strings.Repeat("X", 25) + "\nMAIL FROM:<PRDR> XPRDR PRD\nRCPT TO:<a> PRDR\n",
		client: "220 *\n500 no\n555 no\n",
		facts:  []string{"banner@6", `parameter@26 "MAIL FROM:<a> SIZE=1 prdr"`},
	},
	{
		name:   "behind the reply to QUIT nothing is a command",
		in:     "S: 220 x\nC: QUIT\nC: RSET\nS: 221 bye\nC: RSET\nC: MAIL FROM:<a>\nC: ",
		server: "QUIT\nRSET\nXXXX\nXXXXXXXXXXXXX\n\n",
		client: "220 *\n221 bye\n",
		facts:  []string{"banner@6", "pipelined@6", `afterquit@17 "RSET"`, `afterquit@32 "MAIL FROM:<a>"`},
	},
	{
		name:    "pipelining masked: a command that did not wait",
		answers: map[Kind]Action{KindPipelined: Mask},
		in:      "S: 220 x\nC: EHLO a\nS: 250-a\nS: 250 PIPELINING\nC: MAIL FROM:<a>\nC: RCPT TO:<b>\nS: 250 ok\nS: 500 no\nC: RSET",
		server:  "EHLO a\nMAIL FROM:<a>\nXXXXXXXXXXX\nRSET\n",
		client:  "220 *\n250-a\n250 PIPELINING\n250 ok\n500 no\n",
		facts:   []string{"banner@6", `keyword 8 "PIPELINING"`, "pipelined@23"},
	},
	{
		name:   "replies that their commands do not take",
		in:     "S: 220 x\nC: NOOP\nS: 150 wait\nC: DATA\nS: 250 what?\nC: MAIL FROM:<a>\nS: 300 hm\nC: XFOO\nS: 250 ok\nC: RSET\nS: 250-a\nS: 550 b",
		server: "NOOP\nDATA\nMAIL FROM:<a>\nXXXX\nRSET\n",
		client: "220 *\n150 wait\n250 what?\n300 hm\n250 ok\n250-a\n550 b\n",
		facts: []string{"banner@6", `transition@16 150 "command"`, `transition@27 250 "DATA"`, `transition@35 300 "MAIL"`,
			`unknown@32 "XFOO"`, `transition@43 250 "masked line"`, `transition@57 550 "RSET"`},
	},
	{
		name:   "a reply with two codes of which one opens a mode",
		in:     "S: 220 x\nC: DATA\nS: 354-go\nS: 554 no",
		server: "DATA\n",
		client: "220 *\n354-go\n554 no\n",
		facts:  []string{"banner@6", "undecided@22 554"},
	},
	{
		name:   "a reply line over 512 bytes is told once",
		in:     "S: 220 " + strings.Repeat("2", 506) + "\nC: NOOP\nS: 250 " + strings.Repeat("a", 507) + "\nC: NOOP\nS: 250 " + strings.Repeat("a", 507),
		server: "NOOP\nNOOP\n",
		client: "220 " + strings.Repeat("2", 506) + "\n250 " + strings.Repeat("a", 507) + "\n250 " + strings.Repeat("a", 507) + "\n",
		facts:  []string{"banner@511", "replyline@1024"},
	},
	{
		name:   "PIPELINING of an earlier EHLO is gone with the next",
		in:     "S: 220 x\nC: EHLO a\nS: 250-a\nS: 250 PIPELINING\nC: HELO a\nS: 250 a\nC: MAIL FROM:<a>\nC: RSET",
		server: "EHLO a\nHELO a\nMAIL FROM:<a>\nRSET\n",
		client: "220 *\n250-a\n250 PIPELINING\n250 a\n",
		facts:  []string{"banner@6", `keyword 8 "PIPELINING"`, "pipelined@31"},
	},
}

// A line over 16384 bytes ends the session whatever the map says, at the byte
// beyond them: servers cut it in different places.
func TestLineTooLong(t *testing.T) {
	rules := rulesWith(func(r *Rules) { r.Limits[CmdLineLength], r.AuthLineLength = nil, 1<<20 })()
	fits, tooLong := strings.Repeat("a", 16377), strings.Repeat("a", 16378) // behind "NOOP ", before CR LF
	for _, c := range []struct{ name, in, fact string }{
		{"command", "S: 220 x\nC: NOOP " + fits + "\nS: 250 ok\nC: NOOP " + tooLong, "toolong@32768"},
		{"AUTH line", "S: 220 x\nC: AUTH A\nS: 334 x\nC: " + fits + "12345\nS: 334 x\nC: " + tooLong + "12345", "toolong@32774"},
	} {
		for _, size := range []int{1 << 20, 1000, 1} {
			rec := &recorder{}
			_, ready := run(rules, rec, transcript(c.in), func(s string) (pieces []string) {
				for piece := range slices.Chunk([]byte(s), size) {
					pieces = append(pieces, string(piece))
				}
				return pieces
			})
			if diff := cmp.Diff([]string{"banner@6", c.fact}, rec.facts); diff != "" || !ready {
				t.Errorf("%s in pieces of %d: facts (-want +got):\n%s", c.name, size, diff)
			}
		}
	}
}

// passes notes the facts that say that nothing was left to mask.
type passes []string

func (p *passes) Judge(f Fact) Action {
	if f.Passed {
		*p = append(*p, string(f.Text))
	}
	return Pass
}

// A fact about what is masked says so where all of it had passed in earlier
// packets.
func TestPassed(t *testing.T) {
	for _, c := range []struct {
		name string
		side Side
		cut  []string
		out  string
		want []string
	}{
		{"a whole command", Client, []string{"NOO\r\n"}, "XXX\r\n", nil},
		{"its beginning", Client, []string{"NOO", "Q\r\n"}, "NOOX\r\n", nil},
		{"all of it", Client, []string{"NOO", "\r\n"}, "NOO\r\n", []string{"NOO"}},
		{"all of it and the CR", Client, []string{"NOO\r", "\n"}, "XXX\r\n", nil},
		{"a whole keyword", Server, []string{"250-x\r\n250 SIZ\r\n"}, "250-x\r\n250 XXA\r\n", nil},
		{"its beginning", Server, []string{"250-x\r\n250 SI", "Z\r\n"}, "250-x\r\n250 SIA\r\n", nil},
		{"all of it", Server, []string{"250-x\r\n250 SIZ", "\r\n"}, "250-x\r\n250 SIZ\r\n", []string{"SIZ"}},
	} {
		var d Dialogue
		d.Init(classic())
		var got passes
		d.Feed(Server, []byte("220 x\r\n"), &got)
		d.Feed(Client, []byte("EHLO a\r\n"), &got)
		if c.side == Client {
			d.Feed(Server, []byte("250 x\r\n"), &got)
		}
		out := ""
		for _, piece := range c.cut {
			b := []byte(piece)
			d.Feed(c.side, b, &got)
			out += string(b)
		}
		if diff := cmp.Diff(c.want, []string(got)); diff != "" || out != c.out {
			t.Errorf("%s: became %q, want %q; facts (-want +got):\n%s", c.name, out, c.out, diff)
		}
	}
}
