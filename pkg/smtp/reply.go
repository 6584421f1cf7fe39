package smtp

import "bytes"

// replyLine is the server's reply line in progress (RFC 5321 section 4.2).
type replyLine struct {
	length  uint64  // bytes so far, its end not
	head    [4]byte // the first bytes: code and separator
	lines   uint32  // finished lines of this reply
	first   int     // code of the reply's first line
	mixed   bool    // a later line has another code
	offers  noted   // extensions announced in this reply
	answers pending // what the reply answers, known from its first line on
	keyword keywordLine
}

// keywordLine is a parameter of an EHLO reply in progress.
type keywordLine struct {
	word    narrowing // of Rules.keywordWords
	allowed bool      // it begins with a prefix that passes
	rest    bool      // behind the keyword's first space
	masked  bool
	edited  bool // some of it was overwritten
	cr      bool
	letter  uint8  // masked parameters so far in this reply
	partial []byte // its bytes in earlier packets, at most MaxText
}

// codeLength is the length of a reply code; the separator stands behind it.
const codeLength = 3

// readReply reads the reply line at data[i:] to its LF or to the end of data and
// returns the index behind what it read. A line ends at LF, as every client
// takes it.
func (d *Dialogue) readReply(data []byte, i int) int {
	r := &d.reply
	end, whole := len(data), false
	if n := bytes.IndexByte(data[i:], '\n'); n >= 0 {
		end, whole = i+n, true
	}
	if r.length == 0 && r.lines == 0 {
		r.answers = d.queue.front()
	}
	d.countReply(i, end, whole)
	for ; i < end && r.length < uint64(len(r.head)); i++ {
		r.head[r.length] = data[i]
		r.length++
	}
	d.replyText(data, i, end, whole)
	r.length += uint64(end - i)
	if !whole {
		return end
	}
	d.endReplyLine(end)
	return end + 1
}

// maxReplyLine is RFC 5321 section 4.5.3.1.5's bound, CR LF included.
const maxReplyLine = 512

// countReply reports the session's first reply line over that bound; data[i:end]
// is the piece to be read, without its LF. Nothing is done about it: clients take
// it.
func (d *Dialogue) countReply(i, end int, whole bool) {
	length := d.reply.length + uint64(end-i)
	if whole {
		length++
	}
	if length > maxReplyLine && d.noted&notedReplyLine == 0 {
		d.noted |= notedReplyLine
		d.report(Fact{Kind: KindReplyLine, Side: Server, Limit: maxReplyLine, Value: maxReplyLine + 1}, i+maxReplyLine-int(d.reply.length))
	}
}

// replyText edits the text behind code and separator, data[i:end].
func (d *Dialogue) replyText(data []byte, i, end int, whole bool) {
	r := &d.reply
	switch r.answers {
	case pendingGreeting:
		if d.rules.MaskBanner && r.head[0] != '4' && r.head[0] != '5' {
			d.star(data[i:end])
		}
	case pendingEmpty, pendingEHLO:
		if r.length < uint64(len(r.head)) {
			return
		}
		if r.lines > 0 && d.answersEHLO() && (r.first/100 == 2 || r.head[0] == '2') {
			d.keywordText(data, i, end, whole)
		}
	}
}

// answersEHLO reports whether the reply in progress answers an EHLO: a server
// that skips empty lines answers the command behind them, and none answers an
// empty line with success.
func (d *Dialogue) answersEHLO() bool {
	i := d.queue.index(func(p pending) bool { return p != pendingEmpty })
	return i >= 0 && d.queue.list[d.queue.head+i] == pendingEHLO
}

// star hides a greeting: every byte but 2, 0, CR and LF (asa.md 2.2).
func (d *Dialogue) star(text []byte) {
	for i, c := range text {
		if c != '2' && c != '0' && c != '\r' && c != '\n' {
			text[i] = '*'
			d.edited = true
		}
	}
}

// keywordText reads data[i:end], a piece of a parameter of an EHLO reply, and
// masks it if its keyword may not pass. Of a parameter that is split, what has
// passed already is kept, as with commands.
func (d *Dialogue) keywordText(data []byte, i, end int, whole bool) {
	k, from := &d.reply.keyword, i
	for ; i < end; i++ {
		c := data[i]
		k.cr = c == '\r'
		if c == ' ' || c == '\r' {
			k.rest = true
		}
		if !k.rest && !k.allowed {
			d.rules.keywordWords.next(&k.word, c)
			k.allowed = d.rules.keywordWords.prefix(k.word)
			k.masked = k.masked || !d.rules.keywordCanPass(k.word)
		}
	}
	text := end
	if k.cr && end > from {
		text--
	}
	if whole {
		d.endKeyword(data, from, text, end)
		return
	}
	k.partial = append(k.partial, data[from:min(end, from+MaxText)]...)
	k.partial = k.partial[:min(len(k.partial), MaxText)]
	if _, known := d.rules.keywordWords.whole(k.word); known {
		k.masked = k.masked || d.rules.MaskKeywords[d.classOf(k)] // the whole word may be here already
	}
	if k.masked {
		d.mask(data[from:text])
		k.edited = k.edited || text > from
	}
}

// endKeyword ends the parameter whose last piece is data[from:text]; data[lf] is
// the LF behind it.
func (d *Dialogue) endKeyword(data []byte, from, text, lf int) {
	k := &d.reply.keyword
	class := d.classOf(k)
	k.masked = d.rules.MaskKeywords[class]
	if !k.masked {
		switch class {
		case KeywordPIPELINING:
			d.reply.offers |= pipeliningOffered
		case KeywordCHUNKING:
			d.reply.offers |= chunkingOffered
		}
	}
	length := int(d.reply.length) - len(d.reply.head) + lf - from
	if k.cr {
		length--
	}
	if length <= 0 {
		return
	}
	whole := data[from:text]
	if len(k.partial) > 0 {
		whole = append(k.partial, data[from:min(text, from+MaxText)]...)
		whole = whole[:min(len(whole), length)]
	}
	d.report(Fact{Kind: KindEHLOKeyword, Side: Server, Keyword: class, Passed: !k.edited && text == from, Text: whole}, lf)
	if k.masked {
		d.mask(data[from:text])
		if text > from {
			data[text-1] = 'A' + k.letter%26
		}
		k.letter++
	}
}

// classOf is the class of a whole keyword.
func (d *Dialogue) classOf(k *keywordLine) Keyword {
	if k.allowed {
		return KeywordAllowed
	}
	if id, ok := d.rules.keywordWords.whole(k.word); ok {
		return d.rules.classOf(Keyword(id))
	}
	return KeywordOthers
}

// endReplyLine ends the line whose LF is data[i].
func (d *Dialogue) endReplyLine(i int) {
	r := &d.reply
	code, ok := r.code()
	last := !ok || r.length <= codeLength || r.head[codeLength] != '-'
	if r.lines == 0 {
		r.first = code
	}
	r.mixed = r.mixed || ok && code != r.first
	r.lines++
	keyword := keywordLine{word: d.rules.keywordWords.start(), letter: r.keyword.letter}
	switch {
	case !ok: // no reply line: it answers nothing
		r.lines--
	case last:
		d.endReply(code, i)
		*r, keyword.letter = replyLine{}, 0
	}
	r.length, r.head, r.keyword = 0, [4]byte{}, keyword
}

// code returns the three digits of the line, if it has them.
func (r *replyLine) code() (code int, ok bool) {
	if r.length < codeLength {
		return 0, false
	}
	for _, c := range r.head[:codeLength] {
		if c < '0' || c > '9' {
			return 0, false
		}
		code = code*10 + int(c-'0')
	}
	return code, true
}
