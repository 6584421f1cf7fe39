package policy

import "github.com/smtpwall/smtpwall/pkg/smtp"

// defaultText is the policy of a box whose operator wrote none: design.md
// section 5, word for word. Its map is what every file gets as DefaultMapName.
const defaultText = `! smtpwall's default
interface eth0
 nameif outside
interface eth1
 nameif inside
policy-map type inspect esmtp _default_esmtp_map
 parameters
  mask-banner
  no mail-relay
  no special-character
  no allow-tls
 match cmd line length gt 512
  drop-connection log
 match cmd RCPT count gt 100
  drop-connection log
 match body line length gt 998
  log
 match header line length gt 998
  drop-connection log
 match sender-address length gt 320
  drop-connection log
 match MIME filename length gt 255
  drop-connection log
 match ehlo-reply-parameter others
  mask
class-map inspection_default
 match queue 0-3
policy-map global_policy
 class inspection_default
  inspect esmtp _default_esmtp_map
service-policy global_policy global
`

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
		BareNewline:    Do{DropConnection, true},
		Pipelining:     Do{NoAction, true},
		TLSInjection:   Do{DropConnection, true},
		AuthLineLength: smtp.DefaultAuthLineLength,
	}
}
