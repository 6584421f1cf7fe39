package capture

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// Turn is one line of a transcript: bytes that one side sends at once.
type Turn struct {
	Line int // in its file, from 1
	Side smtp.Side
	Data []byte
}

// Transcript is a dialogue written as text:
//
//	# a comment
//	S: 220 mx.example.org ESMTP
//	C: EHLO client.example.com
//	C: MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>
//	C: QU\
//	C: IT
//
// A line begins with "C: " (the client speaks) or "S: " (the server does); what
// follows is sent in packets of its own, with CR LF appended. Within it \r, \n,
// \t, \0 and \\ stand for those bytes and \xNN for any. A backslash at the end
// leaves the CR LF out, so that a command can be cut in two or end in a way of
// its own ("C: NOOP\n\"). Empty lines and lines that begin with # mean nothing.
type Transcript []Turn

// ParseTranscript reads a transcript; file is for messages. The error names the
// line and column.
func ParseTranscript(file string, text []byte) (Transcript, error) {
	var t Transcript
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		side, ok := map[byte]smtp.Side{'C': smtp.Client, 'S': smtp.Server}[line[0]]
		rest, colon := strings.CutPrefix(line[1:], ":")
		if !ok || !colon {
			return nil, fmt.Errorf(`%s:%d:1: want "C: " or "S: " or a comment that begins with #`, file, i+1)
		}
		rest = strings.TrimPrefix(rest, " ")
		data, bad, err := unescape(rest)
		if err != nil {
			return nil, fmt.Errorf("%s:%d:%d: %w", file, i+1, len(line)-len(rest)+bad+1, err)
		}
		t = append(t, Turn{Line: i + 1, Side: side, Data: data})
	}
	return t, nil
}

// unescape returns the bytes that a line sends, or the place of a backslash that
// means nothing.
func unescape(s string) (data []byte, bad int, err error) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			data = append(data, s[i])
			continue
		}
		if i == len(s)-1 {
			return data, 0, nil
		}
		at := i
		i++
		if at := strings.IndexByte(`rnt0\`, s[i]); at >= 0 {
			data = append(data, "\r\n\t\x00\\"[at])
			continue
		}
		if s[i] != 'x' || i+2 >= len(s) {
			return nil, at, fmt.Errorf(`unknown escape %q; want \r, \n, \t, \0, \\, \xNN or a \ at the end`, s[at:i+1])
		}
		v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return nil, at, fmt.Errorf(`escape %q: want two hexadecimal digits behind \x`, s[at:i+3])
		}
		data = append(data, byte(v))
		i += 2
	}
	return append(data, "\r\n"...), 0, nil
}

// EscapeLine writes data as a transcript's line has it, without its speaker.
func EscapeLine(data []byte) string {
	data, whole := bytes.CutSuffix(data, []byte("\r\n"))
	var b strings.Builder
	for _, c := range data {
		if at := strings.IndexByte("\r\n\t\x00\\", c); at >= 0 {
			b.WriteString(`\` + string(`rnt0\`[at]))
		} else if c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	if !whole {
		b.WriteByte('\\')
	}
	return b.String()
}

// No turn: the packets that open and close the connection.
const (
	Opening = -1
	Closing = -2
)

// The ends of a transcript's connection: documentation addresses (RFC 5737).
var (
	transcriptClient = netip.MustParseAddrPort("203.0.113.5:41522")
	transcriptServer = netip.MustParseAddrPort("192.0.2.25:25")
)

// Interfaces that a transcript's packets come in by: the client is outside.
const (
	OutsideIndex = 1
	InsideIndex  = 2
)

// Play sends the transcript through inspect, one packet at a time: the
// handshake, the turns, and FINs. turn is the index of the packet's turn, or
// Opening or Closing. An end acknowledges only what inspect let through to it.
// Packets are a millisecond apart; their IDs count from 1.
func (t Transcript) Play(inspect func(turn int, p *engine.Packet) []engine.Decision) {
	s := NewSession(transcriptClient, transcriptServer)
	var id uint32
	send := func(turn int, side smtp.Side, data []byte) {
		id++
		p := &engine.Packet{ID: id, Time: time.Duration(id) * time.Millisecond, In: OutsideIndex, Out: InsideIndex, Data: data}
		if side == smtp.Server {
			p.In, p.Out = p.Out, p.In
		}
		for _, d := range inspect(turn, p) {
			if d.Verdict == engine.Accept && d.Mark&engine.MarkReset == 0 {
				s.Deliver(d.Data)
			}
		}
	}
	send(Opening, smtp.Client, s.SYN(smtp.Client))
	send(Opening, smtp.Server, s.SYN(smtp.Server))
	send(Opening, smtp.Client, s.ACK(smtp.Client))
	for i, turn := range t {
		for _, payload := range segments(turn.Data) {
			send(i, turn.Side, s.Data(turn.Side, payload))
		}
	}
	send(Closing, smtp.Client, s.FIN(smtp.Client))
	send(Closing, smtp.Server, s.FIN(smtp.Server))
	send(Closing, smtp.Client, s.ACK(smtp.Client))
}

// Packets returns the packets of the transcript as a network without an
// inspector would see them.
func (t Transcript) Packets() []engine.Packet {
	var out []engine.Packet
	t.Play(func(_ int, p *engine.Packet) []engine.Decision {
		out = append(out, *p)
		return []engine.Decision{{ID: p.ID, Verdict: engine.Accept, Data: p.Data}}
	})
	return out
}

// segments cuts a turn into what fits a packet. A turn without bytes has none.
func segments(data []byte) [][]byte {
	var out [][]byte
	for len(data) > mss {
		out, data = append(out, data[:mss]), data[mss:]
	}
	if len(data) > 0 {
		out = append(out, data)
	}
	return out
}
