package policy

import (
	"strings"
	"testing"
)

// TestRelays: mail is for example.com.
func TestRelays(t *testing.T) {
	tests := []struct {
		path string
		want bool
	}{
		{"user@example.com", false},
		{"User@EXAMPLE.Com", false},
		{"user@sub.example.com", false},
		{"user@a.b.example.com", false},
		{"user@b\xc3\xbccher.example.com", false}, // RFC 6531
		{"user@_a.example.com", false},
		{"user@evil.example", true},
		{"user@com", true},
		{"user@badexample.com", true},
		{"user@example.com.evil.example", true},
		{"user@examp1e.com", true},
		{"user@xample.com", true},

		// Without a domain.
		{"postmaster", false},
		{"PostMaster", false},
		{"", true},
		{"user", true},
		{"postmaster ", true},
		{"postmasters", true},
		{`"postmaster"`, true},
		{"postmaster@evil.example", true},
		{"postmaster@example.com", false},
		{"user@", true},
		{"@", true},
		{"@example.com", true},

		// An address inside the local part.
		{"user%evil.example@example.com", true},
		{"evil.example!user@example.com", true},
		{"user@evil.example@example.com", true},
		{"user@example.com@evil.example", true},
		{"user@@example.com", true},
		{`"user@evil.example"@example.com`, true},
		{`"user%evil.example"@example.com`, true},
		{`"evil.example!user"@example.com`, true},
		{`"a\"@evil.example"@example.com`, true},
		{`user\@evil.example@example.com`, true},

		// Quotes.
		{`"a b"@example.com`, false},
		{`"a\"b"@example.com`, false},
		{`"a\\"@example.com`, false},
		{`a"b"c@example.com`, false},
		{`"user@example.com"`, true},
		{`"user@example.com`, true},
		{`"a\"@example.com`, true}, // the quote is not closed
		{`user@evil.example"@example.com`, true},
		{`user@evil.example"@example.com"`, true},
		{`user\@example.com`, true},
		{`user@example.com\`, true},

		// Source routes.
		{"@relay.example:user@example.com", false},
		{"@a.example,@b.example:user@example.com", false},
		{"@[192.0.2.1]:user@example.com", false},
		{"@[IPv6:2001:db8::1]:user@example.com", false},
		{"@example.com:user@evil.example", true},
		{"@example.com:user", true},
		{"@example.com:postmaster", true},
		{"@a.example:@b.example:user@example.com", true},
		{"@a.example:user%evil.example@example.com", true},
		{"@a.example:", true},
		{"@[IPv6:2001:db8::1:user@example.com", true}, // the literal is not closed
		{"user@evil.example:user@example.com", true},
		{"@evil.example user@example.com", true},

		// Literals and odd domains.
		{"user@[192.0.2.1]", true},
		{"user@[example.com]", true},
		{"user@[x].example.com", true},
		{"user@#123.example.com", true},
		{"user@example.com.", false}, // the root
		{"user@sub.example.com.", false},
		{"user@evil.example.", true},
		{"user@example.com..", true},
		{"user@.example.com", true},
		{"user@evil..example.com", true},
		{"user@.", true},
		{"user@..", true},
		{"user@evil.example\x00.example.com", true},
		{"user@evil.example .example.com", true},
		{"user@evil.example,.example.com", true},
		{"user@evil.example(.example.com", true},
		{"user@example.com(evil)", true},
		{"user@example.com ", true},
		{"user@e\xe2\x80\x8bxample.com", true},
		{"user@exa\xc4\xb1mple.com", true},
	}
	m := &Map{MailRelayDomain: "example.com"}
	for _, test := range tests {
		if got := m.Relays([]byte(test.path), false); got != test.want {
			t.Errorf("Relays(%q) = %t, want %t", test.path, got, test.want)
		}
		if !m.Relays([]byte(test.path), true) {
			t.Errorf("Relays(%q, cut) = false, want true", test.path)
		}
		if (&Map{}).Relays([]byte(test.path), false) || (&Map{}).Relays(nil, true) {
			t.Errorf("Relays(%q) without mail-relay = true, want false", test.path)
		}
	}
}

// TestRelaysFoldsASCIIOnly: to Unicode the Kelvin sign is a k and the long s an s.
func TestRelaysFoldsASCIIOnly(t *testing.T) {
	m := &Map{MailRelayDomain: "kiss.example"}
	for path, want := range map[string]bool{"u@KISS.EXAMPLE": false, "u@\u212aiss.example": true, "u@ki\u017fs.example": true} {
		if got := m.Relays([]byte(path), false); got != want {
			t.Errorf("Relays(%q) = %t, want %t", path, got, want)
		}
	}
}

// TestRelaysIsLinear: the longest text of a Fact, of the worst bytes.
func TestRelaysIsLinear(t *testing.T) {
	m := &Map{MailRelayDomain: "example.com"}
	for _, c := range []string{"@", `"`, `\`, ":", ".", "[", "a"} {
		if !m.Relays([]byte(strings.Repeat(c, 512)), false) {
			t.Errorf("512 times %s: false, want true", c)
		}
	}
}
