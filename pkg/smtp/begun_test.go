package smtp

import (
	"strings"
	"testing"
)

// A line is masked from a bare newline on, and its word had passed in an earlier
// packet: the server has got that command, and its reply is read as that.
func TestMaskedBehindItsWord(t *testing.T) {
	masked := map[Kind]Action{KindBareNewline: Mask}
	for _, c := range []struct {
		name   string
		pieces []string // of both sides, "C: " and "S: "; nothing is appended
		server string
		client string
	}{
		{"EHLO", []string{"C: EHLO a", "C: b\rc", "C: d\r\n", "S: 250-x\r\n250-STARTTLS\r\n250 XFOO\r\n"},
			"EHLO aXXXX\r\n", "250-x\r\n250-XXXXXXXA\r\n250 XXXB\r\n"},
		{"EHLO, cut in its word", []string{"C: EH", "C: LO\ra\r\n", "S: 250-x\r\n250 STARTTLS\r\n"},
			"EHXXXX\r\n", "250-x\r\n250 STARTTLS\r\n"}, // no EHLO: a server gives no such reply
		{"DATA", []string{"C: DATA ", "C: \nx\r\n", "S: 354 go\r\n", "C: XFOO\r\n.\r\n", "S: 250 ok\r\n", "C: XFOO\r\n"},
			"DATA XX\r\nXFOO\r\n.\r\nXXXX\r\n", "354 go\r\n250 ok\r\n"},
		{"DATA, refused", []string{"C: DATA ", "C: \nx\r\n", "S: 501 no\r\n", "C: XFOO\r\n"},
			"DATA XX\r\nXXXX\r\n", "501 no\r\n"},
		{"DATA with the CR before the cut", []string{"C: DATA\r", "C: x\r\n", "S: 354 go\r\n", "C: XFOO\r\n.\r\n"},
			"DATA\rX\r\nXFOO\r\n.\r\n", "354 go\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d Dialogue
			d.Init(classic())
			rec := &recorder{answers: masked}
			var out [2]string
			d.Feed(Server, []byte("220 x\r\n"), rec)
			for _, piece := range c.pieces {
				side, b := Client, []byte(piece[3:])
				if strings.HasPrefix(piece, "S") {
					side = Server
				}
				if !d.Ready(side) {
					t.Fatalf("%q has to wait", b)
				}
				if _, ok := d.Feed(side, b, rec); !ok {
					t.Fatalf("%q ended the session: %v", piece, rec.facts)
				}
				out[side] += string(b)
			}
			if out[Client] != c.server || out[Server] != c.client {
				t.Errorf("server got %q, want %q; client got %q, want %q", out[Client], c.server, out[Server], c.client)
			}
		})
	}
}

// The same with a count: servers differ on what such a line means.
func TestMaskedBehindItsCount(t *testing.T) {
	for _, c := range []struct {
		first string
		ends  bool
	}{{"BDAT ", false}, {"BDAT 1", true}} {
		r := classicRules()
		r.AllowBDAT = true
		var d Dialogue
		d.Init(NewRules(r))
		feedAll(&d, "S: 220 x", "C: EHLO a", "S: 250-x", "S: 250 CHUNKING")
		rec := &recorder{answers: map[Kind]Action{KindBareNewline: Mask}}
		d.Feed(Client, []byte(c.first), rec)
		if _, ok := d.Feed(Client, []byte("0\nx\r\n"), rec); ok == c.ends {
			t.Errorf("%q: goes on %v, facts %v", c.first, ok, rec.facts)
		}
	}
}
