package smtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// FuzzMIME compares the contents of a message with what Go's mail and MIME
// packages read in it.
//
// Every type and file name that they see we must tell too, in their order, for a
// program that reads mail as they do is what the firewall stands before. We may
// tell more: they take one Content-Type of two, and a delimiter that is a whole
// line. Where no line begins with the name of a field that they have not read,
// there is nothing more to tell, and the lists of types must be the same.
//
// Left out is what they read otherwise by intention: header lines that end our
// header by design.md 6.8, parentheses (they know no comments), types over 255
// bytes, encoded words that are no ASCII or UTF-8. Of a name in the pieces of
// RFC 2231 only the length is compared, and ours may be longer.
func FuzzMIME(f *testing.F) {
	const evil = "Content-Type: a/evil; name=evil\n\n"
	for _, text := range []string{
		"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + evil + "text\n--b--\n",
		"To: a\nContent-Type: Multipart/Mixed;\n\tboundary=\"b c\"\n\npreamble\n--b c \nContent-Type: multipart/x; boundary=i\n\n--i\n" + evil + "\n--i--\n--b c\nContent-Disposition: attachment; filename=\"=?utf-8?B?w6Q=?= =?us-ascii?q?=41_b?=\"\n\n--b c--\nepilogue\n",
		"Content-Type: message/rfc822\n\nContent-Type: multipart/digest; boundary=\"=_b\"\n\n--=_b\n\n" + evil + "\n--=_b--\n",
		"Content-Type: multipart/mixed; boundary*0=b; boundary*1=c\n\n--bc\nContent-Disposition: x;\n filename*0*=utf-8''%c3%a4;\n filename*1=bc\n\n--bc--\n",
		"Content-Type: text/plain; name=\"a\\\"b\"; x=y\n\n",
		"A: b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n--b\nContent-type : a/b\n\n--bx\n" + evil + "\n--b--\n--b\n" + evil,
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/y; boundary=b1\n\n--b1\n" + evil + "\n--b1--\n--b\n" + evil + "\n--b--",
	} {
		f.Add([]byte(text), true)
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, crlf bool) {
		if crlf {
			text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
		}
		g := goContents{}
		if !goReads.Match(text) {
			return
		}
		g.message(text)
		ours := contents([]string{string(text)})
		if pieces := contents(strings.Split(string(text), "")); !slices.Equal(ours, pieces) {
			t.Fatalf("whole %q, in bytes %q", ours, pieces)
		}
		types := slices.DeleteFunc(slices.Clone(ours), func(s string) bool { return strings.HasPrefix(s, "name of ") || isEncoding.MatchString(s) })
		if !contains(types, g.types) {
			t.Fatalf("in %q\nGo sees the types %q, we tell %q", text, g.types, types)
		}
		if lines := len(typeLine.FindAll(text, -1)); lines == len(g.types) && !slices.Equal(types, g.types) {
			t.Fatalf("in %q\nGo sees the types %q, we tell %q and there are no other fields", text, g.types, types)
		}
		longest := 0
		for _, s := range ours {
			n := 0
			fmt.Sscanf(s, "name of %d", &n)
			longest = max(longest, n)
		}
		for _, name := range g.names {
			if !slices.Contains(ours, fmt.Sprint("name of ", name)) {
				t.Fatalf("in %q\nGo sees a name of %d, we tell %q", text, name, ours)
			}
		}
		if g.longest > longest {
			t.Fatalf("in %q\nGo sees a name of %d in pieces, we tell %q", text, g.longest, ours)
		}
	})
}

var (
	// goReads: lines of printable bytes, without comments, and without the lines
	// that Go takes for header lines although their names hold blanks or are none.
	goReads = regexp.MustCompile(`^([!-'*-~\t][ -'*-~\t]*)?(\r?\n([ -'*-~\t]*))*$`)

	typeLine   = regexp.MustCompile(`(?im)^content-type[ \t]*:`)
	isEncoding = regexp.MustCompile(`^[0-5] `)
	goodName   = regexp.MustCompile(`^[!-9;-~]+[ \t]*$`)
)

// contains reports whether all holds the elements of some, in their order.
func contains(all, some []string) bool {
	for _, s := range all {
		if len(some) > 0 && s == some[0] {
			some = some[1:]
		}
	}
	return len(some) == 0
}

// goContents is what Go's packages read in a message.
type goContents struct {
	types   []string
	names   []int // lengths of file names
	longest int   // of the names of RFC 2231, which Go drops in part where it cannot decode them
}

// message reads a message with its header. What Go refuses is not looked into:
// its programs have not seen it.
func (g *goContents) message(text []byte) {
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		return
	}
	g.entity(m.Header, body, "")
}

// entity reads a message or part, of the type given if it names none.
func (g *goContents) entity(header map[string][]string, body []byte, mediaType string) {
	for name := range header {
		if !goodName.MatchString(name) {
			return // ends our header: what stands behind it is body
		}
	}
	var params map[string]string
	if fields := header["Content-Type"]; len(fields) > 0 {
		var err error
		mediaType, params, err = mime.ParseMediaType(fields[0])
		if err != nil || len(mediaType) > 255 {
			return
		}
		g.types = append(g.types, mediaType)
		g.name(params["name"], fields[0])
	}
	if fields := header["Content-Disposition"]; len(fields) > 0 {
		if _, p, err := mime.ParseMediaType(fields[0]); err == nil {
			g.name(p["filename"], fields[0])
		}
	}
	switch {
	case mediaType == "message/rfc822" || mediaType == "message/global":
		g.message(body)
	case strings.HasPrefix(mediaType, "multipart/") && params["boundary"] != "":
		g.parts(body, params["boundary"], mediaType)
	}
}

// parts reads a multipart's body.
func (g *goContents) parts(body []byte, boundary, mediaType string) {
	inner := "text/plain"
	if mediaType == "multipart/digest" {
		inner = "message/rfc822"
	}
	for r := multipart.NewReader(bytes.NewReader(body), boundary); ; {
		p, err := r.NextRawPart()
		if err != nil {
			return
		}
		body, err := io.ReadAll(p)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		g.entity(p.Header, body, inner)
	}
}

// name notes a file name of a field's value. Words whose text is no base64 or Q
// Go leaves as they are, in part.
func (g *goContents) name(name, field string) {
	switch {
	case name == "" || keptBackslash.MatchString(field):
	case strings.Contains(field, "*"):
		if !strings.Contains(name, "=?") {
			g.longest = max(g.longest, len(name))
		}
	case !strings.Contains(name, "=?"):
		g.names = append(g.names, len(name))
	case goodWords.MatchString(name):
		decoded, err := new(mime.WordDecoder).DecodeHeader(name)
		if err == nil && !strings.ContainsRune(decoded, '\uFFFD') {
			g.names = append(g.names, len(decoded))
		}
	}
}

// keptBackslash is a quoted pair that Go takes for two bytes of a path.
var keptBackslash = regexp.MustCompile(`\\[^"\\]`)

// goodWords are encoded words whose text is what RFC 2047 has.
var goodWords = regexp.MustCompile(`(?i)^([^=?]|=\?(utf-8|us-ascii)\?(b\?([a-z0-9+/]{4})*([a-z0-9+/]{2}==|[a-z0-9+/]{3}=)?|q\?([!->@-~]*))\?=)*$`)
