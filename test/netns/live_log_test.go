package netns

import (
	"bytes"
	"strings"
	"sync"
)

// logBuffer takes what a program says and tells when it says a certain word.
type logBuffer struct {
	word  string
	found chan struct{} // closed once word was written

	mu   sync.Mutex
	text bytes.Buffer
	said bool
}

// newLogBuffer returns a logBuffer that waits for word; the empty word is found
// at once.
func newLogBuffer(word string) *logBuffer {
	l := &logBuffer{word: word, found: make(chan struct{})}
	l.search()
	return l
}

// Write takes a piece of the log.
func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	l.search()
	return len(b), nil
}

// search tells if the word is there.
func (l *logBuffer) search() {
	if !l.said && strings.Contains(l.text.String(), l.word) {
		l.said = true
		close(l.found)
	}
}

// String is what was said so far.
func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
