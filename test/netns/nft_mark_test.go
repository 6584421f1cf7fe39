package netns

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// The mark bits of site.nft.
const (
	offloadBit = 0x00010000
	resetBit   = 0x00020000
)

// A verdict with the offload bit takes the rest of the connection out of the
// queue; with site.nft's offload_saved at 0 it does not.
func TestNFTOffload(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, func(p seen) answer {
		if !p.client && p.data() {
			return answer{mark: offloadBit | 1} // another program's bit stays
		}
		return answer{}
	})
	off := strings.Replace(shipped(t, "site.nft"), "define offload_saved = 0x00010000", "define offload_saved = 0x00000000", 1)
	clientData := func(p seen) bool { return p.client && p.data() }
	for _, c := range []struct {
		name  string
		opt   lab.Options
		admit string // a rule at the end of chain admit
		want  int    // packets with client data in the queue
	}{
		{"on", lab.Options{}, "", 0},
		{"off", lab.Options{Files: map[string]string{"site.nft": off}}, "", 1},
		{"bit left over from before the SYN-ACK", lab.Options{Files: map[string]string{"site.nft": off}}, "ct mark set 0x00010000", 1},
	} {
		for _, f := range families {
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				load(t, l, c.opt)
				if c.admit != "" {
					nft(t, l, "add rule inet smtpwall admit tcp flags == syn "+c.admit)
				}
				before := counter(t, l, "offloaded")
				client := mustExchange(t, l, lab.Client, f.server)
				if n := count(of(r.taken(t), client), clientData); n != c.want {
					t.Errorf("%d packets with client data reached a queue, want %d", n, c.want)
				}
				if moved := counter(t, l, "offloaded") > before; moved != (c.want == 0) {
					t.Errorf("counter offloaded moved: %v", moved)
				}
			})
		}
	}
}

// Bare ACKs that come in by an interface of site.nft's guests go to the queue.
func TestNFTGuests(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	bare := func(p seen) bool { return p.client && p.tcp.ACK && !p.tcp.SYN && !p.tcp.FIN && !p.data() }
	for _, guests := range []string{"none", lab.Outside} {
		site := strings.Replace(shipped(t, "site.nft"), `define guests = { "none" }`, `define guests = { "`+guests+`" }`, 1)
		load(t, l, lab.Options{Files: map[string]string{"site.nft": site}})
		for _, f := range families {
			t.Run(guests+" "+f.name, func(t *testing.T) {
				before := counter(t, l, "client_ack")
				client := mustExchange(t, l, lab.Client, f.server)
				if passed := counter(t, l, "client_ack") > before; passed != (guests == "none") {
					t.Errorf("bare ACKs passed by the queue: %v", passed)
				}
				if guests != "none" {
					r.wait(t, "a bare ACK", func(p seen) bool { return p.src == client && bare(p) })
				}
				r.taken(t)
			})
		}
	}
}

// A verdict with the reset bit answers the packet's sender with a RST, and
// conntrack remembers it.
func TestNFTReset(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, func(p seen) answer {
		if p.client && p.data() {
			return answer{mark: resetBit}
		}
		return answer{}
	})
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			if _, err := exchange(l, lab.Client, f.server, patience); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("exchange ended with %v, want a reset", err)
			}
			client := r.wait(t, "client data", func(p seen) bool { return p.client && p.data() }).src
			if c := tracked(t, l, client); c == nil || c.Mark != resetBit {
				t.Errorf("conntrack entry %v, want one with the mark", c)
			}
		})
	}
	if n := counter(t, l, "resets"); n != 2 {
		t.Errorf("counter resets is %d, want 2", n)
	}
}

// Mark bits that another program has set on packets mean nothing: mail is
// inspected all the same, and other ports are none of our business.
func TestNFTForeignMark(t *testing.T) {
	l := newLab(t, lab.Options{})
	serve(t, l, lab.Server)
	r := read(t, l, accept)
	nft(t, l, "add rule inet smtpwall admit meta mark set 0x00030000")
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			client := mustExchange(t, l, lab.Client, f.server)
			if n := count(of(r.taken(t), client), func(p seen) bool { return p.client && p.data() }); n != 1 {
				t.Errorf("%d packets with client data reached a queue, want 1", n)
			}
			ln, err := l.Listen(lab.Server, net.JoinHostPort(f.server, "80"))
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			conn, err := l.Dial(lab.Client, ln.Addr().String(), patience)
			if err != nil {
				t.Fatalf("connection to port 80: %v", err)
			}
			_ = conn.Close()
		})
	}
}
