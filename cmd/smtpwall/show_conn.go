package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/flow"
)

// showConn is the control command of `show conn`.
const showConn = "show conn"

// connTable is the answer to it. The JSON names are part of the program's
// interface; those that audit records have too mean the same there.
type connTable struct {
	InUse       int        `json:"in_use"`
	MostUsed    int        `json:"most_used"`         // at the same time, since the daemon started
	Omitted     int        `json:"omitted,omitempty"` // of InUse: not listed, for want of room
	Connections []connLine `json:"connections"`       // the oldest first
}

// connLine is one connection.
type connLine struct {
	Connection      uint64     `json:"connection"`
	Direction       string     `json:"direction"` // inbound or outbound
	Client          netip.Addr `json:"client"`
	ClientPort      uint16     `json:"client_port"`
	ClientInterface string     `json:"client_interface"`
	Server          netip.Addr `json:"server"`
	ServerPort      uint16     `json:"server_port"`
	ServerInterface string     `json:"server_interface"`
	Started         time.Time  `json:"started"`
	Idle            float64    `json:"idle"` // seconds
	Bytes           uint64     `json:"bytes"`
	Flags           string     `json:"flags"`
	Offloaded       bool       `json:"offloaded"`
}

// connTable lists the connections under inspection.
func (s sources) connTable(ctx context.Context) (connTable, error) {
	all, err := s.conns(ctx, maxListed)
	if err != nil {
		return connTable{}, err
	}
	names := interfaceNames{nameif: s.policy.Nameif, known: map[uint32]knownInterface{}}
	return newConnTable(all, names.name, time.Now()), nil
}

// newConnTable describes connections. name names an interface by its index; now
// is the wall time of all.Now.
func newConnTable(all daemon.Conns, name func(uint32) string, now time.Time) connTable {
	t := connTable{
		InUse: all.InUse, MostUsed: all.Most, Omitted: all.InUse - len(all.List),
		Connections: make([]connLine, 0, len(all.List)),
	}
	for i := range all.List {
		c := &all.List[i]
		client, server := interfaceWord(name(c.Client.Interface)), interfaceWord(name(c.Server.Interface))
		// A flow is outbound if its SYN came in by the interface named inside, as
		// in audit records.
		outbound := client == "inside"
		t.Connections = append(t.Connections, connLine{
			Connection: c.ID, Direction: direction(outbound),
			Client: c.Client.Addr(), ClientPort: c.Client.Port(), ClientInterface: client,
			Server: c.Server.Addr(), ServerPort: c.Server.Port(), ServerInterface: server,
			Started: now.Add(c.Started - all.Now).UTC().Truncate(time.Millisecond),
			Idle:    max(0, all.Now-c.Heard).Truncate(time.Millisecond).Seconds(),
			Bytes:   c.Bytes, Flags: connFlags(c, outbound), Offloaded: c.Offloaded,
		})
	}
	return t
}

// interfaceWord is what stands for an interface whose name is not known any more.
func interfaceWord(name string) string {
	if name == "" {
		return "unknown"
	}
	return name
}

// direction is the ASA's word.
func direction(outbound bool) string {
	if outbound {
		return "outbound"
	}
	return "inbound"
}

// connFlags spells how far a connection is in the ASA's letters and their order
// (asa.md 4.2).
func connFlags(c *engine.ConnInfo, outbound bool) string {
	outside, inside := flow.Original, flow.Reply // who sends
	if outbound {
		outside, inside = inside, outside
	}
	var flags string
	add := func(yes bool, letter string) {
		if yes {
			flags += letter
		}
	}
	add(!c.Answered && outbound, "s")
	add(!c.Answered && !outbound, "S")
	add(!c.Answered || !outbound && !c.Up, "a")
	add(!c.Answered || outbound && !c.Up, "A")
	add(c.Up, "U")
	add(c.FIN[inside], "f")
	add(c.FIN[outside], "F")
	add(c.FINAcked[inside], "R") // by the outside
	add(c.FINAcked[outside], "r")
	add(c.Data[outside], "I")
	add(c.Data[inside], "O")
	add(!outbound, "B")
	add(c.Data[flow.Original], "M")
	add(c.Offloaded, "o")
	return flags
}

// newShowConnCommand returns `smtpwall show conn`.
func newShowConnCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "conn",
		Short: "list the connections under inspection",
		Long: `Lists the connections under inspection as an ASA's "show conn" does: those that
have a record 302013 and no 302014, the oldest first. Exempt ones are not known
to the daemon; "conntrack -L" has them.

  2 in use, 51 most used
  TCP outside 203.0.113.5:41522 inside 192.168.1.1:25, idle 0:00:11, bytes 5204, flags UIOBM
  TCP outside 203.0.113.9:52419 inside 192.168.1.1:25, idle 0:00:02, bytes 0, flags SaAB

The end outside stands first, which is the client unless its SYN came in by the
interface named inside. "most used" is since the daemon started, "idle" h:mm:ss
since the last packet, "bytes" payload forwarded in both directions.

  s S  awaiting the outside's, the inside's SYN     B  initial SYN from outside
  a A  awaiting the outside's, the inside's ACK     U  up
  I O  inbound, outbound data                       M  SMTP data: the client has spoken
  F f  FIN of the outside, of the inside            o  offloaded: encrypted, or passed by
  R r  the outside, the inside acknowledged a FIN      --undecided open; no longer inspected

A client's bare ACKs do not come to the daemon: its ACK counts as awaited until
the first data, and the one of a FIN may never be seen. What the kernel forwards
of an offloaded connection is not seen either: bytes end and idle begins there,
and the connection is listed until conntrack forgets it. Beyond 140,000 lines,
connections are only counted.`,
		Example: `  smtpwall show conn
  smtpwall show conn | grep 'flags [sSaA]'            # half-open ones
  smtpwall show conn --json | jq '.connections[] | select(.idle > 600)'`,
	}, showConn, func() shown { return &connTable{} })
}

// print writes the answer as text or as JSON.
func (t *connTable) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, t)
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "%d in use, %d most used\n", t.InUse, t.MostUsed)
	for i := range t.Connections {
		t.Connections[i].print(b)
	}
	if t.Omitted > 0 {
		fmt.Fprintf(b, "%d more are not listed\n", t.Omitted)
	}
	return b.Flush()
}

// print writes the line of a connection.
func (c *connLine) print(w io.Writer) {
	end := func(name string, addr netip.Addr, port uint16) string {
		return name + " " + netip.AddrPortFrom(addr, port).String()
	}
	first, second := end(c.ClientInterface, c.Client, c.ClientPort), end(c.ServerInterface, c.Server, c.ServerPort)
	if c.Direction == direction(true) {
		first, second = second, first
	}
	s := int64(c.Idle)
	fmt.Fprintf(w, "TCP %s %s, idle %d:%02d:%02d, bytes %d, flags %s\n", first, second, s/3600, s/60%60, s%60, c.Bytes, c.Flags)
}
