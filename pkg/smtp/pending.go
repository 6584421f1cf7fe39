package smtp

// pending is a command that awaits its reply.
type pending uint8

const (
	pendingNone     pending = iota
	pendingGreeting         // the server's first reply, awaited from the start
	pendingEmpty            // an empty line; some servers skip it, others answer 500
	pendingMasked           // a masked line: the server answers 500
	pendingOther            // a command whose reply changes nothing here
	pendingEHLO
	pendingHELO
	pendingMail // MAIL, SEND, SOML, SAML
	pendingRcpt
	pendingData
	pendingDot // the end of a message
	pendingRset
	pendingAuth
	pendingAuthLine // a line of an AUTH exchange
	pendingStartTLS
)

// maxPending is how many commands may await a reply. RFC 2920 sets no bound; a
// thousand covers a full group of RCPT lines of the largest lists.
const maxPending = 1024

// pendingOf says what a verb awaits.
func pendingOf(v Verb) pending {
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
	case VerbRSET:
		return pendingRset
	case VerbAUTH:
		return pendingAuth
	case VerbSTARTTLS:
		return pendingStartTLS
	}
	return pendingOther
}

// decides reports whether the reply to p decides how the client's next bytes
// are read. Nothing may be read behind such a command before its reply
// (design.md 6.7).
func (p pending) decides() bool {
	return p == pendingData || p == pendingAuth || p == pendingAuthLine || p == pendingStartTLS
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

// pop removes the n oldest commands.
func (q *commandQueue) pop(n int) {
	q.head += n
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
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
