package audit

import "strings"

// MaxText bounds a peer's bytes in a record, after escaping: every address of
// RFC 5321's size is whole, and a record stays within the 1024 bytes of RFC 3164.
const MaxText = 320

// maxWords bounds what the policy and the engine say in a record. A rule can
// list many keywords.
const maxWords = 256

// peer escapes bytes that a peer sent. The CR LF that ends a line is left out.
func peer(s string) string { return escape(strings.TrimSuffix(s, "\r\n"), MaxText) }

// clean escapes a text of the policy or the engine, for the day it holds a
// peer's bytes by mistake.
func clean(s string) string { return escape(s, maxWords) }

// escape writes s in printable ASCII, reversibly. It cuts before the escape
// that would pass limit bytes.
func escape(s string, limit int) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := range len(s) {
		var esc string
		switch c := s[i]; {
		case c == '\r':
			esc = `\r`
		case c == '\n':
			esc = `\n`
		case c == '\t':
			esc = `\t`
		case c == '"' || c == '\\':
			esc = `\` + string(c)
		case c < ' ' || c >= 0x7f:
			esc = `\x` + string(hex[c>>4]) + string(hex[c&15])
		default:
			esc = string(c)
		}
		if b.Len()+len(esc) > limit {
			return b.String() + "..."
		}
		b.WriteString(esc)
	}
	return b.String()
}
