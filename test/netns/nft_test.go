// Package netns runs the shipped files and programs in network namespaces.
package netns

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/layers"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// nftDir holds the shipped ruleset.
const nftDir = "../../nft"

// families are the two ends in IPv4 and IPv6.
var families = []struct{ name, client, server, exempt string }{
	{"IPv4", lab.ClientIP4, lab.ServerIP4, "exempt4"},
	{"IPv6", lab.ClientIP6, lab.ServerIP6, "exempt6"},
}

// newLab builds a lab for the test and loads the shipped ruleset.
func newLab(t *testing.T, opt lab.Options) *lab.Lab {
	t.Helper()
	l, err := lab.New(strings.NewReplacer("/", "-", " ", "-").Replace(strings.ToLower(t.Name())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	load(t, l, opt)
	return l
}

// load loads the ruleset.
func load(t *testing.T, l *lab.Lab, opt lab.Options) {
	t.Helper()
	way, err := l.LoadRuleset(nftDir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ruleset loaded: %s", way)
}

// nft changes the firewall's ruleset.
func nft(t *testing.T, l *lab.Lab, statement string) string {
	t.Helper()
	out, err := l.NFT(statement)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serve greets every client on port 25 of a host and echoes its lines.
func serve(t *testing.T, l *lab.Lab, on lab.Host) {
	t.Helper()
	ln, err := l.Listen(on, ":25")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintf(conn, "220 %s\r\n", conn.RemoteAddr())
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

// exchange connects, sends a line and waits for its echo. It returns the
// client's address and port as the server saw them.
func exchange(l *lab.Lab, from lab.Host, to string, timeout time.Duration) (netip.AddrPort, error) {
	conn, err := l.Dial(from, net.JoinHostPort(to, "25"), timeout)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(timeout))
	in := bufio.NewReader(conn)
	greeting, err := in.ReadString('\n')
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("greeting: %w", err)
	}
	if _, err := io.WriteString(conn, "NOOP\r\n"); err != nil {
		return netip.AddrPort{}, err
	}
	if echo, err := in.ReadString('\n'); err != nil || echo != "NOOP\r\n" {
		return netip.AddrPort{}, fmt.Errorf("echo %q: %w", echo, err)
	}
	peer, err := netip.ParseAddrPort(strings.TrimSpace(strings.TrimPrefix(greeting, "220 ")))
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), err
}

// mustExchange is exchange that must succeed.
func mustExchange(t *testing.T, l *lab.Lab, from lab.Host, to string) netip.AddrPort {
	t.Helper()
	peer, err := exchange(l, from, to, patience)
	if err != nil {
		t.Fatalf("exchange from %s to %s: %v", from, to, err)
	}
	return peer
}

// counter reads a named counter of the ruleset.
func counter(t *testing.T, l *lab.Lab, name string) uint64 {
	t.Helper()
	n, err := l.Counter(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually waits until cond is true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	within(t, patience, what, cond)
}

// within is eventually for what takes its time.
func within(t *testing.T, most time.Duration, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(most)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("waited %s in vain: %s", most, what)
		}
	}
}

// The ruleset can be loaded again and again: no error, no packet lost that
// waits in a queue, nothing taken from the daemon's sets, no counter reset.
func TestNFTReload(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	var holding atomic.Bool
	r := read(t, l, func(seen) answer { return answer{hold: holding.Load()} })
	mustExchange(t, l, lab.Client, lab.ServerIP4)
	r.taken(t)
	before := counter(t, l, "diverted")
	rules := stateless(t, l)
	sets := []string{"limited4 { 10.9.9.0/24 }", "full4 { 10.9.9.1 }", "intercept4 { 10.9.9.2 }", "limited6 { fd09:9::/64 }", "full6 { fd09:9::1 }", "intercept6 { fd09:9::2 }"}
	for _, s := range sets {
		nft(t, l, "add element inet smtpwall "+s)
	}

	holding.Store(true)
	gaveUp := make(chan struct{})
	go func() {
		_, _ = exchange(l, lab.Client, lab.ServerIP4, time.Second)
		close(gaveUp)
	}()
	r.wait(t, "SYN", func(p seen) bool { return p.tcp.SYN })
	for _, opt := range []lab.Options{{Check: true}, {}, {}} {
		load(t, l, opt)
		if n := waiting(t, l); n == 0 {
			t.Fatalf("the packet that waited in the queue was lost by loading with %+v", opt)
		}
	}
	<-gaveUp
	holding.Store(false)

	text := nft(t, l, "list ruleset")
	for _, s := range sets {
		_, elements, _ := strings.Cut(s, " ")
		if !strings.Contains(text, "elements = "+strings.TrimSuffix(elements, " }")) { // its counter may follow
			t.Errorf("set lost by the reload: %s", s)
		}
	}
	if n := counter(t, l, "diverted"); n <= before {
		t.Errorf("counter diverted is %d, was %d before the reload", n, before)
	}
	mustExchange(t, l, lab.Client, lab.ServerIP4)

	for _, s := range []string{"limited4", "full4", "intercept4", "limited6", "full6", "intercept6"} {
		nft(t, l, "flush set inet smtpwall "+s)
	}
	if d := cmp.Diff(rules, stateless(t, l)); d != "" {
		t.Errorf("loading again changed the ruleset:\n%s", d)
	}
}

// stateless is the ruleset without the values of its counters.
func stateless(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	out, err := l.NFT("-s", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(out, "\n")
}

// waiting is the number of packets in all queues.
func waiting(t *testing.T, l *lab.Lab) (n uint64) {
	t.Helper()
	queues, err := l.Queues()
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queues {
		n += q.Waiting
	}
	return n
}

// of keeps the packets of the client's connection.
func of(packets []seen, client netip.AddrPort) []seen {
	return slices.DeleteFunc(slices.Clone(packets), func(p seen) bool { return p.src != client && p.dst != client })
}

// Both directions of a mail reach the same queue; those of exempt hosts reach
// none.
func TestNFTDivert(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	kinds := map[string]func(seen) bool{
		"client SYN":     func(p seen) bool { return p.client && p.tcp.SYN && !p.tcp.ACK },
		"server SYN-ACK": func(p seen) bool { return !p.client && p.tcp.SYN && p.tcp.ACK },
		"client data":    func(p seen) bool { return p.client && p.data() },
		"server data":    func(p seen) bool { return !p.client && p.data() },
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			client := mustExchange(t, l, lab.Client, f.server)
			packets := of(r.taken(t), client)
			for what, is := range kinds {
				if count(packets, is) == 0 {
					t.Errorf("%s did not reach a queue", what)
				}
			}
			for _, p := range packets {
				if p.queue != packets[0].queue || p.queue > 3 {
					t.Errorf("packet from %s in queue %d, others in %d", p.src, p.queue, packets[0].queue)
				}
			}
			for _, host := range []string{f.client, f.server} {
				before := counter(t, l, "exempt")
				nft(t, l, "add element inet smtpwall "+f.exempt+" { "+host+" }")
				client := mustExchange(t, l, lab.Client, f.server)
				if n := len(of(r.taken(t), client)); n > 0 {
					t.Errorf("%d packets reached a queue although %s is exempt", n, host)
				}
				if n := counter(t, l, "exempt") - before; n < 6 {
					t.Errorf("counter exempt grew by %d only for %s", n, host)
				}
				nft(t, l, "flush set inet smtpwall "+f.exempt)
			}
		})
	}
}

// silent opens port 25 on the server and returns a connection to it on which
// nobody has spoken, with the SYN and the SYN-ACK of its start.
func silent(t *testing.T, l *lab.Lab, r *reader, server string) (conn net.Conn, syn, synack seen) {
	t.Helper()
	ln, err := l.Listen(lab.Server, net.JoinHostPort(server, "25"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	conn, err = l.Dial(lab.Client, ln.Addr().String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	syn = r.wait(t, "SYN", func(p seen) bool { return p.client && p.tcp.SYN })
	synack = r.wait(t, "SYN-ACK", func(p seen) bool { return !p.client && p.tcp.SYN })
	return conn, syn, synack
}

// A client's packet passes the queue by if it is an ACK and nothing else,
// whatever options it has; a server's never does.
func TestNFTClientACK(t *testing.T) {
	l := newLab(t, lab.Options{})
	r := read(t, l, accept)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			_, syn, synack := silent(t, l, r, f.server)
			segment := func(flags layers.TCP, words int, payload string) {
				flags.ACK = true
				flags.Seq, flags.Ack = syn.tcp.Seq+1, synack.tcp.Seq+1
				send(t, l, lab.Client, syn.dst.Addr(), tcpSegment(t, syn.src, syn.dst, flags, nops(words), []byte(payload)))
			}
			// The handshake's own ACK is one.
			eventually(t, "counter client_ack", func() bool { return counter(t, l, "client_ack") > 0 })
			for words := range 11 {
				before := counter(t, l, "client_ack")
				segment(layers.TCP{}, words, "")
				eventually(t, fmt.Sprintf("a bare ACK with a header of %d bytes passes by", 20+4*words), func() bool { return counter(t, l, "client_ack") == before+1 })
			}
			if n := len(of(r.taken(t), syn.src)); n > 0 {
				t.Errorf("%d bare ACKs of the client reached a queue", n)
			}

			for _, c := range []struct {
				what    string
				flags   layers.TCP
				words   int
				payload string
			}{
				{"one byte", layers.TCP{}, 0, "A"},
				{"as long as a longer header", layers.TCP{}, 0, "AAAA"},
				{"payload behind options", layers.TCP{}, 3, "AAAA"},
				{"PSH", layers.TCP{PSH: true}, 0, ""},
				{"ECE", layers.TCP{ECE: true}, 3, ""},
				{"URG", layers.TCP{URG: true}, 0, ""},
				{"FIN", layers.TCP{FIN: true}, 0, ""},
			} {
				segment(c.flags, c.words, c.payload)
				r.wait(t, c.what, func(p seen) bool {
					return p.client && string(p.tcp.Payload) == c.payload && int(p.tcp.DataOffset) == 5+c.words && flagsOf(p.tcp) == flagsOf(c.flags)
				})
			}
		})
	}
	t.Run("server", func(t *testing.T) {
		conn, _, _ := silent(t, l, r, lab.ServerIP4)
		if _, err := io.WriteString(conn, "HELO\r\n"); err != nil {
			t.Fatal(err)
		}
		r.wait(t, "the server's bare ACK", func(p seen) bool { return !p.client && p.bareACK() })
	})
}

// nops are words of four options that mean nothing.
func nops(words int) []byte { return bytes.Repeat([]byte{1}, 4*words) }

// flagsOf are the flags beside ACK.
func flagsOf(tcp layers.TCP) [6]bool {
	return [6]bool{tcp.SYN, tcp.FIN, tcp.RST, tcp.PSH, tcp.URG, tcp.ECE}
}

// Options with which an end host would read another stream than the inspection
// are removed, with a right checksum; a second one of a kind is refused.
func TestNFTOptions(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	const mss, nop4 = "\x02\x04\x05\xb4", "\x01\x01\x01\x01"
	const mptcp, fastopen = "\x1e\x04\x01\x81", "\x22\x02\x01\x01"
	md5 := "\x13\x12" + strings.Repeat("\x55", 16) + "\x01\x01"
	for i, c := range []struct{ name, in, out string }{ // out "": dropped
		{"nothing", mss + nop4, mss + nop4},
		{"MPTCP", mss + mptcp, mss + nop4},
		{"fast open", fastopen + mss, nop4 + mss},
		{"MD5", mss + md5, mss + strings.Repeat(nop4, 5)},
		{"all", mptcp + mss + fastopen + md5, nop4 + mss + nop4 + strings.Repeat(nop4, 5)},
		{"MPTCP twice", mptcp + mptcp, ""},
		{"fast open twice", fastopen + fastopen, ""},
		{"MD5 twice", md5[:18] + md5[:18] + nop4, ""},
	} {
		for _, f := range families {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				src := netip.AddrPortFrom(netip.MustParseAddr(f.client), uint16(2000+i))
				dst := netip.AddrPortFrom(netip.MustParseAddr(f.server), 25)
				doubled := counter(t, l, "doubled")
				send(t, l, lab.Client, dst.Addr(), tcpSegment(t, src, dst, layers.TCP{SYN: true, Seq: 1000}, []byte(c.in), nil))
				if c.out == "" {
					eventually(t, "counter doubled", func() bool { return counter(t, l, "doubled") == doubled+1 })
					if n := len(of(r.taken(t), src)); n > 0 {
						t.Errorf("%d packets reached a queue", n)
					}
					return
				}
				syn := r.wait(t, "SYN", func(p seen) bool { return p.src == src })
				if got := syn.tcp.Contents[20:]; string(got) != c.out {
					t.Errorf("options %x, want %x", got, c.out)
				}
				r.wait(t, "SYN-ACK (is the checksum wrong?)", func(p seen) bool { return p.dst == src && p.tcp.SYN && p.tcp.ACK })
			})
		}
	}
	if n := counter(t, l, "stripped"); n == 0 {
		t.Error("counter stripped did not move")
	}
}
