package smtp

import "testing"

// What may pass before the bytes in front of it were read.
func TestTransparent(t *testing.T) {
	data := func(d *Dialogue) {
		feedAll(d, "S: 220 x", "C: DATA", "S: 354 go")
	}
	chunk := func(d *Dialogue) {
		feedAll(d, "S: 220 x", "C: EHLO a", "S: 250-a", "S: 250 CHUNKING", "C: MAIL FROM:<>", "S: 250 ok", "C: RCPT TO:<a@b>", "S: 250 ok", "C: BDAT 10")
	}
	for _, c := range []struct {
		name string
		at   func(*Dialogue)
		gap  int
		text string
		want bool
	}{
		{"message text", data, 5, "abc\r\ndef\r\n", true},
		{"a dot in a line", data, 5, "a.b\r\n", true},
		{"a dot at the beginning", data, 5, ".b\r\n", false},
		{"a line that begins with a dot", data, 5, "a\r\n.b\r\n", false},
		{"behind a bare LF", data, 5, "a\n.", false},
		{"behind a bare CR", data, 5, "a\r.", false},
		{"in the count", chunk, 5, "\r\n.\r\n", true},
		{"beyond the count", chunk, 5, "\r\n.\r\nX", false},
		{"before the greeting", func(*Dialogue) {}, 5, "abc", false},
		{"a command", func(d *Dialogue) { feedAll(d, "S: 220 x") }, 5, "abc", false},
		{"before the 354", func(d *Dialogue) { feedAll(d, "S: 220 x", "C: DATA") }, 5, "abc", false},
	} {
		r := classicRules()
		r.AllowBDAT = true
		var d Dialogue
		d.Init(NewRules(r))
		c.at(&d)
		if got := d.Transparent(c.gap, []byte(c.text)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// feedAll feeds "C: " and "S: " lines.
func feedAll(d *Dialogue, lines ...string) {
	for _, line := range lines {
		side := Client
		if line[0] == 'S' {
			side = Server
		}
		d.Feed(side, []byte(line[3:]+"\r\n"), &recorder{})
	}
}
