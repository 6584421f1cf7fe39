package asa

import (
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The shipped files, word for word; a test compares them with nft/.
var (
	//go:embed exempt.nft
	exemptFile string
	//go:embed static.nft
	staticFile string
)

// ExemptNFT is the text of exempt.nft: the shipped file, and the elements.
func (r *Result) ExemptNFT() string {
	var v4, v6 []string
	for _, e := range r.Exempt {
		line := element(e.Prefix) + comment(e.List)
		if e.Prefix.Addr().Is4() {
			v4 = append(v4, line)
		} else {
			v6 = append(v6, line)
		}
	}
	return exemptFile + r.origin("#") + elements("exempt4", v4) + elements("exempt6", v6)
}

// StaticNFT is the text of static.nft: the shipped file, and the elements.
func (r *Result) StaticNFT() string {
	lines := map[string][]string{}
	for _, m := range r.Mappings {
		name := "static4"
		if m.Local.Addr().Is6() {
			name = "static6"
		}
		if !m.Local.IsSingleIP() {
			name += "net"
		}
		limits := ""
		if m.Max > 0 || m.Embryonic > 0 {
			limits = comment(m.Limits.String())
		}
		lines[name] = append(lines[name], element(m.Global)+limits+" : "+element(m.Local))
		if m.Reverse {
			lines["r"+name] = append(lines["r"+name], element(m.Local)+" : "+element(m.Global))
		}
	}
	text := staticFile + r.origin("#")
	for _, name := range []string{"static4", "rstatic4", "static4net", "rstatic4net", "static6", "rstatic6", "static6net", "rstatic6net"} {
		text += elements(name, lines[name])
	}
	return text
}

// PolicyConf is the text of policy.conf.
func (r *Result) PolicyConf() string {
	text := "! policy.conf: what smtpwall does with mail, in the language of the ASA.\n" + r.origin("!")
	if len(r.interfaces) > 0 {
		text += "\n! Kernel interface names and the names they have in audit records: put in the\n! kernel's and take away the `!`.\n" +
			strings.Join(r.interfaces, "")
	}
	return text + "\n" + r.Policy.String()
}

// origin is the comment that tells where the rest of a file comes from.
func (r *Result) origin(sign string) string {
	return fmt.Sprintf("\n%s Imported from %s by `smtpwall import asa`.\n", sign, r.file)
}

// elements is the statement that fills a set or map, empty if there is nothing to
// fill it with.
func elements(set string, lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return fmt.Sprintf("add element inet smtpwall %s {\n\t%s,\n}\n", set, strings.Join(lines, ",\n\t"))
}

// element is a host or a network as nft writes it.
func element(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// maxComment bounds a comment; nft takes 127 bytes.
const maxComment = 100

// comment is the comment of an element; a text that could disturb the file makes
// none.
func comment(text string) string {
	strange := func(c byte) bool {
		return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("_-. ", c) >= 0)
	}
	if text == "" || len(text) > maxComment || slices.ContainsFunc([]byte(text), strange) {
		return ""
	}
	return ` comment "` + text + `"`
}
