package audit

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// jsonTime is RFC 3339 with microseconds.
const jsonTime = "2006-01-02T15:04:05.000000Z07:00"

// object is a record in JSON. The names are part of the program's interface;
// the package comment explains them.
type object struct {
	Time            string   `json:"time"`
	Host            string   `json:"host,omitempty"`
	ID              int      `json:"id"`
	Severity        Severity `json:"severity"`
	Event           string   `json:"event"`
	Connection      uint64   `json:"connection"`
	Direction       string   `json:"direction"`
	Client          string   `json:"client"`
	ClientPort      uint16   `json:"client_port"`
	ClientInterface string   `json:"client_interface"`
	Server          string   `json:"server"`
	ServerPort      uint16   `json:"server_port"`
	ServerInterface string   `json:"server_interface"`
	Side            string   `json:"side,omitempty"`
	Action          string   `json:"action,omitempty"`
	Class           int      `json:"class,omitempty"`
	Rule            string   `json:"rule,omitempty"`
	Detail          string   `json:"detail,omitempty"`
	Offset          *uint64  `json:"offset,omitempty"`
	Limit           uint64   `json:"limit,omitempty"`
	Value           *uint64  `json:"value,omitempty"`
	Text            string   `json:"text,omitempty"`
	Interface       string   `json:"interface,omitempty"`
	NotForwarded    bool     `json:"not_forwarded,omitempty"`
	Duration        *float64 `json:"duration,omitempty"`
	Bytes           *uint64  `json:"bytes,omitempty"`
	Reason          string   `json:"reason,omitempty"`
	Message         string   `json:"message"`
}

// object is the record as one line of JSON.
func (f *Formatter) object(e *engine.Event, m message, wall time.Time) string {
	_, _, direction := f.orient(e)
	o := object{
		Time: wall.Format(jsonTime), Host: f.opt.Host,
		ID: m.id, Severity: m.severity, Event: m.event,
		Connection: e.Conn.ID, Direction: direction,
		Client: address(e.Conn.Client), ClientPort: e.Conn.Client.Port(), ClientInterface: f.ifname(e.Conn.Client.Interface),
		Server: address(e.Conn.Server), ServerPort: e.Conn.Server.Port(), ServerInterface: f.ifname(e.Conn.Server.Interface),
		Action: e.Do.Action.String(), Class: e.Class, Rule: ruleName(e), Detail: clean(e.Detail),
		Limit: e.Limit, Text: peer(e.Text), NotForwarded: e.NotForwarded, Reason: m.reason, Message: m.text,
	}
	if e.Limit > 0 || e.Value > 0 { // 0 is a value where there is a bound
		o.Value = &e.Value
	}
	switch e.Kind {
	case engine.EventTeardown:
		seconds := max(e.Duration, 0).Seconds()
		o.Duration, o.Bytes = &seconds, &e.Bytes
		if e.Rule != "" {
			o.Offset = &e.Offset
		}
	case engine.EventBuilt, engine.EventTLSStarted:
	case engine.EventSpoofed:
		o.Interface = f.ifname(e.Interface)
		fallthrough
	case engine.EventDuplicateSYN, engine.EventUrgentCleared, engine.EventExceedsMSS:
		o.Side = side(e.Side)
	default:
		o.Side, o.Offset = side(e.Side), &e.Offset
	}
	return encode(o)
}

// side is the JSON word for whose bytes an event is about.
func side(s smtp.Side) string { return strings.ToLower(s.String()) }

// encode writes v without the line end and without HTML's escapes, which make
// every mail address unreadable. An object of strings and numbers cannot fail.
func encode(v any) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return `{"error":"record cannot be written as JSON"}`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
