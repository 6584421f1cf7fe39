package smtp

// pending is a command that awaits its reply.
type pending uint8

const (
	pendingNone      pending = iota
	pendingGreeting          // the server's first reply, awaited from the start
	pendingEmpty             // an empty line; some servers skip it, others answer 500
	pendingMasked            // a masked line: the server answers 500
	pendingOther             // a command whose reply changes nothing here
	pendingAlone             // the same, of a command that RFC 2920 wants last in its group
	pendingQuit              // QUIT
	pendingEHLO              // EHLO
	pendingHELO              // HELO
	pendingMail              // MAIL, SEND, SOML, SAML
	pendingRcpt              // RCPT
	pendingData              // DATA
	pendingDot               // the end of a message
	pendingChunk             // BDAT (RFC 3030)
	pendingChunkLast         // BDAT with LAST
	pendingRset              // RSET
	pendingAuth              // AUTH (RFC 4954)
	pendingAuthLine          // a line of an AUTH exchange
	pendingStartTLS          // STARTTLS (RFC 3207)
	pendingCounted           // a private command with octets behind its 354
	numPending
)

// replies says of each pending what it is called in a Fact and which replies of
// the third class its command takes (RFC 5321 section 4.3.2, RFC 4954). Every
// command takes 2yz, 4yz and 5yz but for noSuccess.
var replies = [numPending]struct {
	command   string
	takes     int // a 3yz code; 0 is none
	noSuccess bool
}{
	pendingGreeting:  {command: "greeting"},
	pendingEmpty:     {command: "empty line", noSuccess: true},
	pendingMasked:    {command: "masked line", noSuccess: true},
	pendingOther:     {command: "command"},
	pendingAlone:     {command: "command"},
	pendingQuit:      {command: "QUIT"},
	pendingEHLO:      {command: "EHLO"},
	pendingHELO:      {command: "HELO"},
	pendingMail:      {command: "MAIL"},
	pendingRcpt:      {command: "RCPT"},
	pendingData:      {command: "DATA", takes: codeStartInput, noSuccess: true},
	pendingDot:       {command: "end of data"},
	pendingChunk:     {command: "BDAT"},
	pendingChunkLast: {command: "BDAT LAST"},
	pendingRset:      {command: "RSET"},
	pendingAuth:      {command: "AUTH", takes: codeChallenge},
	pendingAuthLine:  {command: "AUTH exchange", takes: codeChallenge},
	pendingStartTLS:  {command: "STARTTLS"},
	pendingCounted:   {command: "counted command", takes: codeStartInput},
}

// expects reports whether a reply of that code is one that p's command takes.
func (p pending) expects(code int) bool {
	switch code / 100 {
	case 2:
		return !replies[p].noSuccess
	case 3:
		return code == replies[p].takes
	case 4, 5:
		return true
	}
	return false
}

// maxPending is how many commands may await a reply. RFC 2920 sets no bound; a
// thousand covers a full group of RCPT lines of the largest lists.
const maxPending = 1024

// pendingOf says what a verb awaits.
func (r *Rules) pendingOf(v Verb) pending {
	switch v {
	case VerbEHLO:
		return pendingEHLO
	case VerbHELO:
		return pendingHELO
	case VerbMAIL, VerbSEND, VerbSOML, VerbSAML:
		return pendingMail
	case VerbRCPT:
		return pendingRcpt
	case VerbDATA:
		return pendingData
	case VerbBDAT:
		return pendingChunk
	case VerbRSET:
		return pendingRset
	case VerbAUTH:
		return pendingAuth
	case VerbSTARTTLS:
		return pendingStartTLS
	case VerbQUIT:
		return pendingQuit
	case VerbVRFY, VerbNOOP, VerbHELP, VerbETRN:
		return pendingAlone
	}
	if v >= NumVerbs {
		return likes[r.Commands[v-NumVerbs].Like]
	}
	return pendingOther
}

// likes says what private commands await.
var likes = [...]pending{
	LikeLine:     pendingOther,
	LikeAUTH:     pendingAuth,
	LikeSTARTTLS: pendingStartTLS,
	LikeCounted:  pendingCounted,
}

// decides reports whether the reply to p decides how the client's next bytes
// are read. Nothing may be read behind such a command before its reply
// (design.md 6.7).
func (p pending) decides() bool {
	switch p {
	case pendingData, pendingAuth, pendingAuthLine, pendingStartTLS, pendingCounted:
		return true
	}
	return false
}

// lastInGroup reports whether nothing may be pipelined behind p (RFC 2920
// section 3.1). The commands that decide are not among them: what follows those
// is held.
func (p pending) lastInGroup() bool {
	return p == pendingEHLO || p == pendingHELO || p == pendingAlone || p == pendingQuit
}

// commandQueue holds the commands that await a reply, oldest first. The array
// is kept when the queue runs empty, so that a session allocates once.
type commandQueue struct {
	list []pending
	head int
}

func (q *commandQueue) len() int { return len(q.list) - q.head }

// push reports false when the queue is full.
func (q *commandQueue) push(p pending) bool {
	if q.len() >= maxPending {
		return false
	}
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, p)
	return true
}

// front returns the oldest command.
func (q *commandQueue) front() pending {
	if q.len() == 0 {
		return pendingNone
	}
	return q.list[q.head]
}

// back returns the newest command.
func (q *commandQueue) back() pending {
	if q.len() == 0 {
		return pendingNone
	}
	return q.list[len(q.list)-1]
}

// pop removes the n oldest commands.
func (q *commandQueue) pop(n int) {
	q.head += n
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
}

// keep removes all but the n oldest commands.
func (q *commandQueue) keep(n int) {
	q.list = q.list[:q.head+min(n, q.len())]
	q.pop(0)
}

// index returns the place of the oldest command for which match is true, or -1.
func (q *commandQueue) index(match func(pending) bool) int {
	for i, p := range q.list[q.head:] {
		if match(p) {
			return i
		}
	}
	return -1
}

// count returns how many commands p await a reply.
func (q *commandQueue) count(p pending) int {
	n := 0
	for _, x := range q.list[q.head:] {
		if x == p {
			n++
		}
	}
	return n
}
