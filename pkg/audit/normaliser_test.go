package audit

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// TestNormaliser compares the records of the TCP normaliser with what asa.md 3.5
// prints, and with the phrase that `explain` shows. They are there with and
// without a log word. 419001 and 419002 are laid out as in
//
//	Dropping TCP packet from outside:65.55.184.155/80 to inside:192.168.10.11/49043, reason: MSS exceeded, MSS 1380, data 1460
//	Duplicate TCP SYN from outside2:104.237.142.206/80 to pub_uag:8.37.98.29/443 with different initial sequence number
//
// which other parsers are tested with.
func TestNormaliser(t *testing.T) {
	const head4, head2 = "<164>Nov 23 2025 13:03:01 fw1 : %ASA-4-", "<162>Nov 23 2025 13:03:01 fw1 : %ASA-2-"
	tests := []struct {
		name            string
		event           engine.Event
		record, summary string
	}{
		{"over the client's MSS",
			engine.Event{Kind: engine.EventExceedsMSS, Conn: inbound, Side: smtp.Server, Limit: 1380, Value: 1460},
			head4 + "419001: Dropping TCP packet from inside:192.168.1.1/25 to outside:203.0.113.5/41522, reason: MSS exceeded, MSS 1380, data 1460",
			"exceed-mss: a packet over its receiver's MSS was dropped, 1460 > 1380"},
		{"over the server's MSS, with what the engine may add",
			engine.Event{Kind: engine.EventExceedsMSS, Conn: inbound, Rule: "exceed-mss", Do: do(policy.NoAction), Offset: 7, Limit: 536, Value: 537},
			head4 + "419001: Dropping TCP packet from outside:203.0.113.5/41522 to inside:192.168.1.1/25, reason: MSS exceeded, MSS 536, data 537",
			"exceed-mss: a packet over its receiver's MSS was dropped, 537 > 536, log"},
		{"a second SYN",
			engine.Event{Kind: engine.EventDuplicateSYN, Conn: inbound},
			head4 + "419002: Duplicate TCP SYN from outside:203.0.113.5/41522 to inside:192.168.1.1/25 with different initial sequence number",
			"duplicate-syn: a SYN on a living connection was dropped"},
		{"a second SYN, outbound",
			engine.Event{Kind: engine.EventDuplicateSYN, Conn: outbound},
			head4 + "419002: Duplicate TCP SYN from inside:192.168.1.1/50000 to outside:198.51.100.7/25 with different initial sequence number",
			"duplicate-syn: a SYN on a living connection was dropped"},
		{"a second SYN-ACK",
			engine.Event{Kind: engine.EventDuplicateSYN, Conn: inbound, Side: smtp.Server},
			head4 + "419002: Duplicate TCP SYN from inside:192.168.1.1/25 to outside:203.0.113.5/41522 with different initial sequence number",
			"duplicate-syn: a SYN on a living connection was dropped"},
		{"urgent",
			engine.Event{Kind: engine.EventUrgentCleared, Conn: inbound},
			head4 + "419003: Cleared TCP urgent flag from outside:203.0.113.5/41522 to inside:192.168.1.1/25",
			"urgent-flag: an urgent flag was cleared"},
		{"urgent, the server's",
			engine.Event{Kind: engine.EventUrgentCleared, Conn: inbound, Side: smtp.Server, Detail: "offset 9 of a line"},
			head4 + "419003: Cleared TCP urgent flag from inside:192.168.1.1/25 to outside:203.0.113.5/41522",
			"urgent-flag: offset 9 of a line"},
		{"a client that plays the server",
			engine.Event{Kind: engine.EventSpoofed, Conn: inbound, Side: smtp.Server, Interface: 1},
			head2 + "106016: Deny IP spoof from (192.168.1.1) to 203.0.113.5 on interface outside",
			"spoofed: a packet that came in by the other side's interface was dropped"},
		{"a server that plays the client, on a VLAN",
			engine.Event{Kind: engine.EventSpoofed, Conn: conn(7, "[2001:db8::5]:41522", 1, "[2001:db8::1]:25", 3), Interface: 3},
			head2 + "106016: Deny IP spoof from (2001:db8::5) to 2001:db8::1 on interface eth0_100",
			"spoofed: a packet that came in by the other side's interface was dropped"},
		{"by an interface without a name",
			engine.Event{Kind: engine.EventSpoofed, Conn: inbound, Interface: 9},
			head2 + "106016: Deny IP spoof from (203.0.113.5) to 192.168.1.1 on interface unknown",
			"spoofed: a packet that came in by the other side's interface was dropped"},
		{"check-retransmission",
			engine.Event{Kind: engine.EventRetransmission, Conn: inbound, Rule: "check-retransmission", Do: do(policy.NoAction), Offset: 1460,
				Detail: "TCP bad retransmission, the octets sent first were put in its place"},
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Request from outside:203.0.113.5/41522 to inside:192.168.1.1/25; " +
				"check-retransmission: TCP bad retransmission, the octets sent first were put in its place (offset 1460)",
			"check-retransmission: TCP bad retransmission, the octets sent first were put in its place, offset 1460, log"},
		{"check-retransmission of the server, rule not named",
			engine.Event{Kind: engine.EventRetransmission, Conn: inbound, Side: smtp.Server, Do: do(policy.NoAction), Detail: "TCP bad retransmission", Text: "250 ok\r\n"},
			"<166>Nov 23 2025 13:03:01 fw1 : %ASA-6-108005: ESMTP Parameter: Received ESMTP Response from inside:192.168.1.1/25 to outside:203.0.113.5/41522; " +
				`check-retransmission: TCP bad retransmission (offset 0, "250 ok")`,
			"check-retransmission: TCP bad retransmission, offset 0, log"},
		{"without check-retransmission nobody asked",
			engine.Event{Kind: engine.EventRetransmission, Conn: inbound, Detail: "TCP bad retransmission"},
			"", "check-retransmission: TCP bad retransmission, offset 0"},
	}
	f := New(options(ASA))
	for _, tt := range tests {
		record := ""
		for _, r := range f.Records(&tt.event) {
			record += r.Line()
		}
		if diff := cmp.Diff(tt.record, record); diff != "" {
			t.Errorf("%s: record:\n%s", tt.name, diff)
		}
		if got := Summary(&tt.event); got != tt.summary {
			t.Errorf("%s: summary:\n got %s\nwant %s", tt.name, got, tt.summary)
		}
	}
}

// TestNormaliserJSON compares whole objects.
func TestNormaliserJSON(t *testing.T) {
	const (
		time = `{"time":"2025-11-23T13:03:01.000000Z","host":"fw1",`
		ends = `"connection":42,"direction":"inbound","client":"203.0.113.5","client_port":41522,"client_interface":"outside",` +
			`"server":"192.168.1.1","server_port":25,"server_interface":"inside",`
		in = `outside:203.0.113.5/41522 to inside:192.168.1.1/25`
	)
	tests := []struct {
		event engine.Event
		want  string
	}{
		{engine.Event{Kind: engine.EventExceedsMSS, Limit: 1380, Value: 1460},
			time + `"id":419001,"severity":4,"event":"exceeds-mss",` + ends + `"side":"request","rule":"exceed-mss","limit":1380,"value":1460,` +
				`"message":"Dropping TCP packet from ` + in + `, reason: MSS exceeded, MSS 1380, data 1460"}`},
		{engine.Event{Kind: engine.EventDuplicateSYN, Offset: 5},
			time + `"id":419002,"severity":4,"event":"duplicate-syn",` + ends + `"side":"request","rule":"duplicate-syn",` +
				`"message":"Duplicate TCP SYN from ` + in + ` with different initial sequence number"}`},
		{engine.Event{Kind: engine.EventUrgentCleared, Rule: "urgent-flag clear"},
			time + `"id":419003,"severity":4,"event":"urgent-cleared",` + ends + `"side":"request","rule":"urgent-flag clear",` +
				`"message":"Cleared TCP urgent flag from ` + in + `"}`},
		{engine.Event{Kind: engine.EventSpoofed, Side: smtp.Server, Interface: 4},
			time + `"id":106016,"severity":2,"event":"spoofed",` + ends + `"side":"response","rule":"spoofed","interface":"DMZ",` +
				`"message":"Deny IP spoof from (192.168.1.1) to 203.0.113.5 on interface DMZ"}`},
		{engine.Event{Kind: engine.EventRetransmission, Rule: "check-retransmission", Do: do(policy.NoAction), Offset: 1460, Detail: "TCP bad retransmission"},
			time + `"id":108005,"severity":6,"event":"retransmission",` + ends + `"side":"request","rule":"check-retransmission",` +
				`"detail":"TCP bad retransmission","offset":1460,` +
				`"message":"ESMTP Parameter: Received ESMTP Request from ` + in + `; check-retransmission: TCP bad retransmission (offset 1460)"}`},
	}
	f := New(options(JSON))
	for _, tt := range tests {
		tt.event.Conn = inbound
		if diff := cmp.Diff(tt.want, f.Records(&tt.event)[0].Line()); diff != "" {
			t.Error(diff)
		}
	}
}
