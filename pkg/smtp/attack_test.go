package smtp

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// inChunks is a session in the midst of a message in chunks: 18 bytes of the
// client's, of which the last are "a" and CR LF.
const (
	inChunks       = chunking + "C: BDAT 3\nC: a\nS: 250 ok\n"
	inChunksClient = chunkingClient + "250 ok\n"
	inChunksServer = chunkingServer + "BDAT 3\na\n"
)

// followed watches what decides on paths.
func followed(r *Rules) {
	watch(KindSender, KindRecipient)(r)
	r.Limits[SenderLength] = nil
}

// The cases of a peer that means the server to read something else than we do.
// What Exim 4.96 makes of a line was tried with that server. Offsets count from
// 0; each expectation was worked out by hand.
var attackCases = []dialogueCase{
	{
		name:   "a control byte or > behind the colon hides no path: the server gets a space there",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: RCPT TO:\\0c\\vd@e.example>\nS: 250 ok\nC: RCPT TO:>\\va@b",
		server: "RCPT TO: c d@e.example \nRCPT TO:  a@b\n",
		client: "220 *\n250 ok\n",
		facts: []string{"banner@6", `special@8 "RCPT TO:\x00"`, `recipient@10 "c"`, `recipient@22 "@e.example"`, `replaced@24 "RCPT TO:\x00c\vd@e.example>"`,
			`recipient@39 "a@b"`, `replaced@39 "RCPT TO:>\va@b"`},
	},
	// S11. Exim takes no chunk behind what it refused in the midst of a message:
	// the octets of the next one are commands to it, the first of which is RSET.
	{
		name:   "BDAT behind a RSET with an argument is masked: Exim refuses that RSET and reads the octets as commands",
		rules:  rulesWith(bdat),
		in:     inChunks + "C: RSET x\nS: 503 no\nC: BDAT 12 LAST\nC: RSET\nC: XFOO",
		server: inChunksServer + "RSET x\nXXXXXXXXXXXX\nRSET\nXXXX\n",
		client: inChunksClient + "503 no\n",
		facts:  behind(chunkingFacts, `unknown@42 "BDAT 12 LAST"`, "pipelined@43", `unknown@54 "XFOO"`),
	},
	{
		name:   "BDAT behind a NOOP with a TAB is masked: Exim does not know that NOOP",
		rules:  rulesWith(bdat),
		in:     inChunks + "C: NOOP\\t\nS: 503 no\nC: BDAT 12 LAST",
		server: inChunksServer + "NOOP\t\nXXXXXXXXXXXX\n",
		client: inChunksClient + "503 no\n",
		facts:  behind(chunkingFacts, `unknown@41 "BDAT 12 LAST"`),
	},
	{
		name:   "BDAT behind a NOOP with a NUL is masked: Exim refuses that NOOP",
		rules:  rulesWith(bdat),
		in:     inChunks + "C: NOOP \\0\nS: 503 no\nC: BDAT 12 LAST",
		server: inChunksServer + "NOOP \x00\nXXXXXXXXXXXX\n",
		client: inChunksClient + "503 no\n",
		facts:  behind(chunkingFacts, `unknown@42 "BDAT 12 LAST"`),
	},
	{
		name:   "BDAT behind an empty chunk in the midst of a message is masked: Exim refuses that chunk",
		rules:  rulesWith(bdat),
		in:     inChunks + "C: BDAT 00\nS: 504 no\nC: BDAT 12 LAST\nS: 503 no\nC: RSET\nC: BDAT 0\nC: BDAT 2\nC: ",
		server: inChunksServer + "BDAT 00\nXXXXXXXXXXXX\nRSET\nBDAT 0\nBDAT 2\n\n",
		client: inChunksClient + "504 no\n503 no\n",
		facts:  behind(chunkingFacts, `unknown@43 "BDAT 12 LAST"`, "pipelined@50"),
	},
	{
		name:   "blanks behind RSET and NOOP are no argument",
		rules:  rulesWith(bdat),
		in:     inChunks + "C: NOOP  \nS: 250 ok\nC: BDAT 3\nC: b\nS: 250 ok\nC: RSET \nS: 250 ok\nC: BDAT 0 LAST",
		server: inChunksServer + "NOOP  \nBDAT 3\nb\nRSET \nBDAT 0 LAST\n",
		client: inChunksClient + "250 ok\n250 ok\n250 ok\n",
		facts:  chunkingFacts,
	},

	// S14. PRDR makes Exim answer the dot once for each recipient. Every white
	// space of C stands before a parameter for it.
	{
		name:   "PRDR behind a vertical tab is masked",
		in:     "S: 220 x\nC: MAIL FROM:<a>\\vPRDR",
		server: strings.Repeat("X", 18) + "\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `parameter@19 "MAIL FROM:<a>\vPRDR"`},
	},
	{
		name:   "PRDR behind a control byte that becomes a space is masked",
		in:     "S: 220 x\nC: MAIL FROM:a\\vPRDR",
		server: strings.Repeat("X", 16) + "\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `parameter@17 "MAIL FROM:a\vPRDR"`},
	},
	{
		name:   "PRDR in a comment that nothing closes is masked",
		in:     "S: 220 x\nC: MAIL FROM:a(c PRDR",
		server: strings.Repeat("X", 18) + "\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `parameter@19 "MAIL FROM:a(c PRDR"`},
	},
	{
		name:   "PRDR behind a quote in a comment of the path is masked",
		in:     "S: 220 x\nC: MAIL FROM:<(\")a> PRDR",
		server: strings.Repeat("X", 21) + "\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `parameter@22 "MAIL FROM:<(\")a> PRDR"`},
	},
	{
		name:   "PRDR at the beginning of a path is none",
		in:     "S: 220 x\nC: MAIL FROM:<PRDR=@x>\nS: 250 ok\nC: MAIL FROM:PRDR@x\nS: 250 ok\nC: MAIL FROM:<a=b>PRDR",
		server: "MAIL FROM:<PRDR=@x>\nMAIL FROM:PRDR@x\n" + strings.Repeat("X", 19) + "\n",
		client: "220 *\n250 ok\n250 ok\n",
		facts:  []string{"banner@6", `parameter@59 "MAIL FROM:<a=b>PRDR"`},
	},

	// S18. All of these were mail for b at y to Exim, whatever x is.
	{
		name:   "a quoted string may hold blanks, '=' and '<'",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: RCPT TO:\"b c=d\"@y\nC: RCPT TO:\"<a@x\"@y\nC: RCPT TO:\"\\\" <a@x\"@y\nC: RCPT TO:b\\ c@y",
		server: "RCPT TO:\"b c=d\"@y\nRCPT TO:\"<a@x\"@y\nRCPT TO:\"\\\" <a@x\"@y\nRCPT TO:b\\ c@y\n",
		client: "220 *\n",
		facts: []string{"banner@6", `recipient@18 "\"b c=d\"@y"`, "pipelined@19", `recipient@36 "\"<a@x\"@y"`,
			`recipient@57 "\"\\\" <a@x\"@y"`, `recipient@73 "b\\ c@y"`},
	},
	{
		name:   "a comment is part of its word",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: RCPT TO:(<a@x =)b@y",
		server: "RCPT TO:(<a@x =)b@y\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `recipient@20 "(<a@x =)b@y"`},
	},
	{
		name:   "a phrase or a comment may hold a path: the one behind it is told too",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: RCPT TO:\"<a@x>\" <b@y>\nS: 250 ok\nC: RCPT TO:(a@x) b@y\nS: 250 ok\nC: RCPT TO:<(a@x>)b@y>",
		server: "RCPT TO:\"<a@x \" <b@y>\nRCPT TO:(a@x) b@y\nRCPT TO:<(a@x>)b@y \n",
		client: "220 *\n250 ok\n250 ok\n",
		facts: []string{"banner@6", `recipient@15 "\"<a@x \""`, `recipient@20 "b@y"`, `replaced@22 "RCPT TO:\"<a@x>\" <b@y>"`,
			`recipient@36 "(a@x)"`, `recipient@41 "@y"`, `recipient@55 "(a@x"`, `recipient@60 "@y"`, `replaced@62 "RCPT TO:<(a@x>)b@y>"`},
	},
	{
		name:   "an escaped '>' ends no path",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: MAIL FROM:<a\\>b@y>",
		server: "MAIL FROM:<a\\>b@y>\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `sender@17 "a\\>b@y"`},
	},
	{
		name:   "parameters are no paths",
		rules:  rulesWith(followed),
		in:     "S: 220 x\nC: MAIL FROM:<a@x> AUTH=<> ENVID=b@y SIZE=1\nC: RCPT TO:<a@x> ORCPT=rfc822;<b@y>",
		server: "MAIL FROM:<a@x> AUTH=<> ENVID=b@y SIZE=1\nRCPT TO:<a@x> ORCPT=rfc822;<b@y>\n",
		client: "220 *\n",
		facts:  []string{"banner@6", `sender@14 "a@x"`, "pipelined@42", `recipient@54 "a@x"`},
	},

	// S2, S15. Where a bare newline only is logged, a reply shows that the server
	// took it for an end: what follows is commands to it.
	{
		name:    "a reply behind a dot line that only is logged: the server has ended the message",
		answers: map[Kind]Action{KindUndecided: End},
		in:      "S: 220 x\nC: DATA\nS: 354 go\nC: a\\n.\\nXFOO\nS: 250 queued\nC: MAIL FROM:<a>",
		server:  "DATA\na\n.\nXFOO\n",
		client:  "220 *\n354 go\n",
		facts:   []string{"banner@6", "dotline@9", "undecided@26 250"},
	},
	{
		name:   "421 behind such a line ends nothing",
		in:     "S: 220 x\nC: DATA\nS: 354 go\nC: a\\n.\\nb\nS: 421 bye\nC: .\nS: 250 queued",
		server: "DATA\na\n.\nb\n.\n",
		client: "220 *\n354 go\n421 bye\n250 queued\n",
		facts:  []string{"banner@6", "dotline@9"},
	},
	{
		name:    "a reply within an AUTH line that holds a bare newline: the server has ended it",
		answers: map[Kind]Action{KindUndecided: End},
		in:      "S: 220 x\nC: AUTH A\nS: 334 x\nC: *\\n\\\nS: 501 no\nC: XFOO\\n\\",
		server:  "AUTH A\n*\n",
		client:  "220 *\n334 x\n",
		facts:   []string{"banner@6", "authbare@9", "undecided@21 501"},
	},
	{
		name:   "a reply in the midst of a message without such a line is an event",
		in:     "S: 220 x\nC: DATA\nS: 354 go\nC: a\nS: 451 disk full\nC: .\nS: 451 no",
		server: "DATA\na\n.\n",
		client: "220 *\n354 go\n451 disk full\n451 no\n",
		facts:  []string{"banner@6", "unexpected@29 451"},
	},

	// S7. A server may warn that it does not know the name it was asked for.
	{
		name:   "a TLS warning before the ServerHello does not end the handshake",
		rules:  withTLS,
		in:     "S: 220 x\nC: STARTTLS\nS: 220 go\nC: \x16\x03\x01\x00\x05\x01\\\nS: \x15\x03\x03\\0\x02\x01\x70\x16\x03\x03\x00\x05\x02\\",
		server: "STARTTLS\n\x16\x03\x01\x00\x05\x01",
		client: "220 *\n220 go\n\x15\x03\x03\x00\x02\x01\x70\x16\x03\x03\x00\x05\x02",
		facts:  []string{"banner@6", "tls@27"},
	},
	{
		name:   "behind a TLS warning the clear is none",
		rules:  withTLS,
		in:     "S: 220 x\nC: STARTTLS\nS: 220 go\nC: \x16\x03\x01\x00\x05\x01\\\nS: \x15\x03\x03\\0\x02\x01\x00\\\nS: 454 no",
		server: "STARTTLS\n\x16\x03\x01\x00\x05\x01",
		client: "220 *\n220 go\n",
		facts:  []string{"banner@6", "notls@22"},
	},
	{
		name:   "behind a fatal alert there is no handshake",
		rules:  withTLS,
		in:     "S: 220 x\nC: STARTTLS\nS: 220 go\nC: \x16\x03\x01\x00\x05\x01\\\nS: \x15\x03\x03\\0\x02\x02\x28\x16\x03\x03\x00\x05\x02\\",
		server: "STARTTLS\n\x16\x03\x01\x00\x05\x01",
		client: "220 *\n220 go\n",
		facts:  []string{"banner@6", "notls@22"},
	},
}

// The path as it was read is the path that the server gets: read once more, the
// edited line gives the same paths and no further edit.
func TestPathIsWhatTheServerGets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ab@.<>\"\\()\x00\x02\t :,=S"
	for range 20000 {
		line := []byte([]string{"RCPT TO", "MAIL FROM:", "RCPT TO:<"}[rnd.IntN(3)])
		for range rnd.IntN(14) {
			line = append(line, alphabet[rnd.IntN(len(alphabet))])
		}
		line = append(line, "\r\n"...)
		sent := string(line)
		first, again := readLine(line), readLine(line)
		if strings.Join(first, "|") != strings.Join(again, "|") {
			t.Fatalf("%q becomes %q:\nread as %q\nand then as %q", sent, line, first, again)
		}
	}
}

// readLine lets a session read a command line, edits it, and returns the paths in
// it.
func readLine(line []byte) (paths []string) {
	r := classicRules()
	followed(&r)
	var d Dialogue
	d.Init(NewRules(r))
	feedAll(&d, "S: 220 x")
	rec := &recorder{}
	d.Feed(Client, line, rec)
	for _, f := range rec.facts {
		if strings.HasPrefix(f, "recipient") || strings.HasPrefix(f, "sender") {
			paths = append(paths, f)
		}
	}
	return paths
}
