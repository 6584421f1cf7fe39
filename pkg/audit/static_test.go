package audit

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// syn is a SYN that came in by an interface.
func syn(client, server string, in uint32) static.SYN {
	return static.SYN{Conn: static.Conn{Client: netip.MustParseAddrPort(client), Server: netip.MustParseAddrPort(server)}, Interface: in}
}

// The SYNs of these tests, and the addresses by which clients reach their servers.
var (
	syn4      = syn("203.0.113.5:41522", "192.168.1.1:25", 1)
	syn6      = syn("[2001:db8::5]:41522", "[2001:db8:1::1]:587", 3)
	host4     = static.SYN{Conn: static.Conn{Server: netip.MustParseAddrPort("192.168.1.1:0")}}
	global4   = netip.MustParseAddr("1.1.1.1")
	global6   = netip.MustParseAddr("2001:db8:2::25")
	identity6 = netip.MustParseAddr("2001:db8:1::1")
)

// TestStaticASA compares whole records with the formats of asa.md 3.3.
func TestStaticASA(t *testing.T) {
	const (
		sev2, sev3, sev6 = "<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-", "<163>Nov 23 2025 13:03:01 fw1 : %ASA-3-", "<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-"
		packet4          = " for input packet from 203.0.113.5/41522 to 192.168.1.1/25 on interface outside"
		packet6          = " for input packet from 2001:db8::5/41522 to 2001:db8:1::1/587 on interface eth0_100"
		fromNowOn        = " (SYNs are answered with a cookie from now on)"
		dropped          = "dropped: the retransmitted SYN will be answered with a cookie)"
	)
	tests := []struct {
		name  string
		event static.Event
		want  []string
	}{
		{"over the total limit", static.Event{Kind: static.Refused, SYN: syn4, Global: global4, Count: 50, Limit: 50, Embryonic: 100, Dropped: true}, []string{
			sev3 + "201011: Connection limit exceeded 50/50" + packet4,
			sev3 + "201002: Too many TCP connections on static 1.1.1.1! 100 50"}},
		{"over it, with refusals untold", static.Event{Kind: static.Refused, SYN: syn4, Global: global4, Count: 51, Limit: 50, Suppressed: 12}, []string{
			sev3 + "201011: Connection limit exceeded 51/50" + packet4 + " (12 more refused since the last record)",
			sev3 + "201002: Too many TCP connections on static 1.1.1.1! 0 50 (12 more refused since the last record)"}},
		{"over it, IPv6, a day later", static.Event{Kind: static.Refused, Time: 24 * time.Hour, SYN: syn6, Global: global6, Count: 2, Limit: 1}, []string{
			"<163>Nov 24 2025 13:03:01 fw1 : %ASA-3-201011: Connection limit exceeded 2/1" + packet6,
			"<163>Nov 24 2025 13:03:01 fw1 : %ASA-3-201002: Too many TCP connections on static 2001:db8:2::25! 0 1"}},
		{"a host without another address; synproxy sent the SYN", static.Event{Kind: static.Refused,
			SYN: syn("[2001:db8::5]:41522", "[2001:db8:1::1]:25", 0), Global: identity6, Count: 50, Limit: 50}, []string{
			sev3 + "201011: Connection limit exceeded 50/50 for input packet from 2001:db8::5/41522 to 2001:db8:1::1/25 on interface identity",
			sev3 + "201002: Too many TCP connections on static 2001:db8:1::1! 0 50"}},
		{"an interface that nobody knows is not the box itself", static.Event{Kind: static.Refused, PerClient: true,
			SYN: syn("203.0.113.5:1", "192.168.1.1:2", 9), Global: global4, Count: 1, Limit: 1}, []string{
			sev3 + "201013: Per-client connection limit exceeded 1/1 for input packet from 203.0.113.5/1 to 192.168.1.1/2 on interface unknown"}},
		{"a client over its total limit", static.Event{Kind: static.Refused, SYN: syn4, Global: global4, PerClient: true, Count: 5, Limit: 5, Suppressed: 1}, []string{
			sev3 + "201013: Per-client connection limit exceeded 5/5" + packet4 + " (1 more refused since the last record)"}},
		{"embryonic, no synproxy", static.Event{Kind: static.EmbryonicRefused, SYN: syn4, Global: global4, Count: 100, Limit: 100, Suppressed: 3}, []string{
			sev6 + "201010: Embryonic connection limit exceeded 100/100" + packet4 + " (3 more refused since the last record)"}},
		{"embryonic, past synproxy", static.Event{Kind: static.EmbryonicRefused, SYN: syn4, Global: global4, Count: 100, Limit: 100, Dropped: true, Unmapped: true}, []string{
			sev6 + "201010: Embryonic connection limit exceeded 100/100" + packet4 + " (no cookie can be sent: the client uses an address that static.nft does not map)"}},
		{"a client's, no synproxy", static.Event{Kind: static.EmbryonicRefused, SYN: syn6, Global: global6, PerClient: true, Count: 3, Limit: 3}, []string{
			sev6 + "201012: Per-client embryonic connection limit exceeded 3/3" + packet6}},
		{"intercept begins", static.Event{Kind: static.InterceptEntered, SYN: syn4, Global: global4, Count: 100, Limit: 100}, []string{
			sev6 + "201010: Embryonic connection limit exceeded 100/100" + packet4 + fromNowOn,
			sev2 + "201003: Embryonic limit exceeded 100/100 for 203.0.113.5/41522 to 192.168.1.1(1.1.1.1)/25 on interface outside" + fromNowOn}},
		{"begins, IPv6", static.Event{Kind: static.InterceptEntered, SYN: syn6, Global: global6, Count: 101, Limit: 100}, []string{
			sev6 + "201010: Embryonic connection limit exceeded 101/100" + packet6 + fromNowOn,
			sev2 + "201003: Embryonic limit exceeded 101/100 for 2001:db8::5/41522 to 2001:db8:1::1(2001:db8:2::25)/587 on interface eth0_100" + fromNowOn}},
		{"begins at the total limit: the seed's tcp 50 100", static.Event{Kind: static.InterceptEntered, SYN: syn4, Global: global4, Count: 50, Limit: 100, Dropped: true}, []string{
			sev6 + "201010: Embryonic connection limit exceeded 50/100" + packet4 + " (half-open connections fill the connection limit, " + dropped,
			sev2 + "201003: Embryonic limit exceeded 50/100 for 203.0.113.5/41522 to 192.168.1.1(1.1.1.1)/25 on interface outside" +
				" (half-open connections fill the connection limit, " + dropped}},
		{"begins for a client", static.Event{Kind: static.InterceptEntered, SYN: syn4, Global: global4, PerClient: true, Count: 3, Limit: 3, Dropped: true}, []string{
			sev6 + "201012: Per-client embryonic connection limit exceeded 3/3" + packet4 + " (" + dropped,
			sev2 + "201003: Embryonic limit exceeded 3/3 for 203.0.113.5/41522 to 192.168.1.1(1.1.1.1)/25 on interface outside (" + dropped}},
		{"intercept ends", static.Event{Kind: static.InterceptLeft, SYN: host4, Global: global4, Count: 3, Limit: 100,
			Duration: time.Hour + 100*time.Second + 999*time.Millisecond, Cookies: 2500000}, []string{
			sev6 + "201010: Embryonic connection limit no longer exceeded 3/100 for 192.168.1.1 (1.1.1.1): intercepted for 1:01:40, 2500000 SYNs answered with a cookie"}},
		{"ends, IPv6", static.Event{Kind: static.InterceptLeft, SYN: static.SYN{Conn: static.Conn{Server: netip.MustParseAddrPort("[2001:db8:1::1]:0")}},
			Global: identity6, Limit: 1, Duration: 10 * time.Second}, []string{
			sev6 + "201010: Embryonic connection limit no longer exceeded 0/1 for 2001:db8:1::1 (2001:db8:1::1): intercepted for 0:00:10, 0 SYNs answered with a cookie"}},
		{"the kernel refused, in intercept", static.Event{Kind: static.KernelRefused, SYN: host4, Global: global4, Count: 50, Limit: 50, Embryonic: 100, Dropped: true, Refusals: 7}, []string{
			sev3 + "201002: Too many TCP connections on static 1.1.1.1! 100 50 (7 SYNs refused by the kernel within a second, in intercept)"}},
		{"no event", static.Event{SYN: syn4}, nil},
		{"a kind this version does not know", static.Event{Kind: 200, SYN: syn4}, nil},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		var got []string
		for _, r := range f.StaticRecords(&tt.event) {
			got = append(got, r.Line())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestStaticJSON compares whole objects: the names are what other programs rely on.
func TestStaticJSON(t *testing.T) {
	const (
		head    = `{"time":"2025-11-23T13:03:01.001500Z","host":"fw1",`
		ends4   = `"client":"203.0.113.5","client_port":41522,"interface":"outside","local":"192.168.1.1","global":"1.1.1.1","server_port":25,`
		packet4 = `for input packet from 203.0.113.5/41522 to 192.168.1.1/25 on interface outside`
		now     = `SYNs are answered with a cookie from now on`
	)
	tests := []struct {
		name  string
		event static.Event
		want  []string
	}{
		{"refused", static.Event{Kind: static.Refused, SYN: syn4, Global: global4, Count: 50, Limit: 50, Suppressed: 12}, []string{
			head + `"id":201011,"severity":3,"event":"connection-limit",` + ends4 + `"count":50,"limit":50,"suppressed":12,` +
				`"message":"Connection limit exceeded 50/50 ` + packet4 + ` (12 more refused since the last record)"}`,
			head + `"id":201002,"severity":3,"event":"connection-limit",` + ends4 + `"count":50,"limit":50,"suppressed":12,` +
				`"message":"Too many TCP connections on static 1.1.1.1! 0 50 (12 more refused since the last record)"}`}},
		{"a client's, IPv6", static.Event{Kind: static.EmbryonicRefused, SYN: syn6, Global: global6, PerClient: true, Count: 3, Limit: 3}, []string{
			head + `"id":201012,"severity":6,"event":"embryonic-limit","client":"2001:db8::5","client_port":41522,"interface":"eth0_100",` +
				`"local":"2001:db8:1::1","global":"2001:db8:2::25","server_port":587,"per_client":true,"count":3,"limit":3,` +
				`"message":"Per-client embryonic connection limit exceeded 3/3 for input packet from 2001:db8::5/41522 to 2001:db8:1::1/587 on interface eth0_100"}`}},
		{"intercept begins", static.Event{Kind: static.InterceptEntered, SYN: syn4, Global: global4, Count: 100, Limit: 100}, []string{
			head + `"id":201010,"severity":6,"event":"intercept-entered",` + ends4 + `"count":100,"limit":100,"detail":"` + now + `",` +
				`"message":"Embryonic connection limit exceeded 100/100 ` + packet4 + ` (` + now + `)"}`,
			head + `"id":201003,"severity":2,"event":"intercept-entered",` + ends4 + `"count":100,"limit":100,"detail":"` + now + `",` +
				`"message":"Embryonic limit exceeded 100/100 for 203.0.113.5/41522 to 192.168.1.1(1.1.1.1)/25 on interface outside (` + now + `)"}`}},
		{"intercept ends: no client, and 0 is a value", static.Event{Kind: static.InterceptLeft, SYN: host4, Global: global4, Limit: 100, Duration: 10500 * time.Millisecond}, []string{
			head + `"id":201010,"severity":6,"event":"intercept-left","local":"192.168.1.1","global":"1.1.1.1","count":0,"limit":100,"duration":10.5,"cookies":0,` +
				`"message":"Embryonic connection limit no longer exceeded 0/100 for 192.168.1.1 (1.1.1.1): intercepted for 0:00:10, 0 SYNs answered with a cookie"}`}},
	}
	f := New(options(JSON))
	for _, tt := range tests {
		tt.event.Time = 1500 * time.Microsecond
		var got []string
		for _, r := range f.StaticRecords(&tt.event) {
			got = append(got, r.Line())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestStaticKey: the records of a host repeat each other whoever is refused; those
// of a client's limit are the client's.
func TestStaticKey(t *testing.T) {
	other := syn("203.0.113.6:41522", "192.168.1.1:587", 1)
	elsewhere := syn("203.0.113.5:41522", "192.168.1.2:25", 1)
	tests := []struct {
		name string
		a, b static.Event
		same bool
	}{
		{"another client", static.Event{Kind: static.Refused, SYN: syn4}, static.Event{Kind: static.Refused, SYN: other, Count: 9}, true},
		{"another host", static.Event{Kind: static.Refused, SYN: syn4}, static.Event{Kind: static.Refused, SYN: elsewhere}, false},
		{"another kind", static.Event{Kind: static.EmbryonicRefused, SYN: syn4}, static.Event{Kind: static.InterceptEntered, SYN: syn4}, false},
		{"in and out", static.Event{Kind: static.InterceptEntered, SYN: syn4}, static.Event{Kind: static.InterceptLeft, SYN: host4}, false},
		{"the client's limit, another client", static.Event{Kind: static.Refused, PerClient: true, SYN: syn4},
			static.Event{Kind: static.Refused, PerClient: true, SYN: other}, false},
		{"the client's limit, the same client", static.Event{Kind: static.Refused, PerClient: true, SYN: syn4},
			static.Event{Kind: static.Refused, PerClient: true, SYN: syn4, Suppressed: 1}, true},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		a, b := f.StaticRecords(&tt.a), f.StaticRecords(&tt.b)
		if (a[0].Key == b[0].Key) != tt.same {
			t.Errorf("%s: keys %+v and %+v, want same %v", tt.name, a[0].Key, b[0].Key, tt.same)
		}
		for _, r := range append(a, b...) {
			if r.Key.ID != r.ID || r.Key.Conn != 0 {
				t.Errorf("%s: record %d has key %+v", tt.name, r.ID, r.Key)
			}
		}
	}
}

// FuzzStaticRecords: whatever the event, a record is one line of printable ASCII
// of bounded length, and JSON parses back.
func FuzzStaticRecords(f *testing.F) {
	f.Add(uint8(static.Refused), []byte{203, 0, 113, 5}, []byte{192, 168, 1, 1}, "out\nside", uint32(50), uint64(12), false)
	f.Add(uint8(static.InterceptLeft), []byte{}, make([]byte, 16), "", uint32(0), uint64(math.MaxUint64), false)
	f.Add(uint8(static.InterceptEntered), make([]byte, 16), []byte{1}, `é"\`, uint32(math.MaxUint32), uint64(1), true)
	f.Fuzz(func(t *testing.T, kind uint8, client, server []byte, name string, n uint32, many uint64, perClient bool) {
		from, _ := netip.AddrFromSlice(client)
		to, _ := netip.AddrFromSlice(server)
		e := static.Event{
			Kind: static.EventKind(kind), Time: time.Duration(n), Global: to, PerClient: perClient, Count: n, Limit: ^n,
			SYN:        static.SYN{Conn: static.Conn{Client: netip.AddrPortFrom(from, uint16(n)), Server: netip.AddrPortFrom(to, uint16(many))}, Interface: n},
			Suppressed: many, Duration: time.Duration(many), Cookies: many,
		}
		if len(name) > 64 {
			return // the operator's words are not a peer's
		}
		for _, format := range []Format{ASA, JSON} {
			opt := options(format)
			opt.Interface = func(uint32) string { return name }
			for _, r := range New(opt).StaticRecords(&e) {
				checkLine(t, format, r.Line())
				checkLine(t, format, r.Repeat(many).Line())
			}
		}
	})
}

// TestStaticOfTracker: what the records say of the SYN is what the tracker did
// with it.
func TestStaticOfTracker(t *testing.T) {
	tests := []struct {
		name   string
		host   static.Limits
		client static.Limits
		passed int    // SYNs, each of a client of its own but for a client's limit
		pass   bool   // the last of them
		want   string // end of the last record
	}{
		{"at the embryonic limit", static.Limits{Max: 50, Embryonic: 3}, static.Limits{}, 3, true, " outside (SYNs are answered with a cookie from now on)"},
		{"at the total limit first", static.Limits{Max: 50, Embryonic: 100}, static.Limits{}, 51, false,
			" outside (half-open connections fill the connection limit, dropped: the retransmitted SYN will be answered with a cookie)"},
		{"at a client's", static.Limits{}, static.Limits{Embryonic: 2}, 3, false, " outside (dropped: the retransmitted SYN will be answered with a cookie)"},
		{"no embryonic limit", static.Limits{Max: 4}, static.Limits{}, 5, false, "! 0 4"},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		tracker := static.New()
		tracker.Configure(0, static.Config{Synproxy: true, Client: tt.client, Mappings: []static.Mapping{{
			Global: netip.PrefixFrom(global4, 32), Local: netip.MustParsePrefix("192.168.1.1/32"), Limits: tt.host}}})
		client, pass := netip.MustParseAddr("203.0.113.1"), false
		for i := range tt.passed {
			if tt.client == (static.Limits{}) {
				client = client.Next()
			}
			s := static.SYN{Conn: static.Conn{Client: netip.AddrPortFrom(client, uint16(1024+i)), Server: syn4.Server}, Interface: 1}
			if early := tracker.TakeEvents(); early != nil {
				t.Errorf("%s: %+v before SYN %d", tt.name, early, i+1)
			}
			pass = tracker.SYN(time.Duration(i), s)
		}
		events := tracker.TakeEvents()
		if len(events) != 1 || pass != tt.pass {
			t.Errorf("%s: %d events, SYN passed %v, want 1 and %v", tt.name, len(events), pass, tt.pass)
			continue
		}
		records := f.StaticRecords(&events[0])
		if last := records[len(records)-1].Line(); !strings.HasSuffix(last, tt.want) {
			t.Errorf("%s: %s\nwant the end %s", tt.name, last, tt.want)
		}
	}
}
