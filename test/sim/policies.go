package sim

import (
	"fmt"

	"github.com/smtpwall/smtpwall/pkg/policy"
)

// rulebook is a policy of the simulator.
type rulebook struct {
	name    string
	lenient bool   // honest sessions, as script.go makes them, are not ended by it
	text    string // the lines of the map; "" is one of the built-in maps
}

// rulebooks are the policies that a schedule chooses from.
var rulebooks = []rulebook{
	{"_default_esmtp_map", true, ""},
	{"modern_esmtp_map", true, ""},
	{"open", true, "parameters\nallow-tls\nallow-bdat\nallow-command XONE\nallow-ehlo-parameter XSECRET\n"},
	{"reset", true, `parameters
mask-banner
allow-bdat
bare-newline reset log
tls-injection reset
match cmd line length gt 300
reset log
match cmd RCPT count gt 50
reset
match header line length gt 900
reset log
match ehlo-reply-parameter others size
mask
`},
	{"masks", true, `parameters
mask-banner
allow-tls
pipelining mask
bare-newline mask
match cmd verb VRFY HELP ETRN
mask log
match ehlo-reply-parameter others 8bitmime
mask
`},
	{"lockstep", true, `parameters
allow-bdat
pipelining drop-connection log
bare-newline log
match ehlo-reply-parameter others
mask
`},
	{"tls only", true, `parameters
allow-tls
require-tls
mask-banner
match ehlo-reply-parameter others
mask
`},
	{"strict", false, `parameters
mask-banner
allow-bdat
allow-tls
allow-command X-EXPS XEXCH50
special-character action drop-connection log
mail-relay example.com action drop-connection
auth-line-length 60
bare-newline reset
match cmd verb NOOP
rate-limit 2
match body length gt 300
drop-connection
match header line length gt 40
reset
match invalid-recipients count gt 1
drop-connection log
match body line length gt 100
reset
match header to-fields count gt 1
log
match sender-address length gt 30
drop-connection
match ehlo-reply-parameter others size pipelining
mask
`},
	{"quarrelsome", false, `parameters
pipelining mask
bare-newline mask
mask-banner
match cmd verb RSET
drop-connection
match cmd line length gt 40
reset
match cmd RCPT count gt 2
drop-connection
match header length gt 200
reset
match MIME filename length gt 8
drop-connection
match mime encoding base64 others
reset
match not body length gt 20
drop-connection
`},
}

// parseRulebooks makes the maps; each worker has its own.
func parseRulebooks() ([]*policy.Map, error) {
	var maps []*policy.Map
	for i, r := range rulebooks {
		text := ""
		name := r.name
		if r.text != "" {
			name = fmt.Sprint("sim", i)
			text = "policy-map type inspect esmtp " + name + "\n" + r.text
		} else if c := policy.Default().Map(name); c != nil {
			maps = append(maps, c)
			continue
		}
		text += "class-map c\nmatch queue 0-3\npolicy-map p\nclass c\ninspect esmtp " + name + "\nservice-policy p global\n"
		c, err := policy.Parse(r.name, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("parse the simulator's policy %q: %w", r.name, err)
		}
		maps = append(maps, c.Map(name))
	}
	return maps, nil
}
