package netns

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// document is the example of Cisco's tech note 117801, word for word: the missing
// `host` and `match address` are the note's own.
const document = `access-list ironport_esa_internal extended permit ip any 192.168.1.1
access-list ironport_esa_internal extended permit ip 192.168.1.1 any
class-map ironport_esa
match address ironport_esa_internal
policy-map global_policy
class ironport_esa
no inspect esmtp
static (inside,outside) 1.1.1.1 192.168.1.1 netmask 255.255.255.255 tcp 50 100
`

// The note's addresses: the exempt mail gateway's.
const (
	gatewayGlobal = "1.1.1.1"
	gatewayLocal  = "192.168.1.1"
)

// The document's configuration, imported, does what the document says: the mail
// gateway sends and receives ESMTP with STARTTLS untouched, all other hosts are
// inspected, the 51st connection to 1.1.1.1 is refused, and the log says so.
func TestLimitDocument(t *testing.T) {
	dir := t.TempDir()
	config, out := filepath.Join(dir, "asa.cfg"), filepath.Join(dir, "new")
	if err := os.WriteFile(config, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	w := newWall(t, importASA(t, config, out), "")
	addGateway(t, w.Lab)
	untouched := []struct{ side, text string }{
		{"S", "220 esa ESMTP ready\r\n"},
		{"C", "EHLO client.example.org\r\n"},
		{"S", "250-esa\r\n250-STARTTLS\r\n250 CHUNKING\r\n"},
		{"C", "STARTTLS\r\n"},
		{"S", "220 go ahead\r\n"},
	}

	t.Run("the gateway receives", func(t *testing.T) {
		e := join(t, w.Lab, lab.Client, &net.TCPAddr{}, gatewayGlobal, lab.Server, gatewayLocal)
		for _, turn := range untouched {
			e.talk(t, line{turn.side, turn.text, turn.text})
		}
		e.finish(t)
	})
	t.Run("the gateway sends", func(t *testing.T) {
		e := join(t, w.Lab, lab.Server, &net.TCPAddr{IP: net.ParseIP(gatewayLocal)}, lab.ClientIP4, lab.Client, lab.ClientIP4)
		if got := e.server.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != netip.MustParseAddr(gatewayGlobal) {
			t.Errorf("its connection came from %s, want %s", got, gatewayGlobal)
		}
		for _, turn := range untouched {
			e.talk(t, line{turn.side, turn.text, turn.text})
		}
		e.finish(t)
	})
	t.Run("others are inspected", func(t *testing.T) {
		e := connect(t, w.Lab, lab.ServerIP4)
		e.talk(t, hello...)
		e.talk(t, line{"C", "STARTTLS\r\n", "XXXXXXXX\r\n"})
		e.talk(t, line{"S", "500 what\r\n", "500 what\r\n"})
		e.finish(t)
	})
	t.Run("the 51st connection is refused", func(t *testing.T) {
		ln, err := w.Listen(lab.Server, net.JoinHostPort(gatewayLocal, "25"))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		for range 50 {
			conn, err := w.Dial(lab.Client, net.JoinHostPort(gatewayGlobal, "25"), liveTimeout)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		eventually(t, "50 connections are established", func() bool {
			h := w.static(t, gatewayGlobal)
			return h.Connections == 50 && h.HalfOpen == 0
		})
		queued := w.queued(t)
		w.refused(t, gatewayGlobal)
		eventually(t, "a record 201011", func() bool { return len(w.of(t, 201011)) == 1 })
		if r := w.of(t, 201011)[0]; !strings.Contains(r.Message, "Connection limit exceeded 50/50 for input packet from 10.9.1.2/") {
			t.Errorf("record %q", r.Message)
		}
		if n := len(w.of(t, 201002)); n != 1 {
			t.Errorf("%d records 201002, want 1", n)
		}
		if n := w.queued(t) - queued; n != 1 {
			t.Errorf("%d packets of an exempt host's refused connection were queued, want its SYN", n)
		}
	})
}

// importASA imports a configuration into a directory, and returns the files that
// replace the shipped ones.
func importASA(t *testing.T, config, out string) lab.Options {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), program(t), "import", "asa", config, "--out", out).CombinedOutput()
	t.Logf("import asa:\n%s", text)
	if err != nil {
		t.Fatal(err)
	}
	opt := lab.Options{Files: map[string]string{}}
	for _, name := range []string{"exempt.nft", "static.nft"} {
		file, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		opt.Files[name] = string(file)
	}
	return opt
}

// addGateway gives the lab's server the mail gateway's address, and the firewall
// the way to it.
func addGateway(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, c := range []struct {
		on   lab.Host
		args []string
	}{
		{lab.Server, []string{"address", "add", gatewayLocal + "/32", "dev", "lo"}},
		{lab.Firewall, []string{"route", "add", gatewayLocal, "via", lab.ServerIP4}},
		{lab.Firewall, []string{"route", "add", gatewayGlobal, "via", lab.ServerIP4}},
	} {
		if out, err := l.Command(c.on, "ip", c.args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", c.args, err, out)
		}
	}
}
