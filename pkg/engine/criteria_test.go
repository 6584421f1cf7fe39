package engine

import (
	"slices"
	"testing"
)

// criterion is one match line, tried with every action it can have.
type criterion struct {
	match   string   // the subtests' name
	actions []string // those of the line; nil: ending
	cases   []criterionCase
}

// criterionCase is a dialogue just under, at or just over what the line matches.
// The side that speaks waits for what it is owed, so that nothing is outstanding
// when a session ends.
type criterionCase struct {
	name string
	talk string // "C: " and "S: " lines, a packet each; CR LF is appended
	// hits are the events of the line with `log`: the side whose byte decided and
	// that byte's offset, value and bound, and the peer's bytes. Where the action
	// ends the session, only the first comes.
	hits   []string
	count  int    // matches counted with `log`, if that is more than len(hits)
	masked string // what the receiver of the bytes that match gets with `mask`; empty: what was sent
	server string // what the server gets where something else than the line masks; empty: what was sent
}

// The actions of the criteria (asa.md 1.4). mask is for two of them.
var (
	ending = []string{"log", "drop-connection", "drop-connection log", "reset", "reset log"}
	masks  = append(slices.Clone(ending), "mask", "mask log")
)

const (
	mailFrom   = "S: 220 x\nC: MAIL FROM:<a@b>\nS: 250 ok\n"  // 17 octets of the client, 15 of the server
	rcptOK     = "C: RCPT TO:<b@c>\nS: 250 ok\n"              // 15, 8
	rcptNo     = "C: RCPT TO:<b@c>\nS: 550 no\n"              // 15, 8
	ehlo       = "S: 220 x\nC: EHLO a\nS: 250-x\n"            // 8, 14
	beginDATA  = "S: 220 x\nC: DATA\nS: 354 go\n"             // 6, 15
	endDATA    = "C: .\nS: 250 ok\n"                          // 3, 8
	attachment = "Content-Disposition: attachment; filename=" // 42
)

// criteria are the match lines about commands, replies and those measures of a
// message that need no more than its lines. Expectations were worked out by hand
// from design.md section 5 and the lengths above.
var criteria = []criterion{
	{"cmd line length gt 12", nil, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: NOOP abcd\nS: 250 ok"},
		{name: "at", talk: "S: 220 x\nC: NOOP abcde\nS: 250 ok"},
		{name: "over", talk: "S: 220 x\nC: NOOP abcdef\nS: 250 ok", hits: []string{`C@12 13>12 "NOOP abcdef\r"`}},
		{name: "far over", talk: "S: 220 x\nC: NOOP abcdefgh\nS: 250 ok", hits: []string{`C@12 13>12 "NOOP abcdefg"`}},
		{name: "over, masked too", talk: "S: 220 x\nC: XFOO abcdef\nS: 500 no", server: "XXXXXXXXXXX\r\n", hits: []string{`C@12 13>12 "XFOO abcdef\r"`}},
	}},
	{"not cmd line length gt 12", nil, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: NOOP abcd\nS: 250 ok", hits: []string{`C@10 11>12 "NOOP abcd"`}},
		{name: "at", talk: "S: 220 x\nC: NOOP abcde\nS: 250 ok", hits: []string{`C@11 12>12 "NOOP abcde"`}},
		{name: "over", talk: "S: 220 x\nC: NOOP abcdef\nS: 250 ok"},
	}},
	{"cmd RCPT count gt 2", nil, []criterionCase{
		{name: "under", talk: mailFrom + rcptOK},
		{name: "at", talk: mailFrom + rcptOK + rcptOK},
		{name: "over", talk: mailFrom + rcptOK + rcptOK + rcptOK, hits: []string{`C@61 3>2 "RCPT TO:<b@c>"`}},
		{name: "over, whatever the replies", talk: mailFrom + rcptNo + rcptOK + rcptNo + rcptOK, hits: []string{`C@61 3>2 "RCPT TO:<b@c>"`}},
		{name: "at in each of two transactions", talk: mailFrom + rcptOK + rcptOK + "C: RSET\nS: 250 ok\n" + rcptOK + rcptOK},
	}},
	{"not cmd RCPT count gt 2", nil, []criterionCase{
		{name: "none", talk: mailFrom},
		{name: "under", talk: mailFrom + rcptOK, hits: []string{`C@31 1>2 "RCPT TO:<b@c>"`}},
		{name: "over", talk: mailFrom + rcptOK + rcptOK + rcptOK, hits: []string{`C@31 1>2 "RCPT TO:<b@c>"`, `C@46 2>2 "RCPT TO:<b@c>"`}},
	}},
	{"sender-address length gt 5", nil, []criterionCase{
		{name: "empty", talk: "S: 220 x\nC: MAIL FROM:<>\nS: 250 ok"},
		{name: "under", talk: "S: 220 x\nC: MAIL FROM:<a@bc>\nS: 250 ok"},
		{name: "at", talk: "S: 220 x\nC: MAIL FROM:<ab@cd> SIZE=1\nS: 250 ok"},
		{name: "over", talk: "S: 220 x\nC: MAIL FROM:<abc@cd>\nS: 250 ok", hits: []string{`C@16 6>5 "MAIL FROM:<abc@c"`}},
		{name: "over, of SOML", talk: "S: 220 x\nC: SOML FROM:<abc@cd>\nS: 250 ok", hits: []string{`C@16 6>5 "SOML FROM:<abc@c"`}},
		{name: "a recipient is no sender", talk: "S: 220 x\nC: RCPT TO:<abc@cd>\nS: 250 ok"},
	}},
	{"not sender-address length gt 5", nil, []criterionCase{
		{name: "empty", talk: "S: 220 x\nC: MAIL FROM:<>\nS: 250 ok", hits: []string{`C@13 0>5 "MAIL FROM:<>"`}},
		{name: "at", talk: "S: 220 x\nC: MAIL FROM:<ab@cd>\nS: 250 ok", hits: []string{`C@18 5>5 "MAIL FROM:<ab@cd>"`}},
		{name: "over", talk: "S: 220 x\nC: MAIL FROM:<abc@cd>\nS: 250 ok"},
	}},
	{"sender-address regex spam", nil, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: MAIL FROM:<spa@b>\nS: 250 ok"},
		{name: "at", talk: "S: 220 x\nC: MAIL FROM:<spam@b>\nS: 250 ok", hits: []string{`C@17 0>0 "spam@b"`}},
		{name: "inside", talk: "S: 220 x\nC: MAIL FROM:<myspam@b> SIZE=1\nS: 250 ok", hits: []string{`C@19 0>0 "myspam@b"`}},
		{name: "another case", talk: "S: 220 x\nC: MAIL FROM:<SPAM@b>\nS: 250 ok"},
		{name: "behind the path", talk: "S: 220 x\nC: MAIL FROM:<a@b> ENVID=spam\nS: 250 ok"},
	}},
	{"not sender-address regex spam", nil, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: MAIL FROM:<spa@b>\nS: 250 ok", hits: []string{`C@16 0>0 "spa@b"`}},
		{name: "at", talk: "S: 220 x\nC: MAIL FROM:<spam@b>\nS: 250 ok"},
	}},
	{"sender-address regex class bad", nil, []criterionCase{
		{name: "neither", talk: "S: 220 x\nC: MAIL FROM:<a@b>\nS: 250 ok"},
		{name: "the first", talk: "S: 220 x\nC: MAIL FROM:<spam@b>\nS: 250 ok", hits: []string{`C@17 0>0 "spam@b"`}},
		{name: "the second", talk: "S: 220 x\nC: MAIL FROM:<a@scam.example>\nS: 250 ok", hits: []string{`C@25 0>0 "a@scam.example"`}},
	}},
	{"invalid-recipients count gt 1", nil, []criterionCase{
		{name: "none", talk: mailFrom + rcptOK + rcptOK},
		{name: "at", talk: mailFrom + rcptNo + rcptOK},
		{name: "over", talk: mailFrom + rcptNo + rcptNo, hits: []string{`S@30 2>1 ""`}},
		{name: "refused for now", talk: mailFrom + "C: RCPT TO:<b@c>\nS: 450 no\nC: RCPT TO:<b@c>\nS: 450 no"},
	}},
	{"not invalid-recipients count gt 1", nil, []criterionCase{
		{name: "none", talk: mailFrom + rcptOK},
		{name: "over", talk: mailFrom + rcptNo + rcptNo, hits: []string{`S@22 1>1 ""`}},
	}},
	{"ehlo-reply-parameter size dsn", masks, []criterionCase{
		{name: "under", talk: ehlo + "S: 250-SIZ 9\nS: 250 DS"},
		{name: "at", talk: ehlo + "S: 250-SIZE 9\nS: 250 ETRN", hits: []string{`S@25 0>0 "SIZE 9"`}, masked: "220 x\r\n250-x\r\n250-XXXXXA\r\n250 ETRN\r\n"},
		{name: "over", talk: ehlo + "S: 250-XSIZE 9\nS: 250 XDSN"},
		{name: "both", talk: ehlo + "S: 250-size\nS: 250 DSN", hits: []string{`S@23 0>0 "size"`, `S@32 0>0 "DSN"`}, masked: "220 x\r\n250-x\r\n250-XXXA\r\n250 XXB\r\n"},
	}},
	{"not ehlo-reply-parameter size", masks, []criterionCase{
		{name: "at", talk: ehlo + "S: 250 SIZE 9"},
		{name: "another", talk: ehlo + "S: 250-SIZE\nS: 250 DSN", hits: []string{`S@32 0>0 "DSN"`}, masked: "220 x\r\n250-x\r\n250-SIZE\r\n250 XXA\r\n"},
	}},
	{"ehlo-reply-parameter others", masks, []criterionCase{
		{name: "known", talk: ehlo + "S: 250 SIZE 9"},
		{name: "unknown, and what needs a parameter", talk: ehlo + "S: 250-SIZES\nS: 250 STARTTLS",
			hits: []string{`S@24 0>0 "SIZES"`, `S@38 0>0 "STARTTLS"`}, masked: "220 x\r\n250-x\r\n250-XXXXA\r\n250 XXXXXXXB\r\n"},
	}},
	{"cmd verb NOOP RSET", masks, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: NOO\nS: 500 no\nC: VRFY\nS: 250 ok", server: "XXX\r\nVRFY\r\n"},
		{name: "at", talk: "S: 220 x\nC: NOOP\nS: 500 no\nC: VRFY\nS: 250 ok", hits: []string{`C@4 0>0 ""`}, masked: "XXXX\r\nVRFY\r\n"},
		{name: "over", talk: "S: 220 x\nC: NOOPS\nS: 500 no\nC: VRFY\nS: 250 ok", server: "XXXXX\r\nVRFY\r\n"},
		{name: "each of two", talk: "S: 220 x\nC: noop a\nS: 500 no\nC: RSET\nS: 500 no", hits: []string{`C@4 0>0 ""`, `C@12 0>0 ""`}, masked: "XXXXXX\r\nXXXX\r\n"},
	}},
	{"not cmd verb NOOP", masks, []criterionCase{
		{name: "at", talk: "S: 220 x\nC: NOOP\nS: 250 ok"},
		{name: "another", talk: "S: 220 x\nC: RSET\nS: 500 no", hits: []string{`C@4 0>0 ""`}, masked: "XXXX\r\n"},
		{name: "an unknown one", talk: "S: 220 x\nC: XFOO\nS: 500 no", server: "XXXX\r\n", hits: []string{`C@5 0>0 "XFOO"`}, masked: "XXXX\r\n"},
	}},
	{"cmd verb NOOP", []string{"rate-limit 2"}, []criterionCase{
		{name: "under", talk: "S: 220 x\nC: NOOP\nS: 250 ok"},
		{name: "at", talk: "S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP\nS: 250 ok\nC: RSET\nS: 250 ok"},
		{name: "over", talk: "S: 220 x\nC: NOOP\nS: 250 ok\nC: NOOP\nS: 250 ok\nC: NOOP\nS: 250 ok", hits: []string{`C@16 3>2 "" matches within a second`}},
	}},
	{"header line length gt 9", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdef\nC: \n" + endDATA},
		{name: "at", talk: beginDATA + "C: A: bcdefg\nC: \n" + endDATA},
		{name: "over", talk: beginDATA + "C: A: bcdefgh\nC: \n" + endDATA, hits: []string{`C@15 10>9 "A"`}},
		{name: "twice", talk: beginDATA + "C: A: bcdefgh\nC: A: bcdefgh\nC: \n" + endDATA, hits: []string{`C@15 10>9 "A"`}, count: 2},
		{name: "over, of the body", talk: beginDATA + "C: A: b\nC: \nC: 0123456789\n" + endDATA},
	}},
	{"body line length gt 4", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: A: bcdef\nC: \nC: abc\n" + endDATA},
		{name: "at", talk: beginDATA + "C: A: b\nC: \nC: abcd\n" + endDATA},
		{name: "at, stuffed", talk: beginDATA + "C: A: b\nC: \nC: ..bcd\n" + endDATA},
		{name: "over", talk: beginDATA + "C: A: b\nC: \nC: abcde\n" + endDATA, hits: []string{`C@18 5>4 ""`}},
		{name: "twice", talk: beginDATA + "C: A: b\nC: \nC: abcde\nC: abcde\n" + endDATA, hits: []string{`C@18 5>4 ""`}, count: 2},
	}},
	{"MIME filename length gt 3", nil, []criterionCase{
		{name: "under", talk: beginDATA + "C: " + attachment + "ab\nC: \n" + endDATA},
		{name: "at", talk: beginDATA + "C: " + attachment + "abc\nC: \n" + endDATA},
		{name: "over", talk: beginDATA + "C: " + attachment + "abcd\nC: \n" + endDATA, hits: []string{`C@51 4>3 ""`}},
	}},
}

// TestCriteria tries each match line with each of its actions, whole and with a
// packet's border in front of every octet.
func TestCriteria(t *testing.T) { testCriteria(t, criteria) }
