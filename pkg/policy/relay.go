package policy

import "bytes"

// Relays reports whether a RCPT path, without brackets, is a relay attempt for
// Map.MailRelayDomain: its domain is neither that nor below it, or its local part
// has another address in it (design.md section 5). cut says that it is only the
// beginning of a path too long to be looked at: that is one. So is every path
// that two servers could read differently. A map without mail-relay has none.
func (m *Map) Relays(path []byte, cut bool) bool {
	if m.MailRelayDomain == "" || !cut && isPostmaster(path) {
		return false
	}
	path = withoutRoute(path)
	at := lastAt(path)
	if cut || at < 1 || bytes.ContainsAny(path[:at], "%!@") {
		return true
	}
	// One dot at the end is the root: the same domain to the DNS.
	domain := bytes.TrimSuffix(path[at+1:], []byte("."))
	return !isDomain(domain) || !isBelow(domain, m.MailRelayDomain)
}

// isPostmaster tells whether a path is the one that needs no domain (RFC 5321
// section 4.1.1.3).
func isPostmaster(path []byte) bool {
	const lower = "postmaster"
	return len(path) == len(lower) && equalFoldASCII(path, lower)
}

// withoutRoute strips a source route (RFC 5321 appendix C): "@a,@b:user@c" is
// "user@c". The colons of an address literal in it do not end it.
func withoutRoute(path []byte) []byte {
	if len(path) == 0 || path[0] != '@' {
		return path
	}
	literal := false
	for i, c := range path {
		switch c {
		case '[':
			literal = true
		case ']':
			literal = false
		case ':':
			if !literal {
				return path[i+1:]
			}
		}
	}
	return path
}

// lastAt returns where the last @ outside quotes is, -1 if there is none.
func lastAt(path []byte) int {
	at, quoted := -1, false
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '"':
			quoted = !quoted
		case '\\':
			i++ // the next byte is only itself
		case '@':
			if !quoted {
				at = i
			}
		}
	}
	return at
}

// isDomain tells whether a text is a domain: labels of letters, digits, '-' and
// '_', or bytes beyond ASCII (RFC 6531), with a dot between them. Anything else
// (a literal, a comment, a NUL) is where servers disagree.
func isDomain(text []byte) bool {
	last := byte('.')
	for _, c := range text {
		if c == '.' && last == '.' || !isLetterOrDigit(c) && c < 0x80 && c != '.' && c != '-' && c != '_' {
			return false
		}
		last = c
	}
	return last != '.'
}

// isBelow tells whether a domain is parent, which is in lower case, or below it.
func isBelow(domain []byte, parent string) bool {
	n := len(domain) - len(parent)
	if n < 0 || !equalFoldASCII(domain[n:], parent) {
		return false
	}
	return n == 0 || domain[n-1] == '.'
}

// equalFoldASCII compares with a lower-case text of the same length. Case is that
// of ASCII only: to Unicode the Kelvin sign would be a k.
func equalFoldASCII(text []byte, lower string) bool {
	for i, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
