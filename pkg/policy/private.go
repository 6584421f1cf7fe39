package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// maxWord bounds the words of allow-command and allow-ehlo-parameter, in bytes:
// the longest in use, ENHANCEDSTATUSCODES, has 19.
const maxWord = 32

// minCommand is the session rule of the ASA: a command of fewer letters is
// masked whatever it is (asa.md section 0).
const minCommand = 4

// likes are the words behind `like`.
var likes = []string{
	smtp.LikeLine:     "line",
	smtp.LikeAUTH:     "auth",
	smtp.LikeSTARTTLS: "starttls",
	smtp.LikeCounted:  "counted",
}

// builtInLikes are the private commands that are more than a line and its reply,
// all of them Exchange's (design.md section 5).
var builtInLikes = map[string]smtp.Like{
	"X-EXPS":         smtp.LikeAUTH,
	"X-ANONYMOUSTLS": smtp.LikeSTARTTLS,
	"XEXCH50":        smtp.LikeCounted,
}

// refusal says why a word cannot be allowed, and what to write.
type refusal struct{ problem, want string }

// exempted is what to do about a word that is refused for good.
const exempted = "no such word: hosts that must use it belong into exempt.nft"

// refusedCommands are the commands that allow-command does not take.
var refusedCommands = map[string]refusal{
	"ATRN":     {"client and server would change places behind it, and the server's mail would pass as replies", exempted},
	"BDAT":     {"not for allow-command", "allow-bdat"},
	"BURL":     {"the server would fetch message octets that were never inspected", exempted},
	"LHLO":     {"in LMTP the end of a message has a reply for each recipient, which cannot be told from other replies", exempted},
	"STARTTLS": {"not for allow-command", "allow-tls"},
	"TURN":     {"client and server would change places behind it, and the server's mail would pass as replies", exempted},
}

// refusedKeywords are the EHLO keywords that allow-ehlo-parameter does not take.
var refusedKeywords = map[string]refusal{
	"CHUNKING":       {"not for allow-ehlo-parameter", "allow-bdat"},
	"OTHERS":         {"not a keyword of a server", "keywords by their names, or no match ehlo-reply-parameter others with mask"},
	"PIPECONNECT":    {"the client would send commands before the greeting", exempted},
	"PIPE_CONNECT":   {"the client would send commands before the greeting", exempted},
	"PRDR":           {"the end of a message would have a reply for each recipient, which cannot be told from other replies", exempted},
	"STARTTLS":       {"not for allow-ehlo-parameter", "allow-tls"},
	"X_PIPE_CONNECT": {"the client would send commands before the greeting", exempted},
}

// knownCommands are the other commands that servers are known to have (peers.md
// 1.2; RFC 821, 1985, 2645, 4468; Postfix and Exchange). No list is ever
// complete: it only tells which words of allow-command are a trap.
var knownCommands = []string{
	"ATRN", "BURL", "DEBUG", "EMAL", "ESAM", "ESND", "ESOM", "EVFY", "EXPN", "IDENT", "KILL", "LHLO", "ONEX", "QUEU",
	"TICK", "TIME", "TURN", "TURNME", "VERB", "WIZ", "X-ANONYMOUSTLS", "X-EXPS", "X-LINK2STATE", "XADR", "XAUTH", "XCIR",
	"XCLIENT", "XEXCH50", "XFORWARD", "XGEN", "XLICENSE", "XQUE", "XSTA", "XTRN", "XUSR",
}

// readAllowCommand reads `allow-command VERB... [like KIND]`, of which a map may
// have several.
func (p *parser) readAllowCommand(l *line) {
	if !p.againInMap(l, "allow-command") {
		return
	}
	var verbs []word
	for len(verbs) == 0 || l.next < len(l.words) && !l.peek().is("like") {
		w, ok := l.read()
		if !ok || w.is("like") {
			p.unexpected(w, "the words of commands", nil)
			return
		}
		verbs = append(verbs, w)
	}
	like, stated := smtp.LikeLine, l.optional("like")
	if stated {
		name, ok := l.keyword(likes...)
		if !ok || !l.end() {
			return
		}
		like = smtp.Like(slices.Index(likes, name))
	}
	for _, w := range verbs {
		c := smtp.Command{Word: strings.ToUpper(w.text), Like: like}
		if !stated {
			c.Like = builtInLikes[c.Word]
		}
		p.allowCommand(w, c)
	}
}

// allowCommand adds a private command to the map being read.
func (p *parser) allowCommand(w word, c smtp.Command) {
	m := p.lastMap()
	no, found := refusedCommands[c.Word]
	_, passes := smtp.VerbOf(c.Word, nil)
	switch {
	case found:
		p.report(w, no.problem, no.want, "")
	case passes:
		p.report(w, "passes without it", "no such word", "")
	case !p.isPrivateWord(w, w.text):
	case len(c.Word) < minCommand:
		p.report(w, "too short", fmt.Sprintf("a command of at least %d letters: a shorter one is always masked", minCommand), "")
	case strings.Trim(c.Word, "X") == "":
		p.report(w, "what every masked command becomes", "a word that is not all X", "")
	case slices.ContainsFunc(m.AllowCommands, func(other smtp.Command) bool { return other.Word == c.Word }):
		p.report(w, "stated twice", "", "")
	case len(m.AllowCommands) >= smtp.MaxPrivate:
		p.report(w, "too many commands", fmt.Sprintf("%d at most", smtp.MaxPrivate), "")
	default:
		m.AllowCommands, m.commands = append(m.AllowCommands, c), append(m.commands, w)
	}
}

// readAllowKeyword reads `allow-ehlo-parameter KEYWORD...`, of which a map may
// have several.
func (p *parser) readAllowKeyword(l *line) {
	if !p.againInMap(l, "allow-ehlo-parameter") {
		return
	}
	for first := true; first || l.next < len(l.words); first = false {
		w, ok := l.read()
		if !ok {
			p.unexpected(w, "EHLO keywords", nil)
			return
		}
		p.allowKeyword(w, strings.ToUpper(w.text))
	}
}

// allowKeyword adds an EHLO keyword to the map being read.
func (p *parser) allowKeyword(w word, keyword string) {
	m := p.lastMap()
	no, found := refusedKeywords[keyword]
	class := keyword
	if class == "ENHANCEDSTATUSCODES" {
		class = keywords[smtp.KeywordECODE]
	}
	switch {
	case found:
		p.report(w, no.problem, no.want, "")
	case slices.ContainsFunc(keywords[smtp.Keyword8BITMIME:], func(k string) bool { return strings.EqualFold(k, class) }):
		p.report(w, "passes unless a match line masks it", "no such word: match ehlo-reply-parameter "+strings.ToLower(class)+" decides on it", "")
	case !p.isPrivateWord(w, strings.TrimSuffix(w.text, "=")):
	case slices.Contains(m.AllowKeywords, keyword):
		p.report(w, "stated twice", "", "")
	case len(m.AllowKeywords) >= smtp.MaxPrivate:
		p.report(w, "too many EHLO keywords", fmt.Sprintf("%d at most", smtp.MaxPrivate), "")
	default:
		m.AllowKeywords = append(m.AllowKeywords, keyword)
	}
}

// isPrivateWord reports a text that no server would take for a word.
func (p *parser) isPrivateWord(w word, text string) bool {
	switch {
	case text == "" || !isWord(text):
		p.report(w, "not a word of SMTP", "letters, digits and '-'", "")
	case len(w.text) > maxWord:
		p.report(w, fmt.Sprintf("%d characters long", len(w.text)), fmt.Sprintf("a word of at most %d", maxWord), "")
	default:
		return true
	}
	return false
}

// checkPrivate refuses allowed commands that would let a forbidden one reach the
// server. Bytes pass while they can still become an allowed word, and what
// follows is X (design.md 6.5): a client that splits the line so could have
// TURNX, allowed, stand for TURN, and ONES for ONEX.
func (p *parser) checkPrivate(m *mapLines) {
	if len(m.AllowCommands) == 0 {
		return
	}
	forbidden := m.forbidden()
	for i, c := range m.AllowCommands {
		if !m.passes(smtp.NumVerbs + smtp.Verb(i)) {
			continue
		}
		for _, bad := range forbidden {
			if passed := common(c.Word, bad); strings.Trim(bad[passed:], "X") == "" {
				p.report(m.commands[i], "lets the forbidden command "+bad+" through, if a client splits its line behind "+bad[:passed],
					exempted, "")
				break
			}
		}
	}
}

// common is the number of bytes that a and b begin with alike.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// forbidden lists the known commands that the map does not let through in the
// clear.
func (m *Map) forbidden() (words []string) {
	for _, w := range append(m.verbNames(), knownCommands...) {
		if v, ok := smtp.VerbOf(w, m.AllowCommands); !ok || !m.passes(v) {
			words = append(words, w)
		}
	}
	return words
}

// passes tells whether a command may reach the server in the clear; v is not
// VerbUnknown.
func (m *Map) passes(v smtp.Verb) bool {
	if m.masksVerb(v) {
		return false
	}
	switch v {
	case smtp.VerbSTARTTLS:
		return m.AllowTLS
	case smtp.VerbBDAT:
		return m.AllowBDAT
	case smtp.VerbMAIL, smtp.VerbSEND, smtp.VerbSOML, smtp.VerbSAML, smtp.VerbAUTH:
		return !m.RequireTLS
	}
	return !m.RequireTLS || v < smtp.NumVerbs || m.AllowCommands[v-smtp.NumVerbs].Like != smtp.LikeAUTH
}

// masksVerb tells whether a match line masks the command.
func (m *Map) masksVerb(v smtp.Verb) bool {
	return slices.ContainsFunc(m.Matches, func(match Match) bool {
		return match.Do.Action == Mask && match.hasVerb(m, v)
	})
}
