package policy

import (
	_ "embed"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// defaultText is the policy of a box whose operator wrote none: design.md
// section 5, and the file that is installed, word for word. Its first map is
// what every file gets as DefaultMapName.
//
//go:embed default.conf
var defaultText string

// Default returns the built-in policy. The caller owns it.
func Default() *Config {
	c, err := Parse("built-in default", []byte(defaultText))
	if err != nil {
		panic("policy: " + err.Error()) // a constant that a test parses
	}
	return c
}

// defaultMap returns the map that no file can change, freshly made and not yet
// compiled.
func defaultMap() *Map {
	p := newParser("built-in default")
	p.text([]byte(defaultText))
	return p.maps[0].Map
}

// newMap returns a map without a line in it: what the parameters mean when they
// are absent (design.md section 5).
func newMap(name string) *Map {
	return &Map{
		Name:           name,
		BareNewline:    Do{Action: DropConnection, Log: true},
		Pipelining:     Do{Log: true},
		TLSInjection:   Do{Action: DropConnection, Log: true},
		AuthLineLength: smtp.DefaultAuthLineLength,
	}
}
