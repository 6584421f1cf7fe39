package audit

import (
	"fmt"
	"strconv"
	"time"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// identity is what an ASA calls the interface of its own: packets that the box
// itself sends, as synproxy does, come in by it.
const identity = "identity"

// staticMessage is one record of a static.Event.
type staticMessage struct {
	id       int
	severity Severity
	text     string
}

// StaticRecords returns the records of what became of a SYN to a host with
// connection limits, or of the host, the one that says more first.
func (f *Formatter) StaticRecords(e *static.Event) []Record {
	var out []Record
	for _, m := range f.staticMessages(e) {
		r := Record{ID: m.id, Severity: m.severity, Time: f.wall(e.Time), Key: staticKey(e, m.id)}
		m.text += inParentheses(staticCauses(e))
		if f.opt.Format == JSON {
			r.Body = f.staticObject(e, m, r.Time)
		} else {
			f.frame(&r, m.text)
		}
		out = append(out, r)
	}
	return out
}

// staticKey tells which records repeat each other: those of one host, and of one
// client of it if that is over a limit. A host's entering intercept is no repeat
// of its leaving it, though both have one number.
func staticKey(e *static.Event, id int) Key {
	k := Key{ID: id, Rule: e.Kind.String(), Host: e.Server.Addr().Unmap()}
	if e.PerClient {
		k.Client = e.Client.Addr().Unmap()
	}
	return k
}

// staticMessages returns what an ASA says of e (asa.md 3.3), without our
// parenthesis. It has no record of a host that leaves intercept: ours has the
// number of the one that said it entered, and a text that no parser takes for
// that one.
func (f *Formatter) staticMessages(e *static.Event) []staticMessage {
	switch e.Kind {
	case static.Refused:
		if e.PerClient {
			return []staticMessage{{201013, 3, f.exceeded(e, "Per-client connection limit")}}
		}
		return []staticMessage{{201011, 3, f.exceeded(e, "Connection limit")}, {201002, 3, tooMany(e)}}
	case static.EmbryonicRefused:
		return []staticMessage{f.halfOpen(e)}
	case static.InterceptEntered:
		return []staticMessage{f.halfOpen(e), {201003, 2, f.embryonic(e)}}
	case static.InterceptLeft:
		return []staticMessage{{201010, 6, left(e)}}
	case static.KernelRefused:
		return []staticMessage{{201002, 3, tooMany(e)}}
	}
	return nil
}

// halfOpen is 201010, or 201012 if the limit is a client's.
func (f *Formatter) halfOpen(e *static.Event) staticMessage {
	if e.PerClient {
		return staticMessage{201012, 6, f.exceeded(e, "Per-client embryonic connection limit")}
	}
	return staticMessage{201010, 6, f.exceeded(e, "Embryonic connection limit")}
}

// exceeded is the body of 201010 to 201013. Every SYN that is judged comes in, and
// the addresses are the real ones (ASA syslog guide, 201010 and 201011).
func (f *Formatter) exceeded(e *static.Event, what string) string {
	return fmt.Sprintf("%s exceeded %d/%d for input packet from %s to %s on interface %s", what, e.Count, e.Limit,
		addressPort(e.Client), addressPort(e.Server), f.synInterface(e))
}

// tooMany is the body of 201002. Its two numbers are limits, that of half-open
// connections and that of all (ASA syslog guide).
func tooMany(e *static.Event) string {
	return fmt.Sprintf("Too many TCP connections on static %s! %d %d", e.Global.Unmap(), e.Embryonic, e.Limit)
}

// embryonic is the body of 201003.
func (f *Formatter) embryonic(e *static.Event) string {
	return fmt.Sprintf("Embryonic limit exceeded %d/%d for %s to %s(%s)/%d on interface %s", e.Count, e.Limit,
		addressPort(e.Client), e.Server.Addr().Unmap(), e.Global.Unmap(), e.Server.Port(), f.synInterface(e))
}

// left is the body of our record of a host that leaves intercept.
func left(e *static.Event) string {
	return fmt.Sprintf("Embryonic connection limit no longer exceeded %d/%d for %s (%s): intercepted for %s, %d SYNs answered with a cookie",
		e.Count, e.Limit, e.Server.Addr().Unmap(), e.Global.Unmap(), hms(e.Duration), e.Cookies)
}

// staticCauses are what our parenthesis says of e.
func staticCauses(e *static.Event) (causes []string) {
	if why := interceptCause(e); why != "" {
		causes = append(causes, why)
	}
	if e.Refusals > 0 {
		causes = append(causes, strconv.FormatUint(e.Refusals, 10)+" SYNs refused by the kernel within a second, in intercept")
	}
	if e.Suppressed > 0 {
		causes = append(causes, strconv.FormatUint(e.Suppressed, 10)+" more refused since the last record")
	}
	return causes
}

// interceptCause says what TCP intercept does to the SYN in hand: one that reached
// the embryonic limit was let through, one that was stopped by another limit was
// not. One that synproxy never saw is refused.
func interceptCause(e *static.Event) string {
	const dropped = "dropped: the retransmitted SYN will be answered with a cookie"
	switch {
	case e.Unmapped:
		return "no cookie can be sent: the client uses an address that static.nft does not map"
	case e.Kind != static.InterceptEntered:
		return ""
	case !e.Dropped:
		return "SYNs are answered with a cookie from now on"
	case e.Count < e.Limit && !e.PerClient:
		return "half-open connections fill the connection limit, " + dropped
	}
	return dropped
}

// synInterface names the interface by which the SYN came in.
func (f *Formatter) synInterface(e *static.Event) string {
	if e.Interface == 0 {
		return identity
	}
	return f.ifname(e.Interface)
}

// staticObject is a record in JSON. The names are part of the program's
// interface; the package comment explains them.
type staticObject struct {
	Time       string   `json:"time"`
	Host       string   `json:"host,omitempty"`
	ID         int      `json:"id"`
	Severity   Severity `json:"severity"`
	Event      string   `json:"event"`
	Client     string   `json:"client,omitempty"`
	ClientPort uint16   `json:"client_port,omitempty"`
	Interface  string   `json:"interface,omitempty"`
	Local      string   `json:"local"`
	Global     string   `json:"global"`
	ServerPort uint16   `json:"server_port,omitempty"`
	PerClient  bool     `json:"per_client,omitempty"`
	Count      uint32   `json:"count"`
	Limit      uint32   `json:"limit"`
	Detail     string   `json:"detail,omitempty"`
	Suppressed uint64   `json:"suppressed,omitempty"`
	Refusals   uint64   `json:"refusals,omitempty"`
	Duration   *float64 `json:"duration,omitempty"`
	Cookies    *uint64  `json:"cookies,omitempty"`
	Message    string   `json:"message"`
}

// staticObject is the record as one line of JSON.
func (f *Formatter) staticObject(e *static.Event, m staticMessage, wall time.Time) string {
	o := staticObject{
		Time: wall.Format(jsonTime), Host: f.opt.Host, ID: m.id, Severity: m.severity, Event: e.Kind.String(),
		Local: e.Server.Addr().Unmap().String(), Global: e.Global.Unmap().String(), ServerPort: e.Server.Port(),
		PerClient: e.PerClient, Count: e.Count, Limit: e.Limit, Detail: interceptCause(e), Suppressed: e.Suppressed, Message: m.text,
	}
	switch e.Kind {
	case static.InterceptLeft:
		seconds := max(e.Duration, 0).Seconds()
		o.Duration, o.Cookies = &seconds, &e.Cookies
	case static.KernelRefused:
		o.Refusals = e.Refusals
	default:
		o.Client, o.ClientPort, o.Interface = e.Client.Addr().Unmap().String(), e.Client.Port(), f.synInterface(e)
	}
	return encode(o)
}
