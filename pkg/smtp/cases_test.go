package smtp

import "strings"

// Offsets in facts count payload bytes of the side from 0. Each expectation was
// worked out by hand from design.md section 6.
var dialogueCases = []dialogueCase{
	{
		name:   "banner keeps 2, 0 and the code",
		in:     `S: 220 mail2.example.net ESMTP 2026`,
		client: "220 ****2*******************202*\n",
		facts:  []string{"banner@33"},
	},
	{
		name: "every line of a greeting keeps code and separator",
		in: `
S: 220-mx ready
S: 220-
S: 220 second`,
		client: "220-********\n220-\n220 ******\n",
		facts:  []string{"banner@31"},
	},
	{
		name:   "a refusal's text helps the sender",
		in:     `S: 554 go away 2 day`,
		client: "554 go away 2 day\n",
	},
	{
		name: "EHLO reply masks others and counts letters",
		in: `
S: 220 x
C: EHLO a.example
S: 250-mx STARTTLS greets you
S: 250-PIPELINING
S: 250-STARTTLS
S: 250-size 10240000
S: 250-X-EXPS GSSAPI NTLM
S: 250-AUTH=LOGIN
S: 250-AUTH LOGIN
S: 250 OK`,
		server: "EHLO a.example\n",
		client: "220 *\n250-mx STARTTLS greets you\n250-PIPELINING\n250-XXXXXXXA\n250-size 10240000\n" +
			"250-XXXXXXXXXXXXXXXXXB\n250-XXXXXXXXXC\n250-AUTH LOGIN\n250 XD\n",
		facts: []string{
			"banner@6",
			`keyword 8 "PIPELINING"`, `keyword 0 "STARTTLS"`, `keyword 9 "size 10240000"`, `keyword 0 "X-EXPS GSSAPI NTLM"`,
			`keyword 0 "AUTH=LOGIN"`, `keyword 2 "AUTH LOGIN"`, `keyword 0 "OK"`,
		},
	},
	{
		name: "letters start again with each reply and wrap behind Z",
		in: `
S: 220 x
C: EHLO a
S: 250-mx
` + strings.Repeat("S: 250-FOO\n", 27) + `S: 250 BAR
C: EHLO b
S: 250-mx
S: 250 FOO`,
		server: "EHLO a\nEHLO b\n",
		client: func() string {
			s := "220 *\n250-mx\n"
			for i := range 27 {
				s += "250-XX" + string(rune('A'+i%26)) + "\n"
			}
			return s + "250 XXB\n250-mx\n250 XXA\n"
		}(),
		facts: append(append([]string{"banner@6"}, func() (fs []string) {
			for range 27 {
				fs = append(fs, `keyword 0 "FOO"`)
			}
			return append(fs, `keyword 0 "BAR"`)
		}()...), `keyword 0 "FOO"`),
	},
	{
		name:   "STARTTLS passes with allow-tls",
		rules:  withTLS,
		in:     "S: 220 x\nC: EHLO a\nS: 250-mx\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go ahead\nC: \x16\x03\x01\x02\x00\x01hello\\\nS: \x16\x03\x03\x00\x7a\x02hello\\\nC: VRFY |",
		server: "EHLO a\nSTARTTLS\n\x16\x03\x01\x02\x00\x01helloVRFY |\n",
		client: "220 *\n250-mx\n250 STARTTLS\n220 go ahead\n\x16\x03\x03\x00\x7a\x02hello",
		facts:  []string{"banner@6", `keyword 11 "STARTTLS"`, "tls@48"},
	},
	{
		name:   "220 is the reply to STARTTLS whatever the server skipped before it",
		rules:  withTLS,
		in:     "S: 220 x\nC: NOOP\nC: STARTTLS\nS: 220 go\nC: \x16\x03\x01\x00\x05\x01\\\nS: \x16\x03\x03\x00\x05\x02\\",
		server: "NOOP\nSTARTTLS\n\x16\x03\x01\x00\x05\x01",
		client: "220 *\n220 go\n\x16\x03\x03\x00\x05\x02",
		facts:  []string{"banner@6", "pipelined@6", "tls@20"},
	},
	{
		name:  "bytes glued behind STARTTLS end the session",
		rules: withTLS,
		in: `
S: 220 x
C: STARTTLS
C: RSET`,
		client: "220 *\n",
		facts:  []string{"banner@6", "injection@10"},
	},
	{
		name:  "bytes glued behind the 220 to STARTTLS end the session",
		rules: withTLS,
		in: `
S: 220 x
C: STARTTLS
S: 220 go
S: 250 injected`,
		client: "220 *\n",
		server: "STARTTLS\n",
		facts:  []string{"banner@6", "injection@15"},
	},
	{
		name:  "no handshake behind the 220",
		rules: withTLS,
		in: `
S: 220 x
C: STARTTLS
S: 220 go
C: MAIL FROM:<a@b>`,
		client: "220 *\n220 go\n",
		server: "STARTTLS\n",
		facts:  []string{"banner@6", "notls@10"},
	},
	{
		name:  "a refused STARTTLS leaves the session in the clear",
		rules: withTLS,
		in: `
S: 220 x
C: STARTTLS
S: 454 not now
C: VRFY a
C: XFOO`,
		client: "220 *\n454 not now\n",
		server: "STARTTLS\nVRFY a\nXXXX\n",
		facts:  []string{"banner@6", "pipelined@18", `unknown@23 "XFOO"`},
	},
	{
		name: "STARTTLS is X-ed by default and answered",
		in: `
S: 220 x
C: STARTTLS
S: 500 what?
C: noop
S: 250 ok`,
		client: "220 *\n500 what?\n250 ok\n",
		server: "XXXXXXXX\nnoop\n",
		facts:  []string{"banner@6", `unknown@9 "STARTTLS"`},
	},
	{
		name: "unknown, short and prefixed commands are X-ed, neighbours are not",
		in: `
S: 220 x
C: EHLO a
S: 250-mx
S: 250 PIPELINING
C: MAI FROM:<a@b>
C: QUI
C: QUITX
C:  QUIT
C: RSET
C: XCLIENT ADDR=1.2.3.4
C: MAIL\tFROM:<a@b>
C: MAIL:FROM
C: VRFY
C: .`,
		client: "220 *\n250-mx\n250 PIPELINING\n",
		server: "EHLO a\nXXXXXXXXXXXXXX\nXXX\nXXXXX\nXXXXX\nRSET\nXXXXXXXXXXXXXXXXXXXX\nMAIL\tFROM:<a@b>\nXXXXXXXXX\nVRFY\nX\n",
		facts: []string{
			"banner@6", `keyword 8 "PIPELINING"`,
			`unknown@23 "MAI FROM:<a@b>"`, `unknown@28 "QUI"`, `unknown@35 "QUITX"`, `unknown@42 " QUIT"`,
			`unknown@70 "XCLIENT ADDR=1.2.3.4"`, `unknown@98 "MAIL:FROM"`,
			"groupend@105", `unknown@107 "."`, // VRFY ends a group
		},
	},
	{
		name:   "an empty line passes and awaits a reply; a server that skips it keeps the EHLO mask",
		in:     "S: 220 x\nC: \nC: EHLO a\nS: 250-mx\nS: 250 STARTTLS\nC: DATA\nS: 354 go\nC: .\nS: 250 ok",
		client: "220 *\n250-mx\n250 XXXXXXXA\n354 go\n250 ok\n",
		server: "\nEHLO a\nDATA\n.\n",
		facts:  []string{"banner@6", "pipelined@2", `keyword 0 "STARTTLS"`},
	},
	{
		name: "a pipe in an address ends the session",
		in: `
S: 220 x
C: MAIL FROM:<a@b>
S: 250 ok
C: RCPT TO:<|/bin/sh@b>`,
		client: "220 *\n250 ok\n",
		server: "MAIL FROM:<a@b>\n",
		facts:  []string{"banner@6", `pipe@26 "RCPT TO:<|"`},
	},
	{
		name: "a pipe behind the path ends it too, in VRFY it does not",
		in: `
S: 220 x
C: VRFY |
S: 252 no
C: mail from:<a@b> ENVID=x|y`,
		client: "220 *\n252 no\n",
		server: "VRFY |\n",
		facts:  []string{"banner@6", `pipe@31 "mail from:<a@b> ENVID=x|"`},
	},
	{
		name: "what is invalid in a path becomes a space",
		in: `
S: 220 x
C: MAIL FROM:<a<b@c>
S: 250 ok
C: RCPT TO: <x\v@y\x7f>
S: 250 ok
C: RCPT TO:x>y@z
S: 250 ok
C: RCPT TO:<"a\>b"@c> ORCPT=rfc822;<>
S: 250 ok`,
		client: "220 *\n250 ok\n250 ok\n250 ok\n250 ok\n",
		server: "MAIL FROM:<a b@c>\nRCPT TO: <x @y >\nRCPT TO:x y@z\nRCPT TO:<\"a\\>b\"@c> ORCPT=rfc822;<>\n",
		facts: []string{
			"banner@6", `replaced@18 "MAIL FROM:<a<b@c>"`, `replaced@36 "RCPT TO: <x\v@y\x7f>"`, `replaced@51 "RCPT TO:x>y@z"`,
		},
	},
	{
		name: "parameters behind the path are left alone",
		in: `
S: 220 x
C: MAIL FROM:<> SIZE=3 AUTH=<> BODY=8BITMIME`,
		client: "220 *\n",
		server: "MAIL FROM:<> SIZE=3 AUTH=<> BODY=8BITMIME\n",
		facts:  []string{"banner@6"},
	},
	{
		name:    "a bare LF in a command",
		in:      "S: 220 x\nC: NOOP a\\nDEBUG",
		answers: map[Kind]Action{KindBareNewline: End},
		client:  "220 *\n",
		facts:   []string{"banner@6", `bare@6 "NOOP a"`},
	},
	{
		name:    "a bare CR in a command",
		in:      "S: 220 x\nC: NOOP\\rDEBUG",
		answers: map[Kind]Action{KindBareNewline: End},
		client:  "220 *\n",
		facts:   []string{"banner@6", `bare@4 "NOOP"`},
	},
	{
		name:   "bare newlines that only are logged pass",
		in:     "S: 220 x\nC: NOOP a\\nDEBUG\\rx\nC: \\rQUIT",
		client: "220 *\n",
		server: "NOOP a\nDEBUG\rx\nXXXXX\n",
		facts:  []string{"banner@6", `bare@6 "NOOP a"`, `bare@12 "NOOP a\nDEBUG"`, "pipelined@16", `bare@16 ""`, `unknown@22 "\rQUIT"`},
	},
	{
		name:    "bare newlines that are masked",
		in:      "S: 220 x\nC: NOOP a\\nDEBUG\nC: NOOP",
		answers: map[Kind]Action{KindBareNewline: Mask},
		client:  "220 *\n",
		server:  "XXXXXXXXXXXX\nNOOP\n",
		facts:   []string{"banner@6", `bare@6 "NOOP a"`, "pipelined@14"},
	},
	{
		name: "a message passes unharmed and ends at CR LF . CR LF only",
		in: `
S: 220 x
C: DATA
S: 354 go
C: Subject: |
C:
C: ..
C: VRFY <<
C: . 
C: x.
C: .
S: 250 ok
C: XX`,
		client: "220 *\n354 go\n250 ok\n",
		server: "DATA\nSubject: |\n\n..\nVRFY <<\n. \nx.\n.\nXX\n",
		facts:  []string{"banner@6", `unknown@47 "XX"`},
	},
	{
		name: "a dot directly behind the 354 ends an empty message",
		in: `
S: 220 x
C: DATA
S: 354 go
C: .
S: 250 ok
C: FOO`,
		client: "220 *\n354 go\n250 ok\n",
		server: "DATA\n.\nXXX\n",
		facts:  []string{"banner@6", `unknown@13 "FOO"`},
	},
	{
		name: "a refused DATA leaves command mode",
		in: `
S: 220 x
C: DATA
S: 503 no recipients
C: Subject: hello
S: 500 what`,
		client: "220 *\n503 no recipients\n500 what\n",
		server: "DATA\nXXXXXXXXXXXXXX\n",
		facts:  []string{"banner@6", `unknown@21 "Subject: hello"`},
	},
	{
		name: "bytes glued behind DATA end the session",
		in: `
S: 220 x
C: DATA
C: .`,
		client: "220 *\n",
		facts:  []string{"banner@6", "glued@6"},
	},
	{
		name:    "354 and 334 without their command are undecided",
		answers: map[Kind]Action{KindUndecided: End},
		in: `
S: 220 x
C: NOOP
S: 354 go`,
		client: "220 *\n",
		server: "NOOP\n",
		facts:  []string{"banner@6", "undecided@14 354"},
	},
	{
		name: "AUTH lines are no commands, a cancel is answered",
		in: `
S: 220 x
C: AUTH LOGIN
S: 334 VXNlcm5hbWU6
C: XCLIENT==
S: 334 UGFzc3dvcmQ6
C: *
S: 501 cancelled
C: XCLIENT`,
		client: "220 *\n334 VXNlcm5hbWU6\n334 UGFzc3dvcmQ6\n501 cancelled\n",
		server: "AUTH LOGIN\nXCLIENT==\n*\nXXXXXXX\n",
		facts:  []string{"banner@6", `unknown@34 "XCLIENT"`},
	},
	{
		name: "bytes glued behind AUTH end the session",
		in: `
S: 220 x
C: AUTH LOGIN
C: dXNlcg==`,
		client: "220 *\n",
		facts:  []string{"banner@6", "glued@12"},
	},
	{
		name: "an early talker and a pipeline that was not offered are events",
		in: `
C: HELO a
S: 220 x
S: 250 mx
C: MAIL FROM:<a@b>
C: RCPT TO:<c@d>
S: 250 ok
S: 250 ok`,
		client: "220 *\n250 mx\n250 ok\n250 ok\n",
		server: "HELO a\nMAIL FROM:<a@b>\nRCPT TO:<c@d>\n",
		facts:  []string{"early@0", "banner@6", "pipelined@25"},
	},
	{
		name: "unsolicited replies are events, 421 is none, junk answers nothing",
		in: `
S: 220 x
S: 250 hello
S: hello
S: 421 closing`,
		client: "220 *\n250 hello\nhello\n421 closing\n",
		facts:  []string{"banner@6", "unexpected@17 250"},
	},
	{
		name: "a final line without text or separator",
		in: `
S: 220 x
C: DATA
S: 354
C: .
S: 250
C: NOOP`,
		client: "220 *\n354\n250\n",
		server: "DATA\n.\nNOOP\n",
		facts:  []string{"banner@6"},
	},
}

func init() {
	for i := range dialogueCases {
		dialogueCases[i].in = strings.TrimLeft(dialogueCases[i].in, "\n")
	}
}
