package main

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// TestConnFlags takes a connection of each direction through its life, as Cisco's
// document 113602 does: c is what its client did, s its server.
func TestConnFlags(t *testing.T) {
	c, s, both := [2]bool{true, false}, [2]bool{false, true}, [2]bool{true, true}
	for _, tt := range []struct {
		name              string
		conn              engine.ConnInfo
		inbound, outbound string
	}{
		{"SYN", engine.ConnInfo{}, "SaAB", "saA"},
		{"SYN-ACK", engine.ConnInfo{Answered: true}, "aB", "A"},
		{"greeting", engine.ConnInfo{Answered: true, Up: true, Data: s}, "UOB", "UI"},
		{"commands", engine.ConnInfo{Answered: true, Up: true, Data: both}, "UIOBM", "UIOM"},
		{"TLS", engine.ConnInfo{Answered: true, Up: true, Data: both, Offloaded: true}, "UIOBMo", "UIOMo"},
		{"only the client has spoken", engine.ConnInfo{Answered: true, Up: true, Data: c}, "UIBM", "UOM"},
		{"the client's FIN", engine.ConnInfo{Answered: true, Up: true, Data: both, FIN: c}, "UFIOBM", "UfIOM"},
		{"its ACK", engine.ConnInfo{Answered: true, Up: true, Data: both, FIN: c, FINAcked: c}, "UFrIOBM", "UfRIOM"},
		{"the server's FIN", engine.ConnInfo{Answered: true, Up: true, FIN: s}, "UfB", "UF"},
		{"its ACK", engine.ConnInfo{Answered: true, Up: true, FIN: s, FINAcked: s}, "UfRB", "UFr"},
		{"all of them", engine.ConnInfo{Answered: true, Up: true, FIN: both, FINAcked: both}, "UfFRrB", "UfFRr"},
	} {
		if got := connFlags(&tt.conn, false); got != tt.inbound {
			t.Errorf("%s, inbound: %s, want %s", tt.name, got, tt.inbound)
		}
		if got := connFlags(&tt.conn, true); got != tt.outbound {
			t.Errorf("%s, outbound: %s, want %s", tt.name, got, tt.outbound)
		}
	}
}

// listedConn is a connection between interface 2, outside, and 3, inside.
func listedConn(id uint64, client, server string, clientInterface uint32) engine.ConnInfo {
	return engine.ConnInfo{
		Conn: engine.Conn{
			ID:     id,
			Client: engine.Endpoint{AddrPort: netip.MustParseAddrPort(client), Interface: clientInterface},
			Server: engine.Endpoint{AddrPort: netip.MustParseAddrPort(server), Interface: 5 - clientInterface},
		},
		Answered: true, Up: true,
	}
}

// sampleConns are an inbound and an outbound connection, and one whose interfaces
// are gone, an hour after the daemon's start.
func sampleConns() daemon.Conns {
	in := listedConn(17, "203.0.113.5:41522", "192.168.1.1:25", 2)
	in.Started, in.Heard, in.Bytes, in.Data = time.Minute, time.Hour-11*time.Second-400*time.Millisecond, 5204, [2]bool{true, true}
	out := listedConn(18, "[2001:db8:1::1]:40000", "[2001:db8::5]:25", 3)
	out.Started, out.Heard, out.Offloaded = 2*time.Minute, 2*time.Minute, true
	gone := listedConn(19, "198.51.100.1:1024", "192.168.1.1:25", 9)
	gone.Started, gone.Heard, gone.Answered, gone.Up = time.Hour, time.Hour, false, false
	return daemon.Conns{Now: time.Hour, InUse: 5, Most: 51, List: []engine.ConnInfo{in, out, gone}}
}

// interfaceOf names the interfaces of sampleConns.
func interfaceOf(index uint32) string { return map[uint32]string{2: "outside", 3: "inside"}[index] }

func TestShowConnText(t *testing.T) {
	table := newConnTable(sampleConns(), interfaceOf, time.Now())
	const want = `5 in use, 51 most used
TCP outside 203.0.113.5:41522 inside 192.168.1.1:25, idle 0:00:11, bytes 5204, flags UIOBM
TCP outside [2001:db8::5]:25 inside [2001:db8:1::1]:40000, idle 0:58:00, bytes 0, flags Uo
TCP unknown 198.51.100.1:1024 unknown 192.168.1.1:25, idle 0:00:00, bytes 0, flags SaAB
2 more are not listed
`
	if diff := cmp.Diff(want, printed(t, &table, false)); diff != "" {
		t.Error(diff)
	}
}

func TestShowConnJSON(t *testing.T) {
	all := sampleConns()
	all.List, all.InUse = all.List[:1], 1
	table := newConnTable(all, interfaceOf, time.Date(2026, 11, 23, 14, 3, 1, 5e8, time.FixedZone("", 3600)))
	const want = `{
  "in_use": 1,
  "most_used": 51,
  "connections": [
    {
      "connection": 17,
      "direction": "inbound",
      "client": "203.0.113.5",
      "client_port": 41522,
      "client_interface": "outside",
      "server": "192.168.1.1",
      "server_port": 25,
      "server_interface": "inside",
      "started": "2026-11-23T12:04:01.5Z",
      "idle": 11.4,
      "bytes": 5204,
      "flags": "UIOBM",
      "offloaded": false
    }
  ]
}
`
	if diff := cmp.Diff(want, printed(t, &table, true)); diff != "" {
		t.Error(diff)
	}
	table = newConnTable(daemon.Conns{}, interfaceOf, time.Now())
	if got := printed(t, &table, true); !strings.Contains(got, `"connections": []`) {
		t.Errorf("without connections: %s", got)
	}
}

// TestShowConnAsks lists connections through a control connection.
func TestShowConnAsks(t *testing.T) {
	var table connTable
	err := ask(sources{policy: &policy.Config{}, conns: func(_ context.Context, limit int) (daemon.Conns, error) {
		if limit != maxListed {
			t.Errorf("at most %d connections were asked for", limit)
		}
		return sampleConns(), nil
	}}, showConn, &table)
	if err != nil {
		t.Fatal(err)
	}
	if got := printed(t, &table, false); !strings.HasPrefix(got, "5 in use, 51 most used\nTCP ") || strings.Count(got, "\n") != 5 {
		t.Errorf("printed %q", got)
	}
}

// TestShowConnFits makes the longest line that there can be: as many as are listed
// fit into an answer of the control socket, of 64 MiB.
func TestShowConnFits(t *testing.T) {
	name := strings.Repeat("i", 48) // an ASA takes names of 48 characters
	longest := engine.ConnInfo{
		Conn: engine.Conn{
			ID:     1<<64 - 1,
			Client: engine.Endpoint{AddrPort: netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")},
			Server: engine.Endpoint{AddrPort: netip.MustParseAddrPort("[2001:db8:1111:2222:3333:4444:5555:6667]:65535")},
		},
		Bytes: 1<<64 - 1, Answered: true, Up: true, Data: [2]bool{true, true}, FIN: [2]bool{true, true}, FINAcked: [2]bool{true, true},
	}
	day := 24 * time.Hour
	table := newConnTable(daemon.Conns{Now: 10000*day + 123*time.Millisecond, List: []engine.ConnInfo{longest}}, func(uint32) string { return name }, time.Now())
	line, err := json.Marshal(table.Connections[0])
	if err != nil {
		t.Fatal(err)
	}
	if all := (len(line) + 1) * maxListed; all > 64<<20-1000 {
		t.Errorf("%d lines of %d octets are more than an answer holds", maxListed, len(line))
	}
}
