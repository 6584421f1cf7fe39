package metrics

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serving runs a server on loopback until the test ends, and returns its address.
func serving(t *testing.T, c *Collector) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return l.Addr().String()
}

// TestServe answers scrapes and nothing else.
func TestServe(t *testing.T) {
	addr := serving(t, New(sample()))
	for _, tt := range []struct {
		method, path string
		code         int
		holds        []string
	}{
		{"GET", "/metrics", 200, []string{"smtpwall_packets_total{queue=\"3\"} 102\n", "process_resident_memory_bytes ", "go_goroutines "}},
		{"GET", "/", 404, nil},
		{"GET", "/metrics/x", 404, nil},
		{"GET", "/debug/pprof/", 404, nil},
		{"POST", "/metrics", 405, nil},
		{"DELETE", "/metrics", 405, nil},
	} {
		req, err := http.NewRequest(tt.method, "http://"+addr+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.code {
			t.Errorf("%s %s: %s, %v; want %d", tt.method, tt.path, resp.Status, err, tt.code)
		}
		for _, want := range tt.holds {
			if !strings.Contains(string(body), want) {
				t.Errorf("%s %s: no %q in\n%s", tt.method, tt.path, want, body)
			}
		}
	}
}

// TestServeLongHeader refuses a header that does not end.
func TestServeLongHeader(t *testing.T) {
	c, err := net.Dial("tcp", serving(t, New(Sources{})))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(readTimeout)); err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 4*maxHeader))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 431 ") {
		t.Errorf("answer %q, %v", line, err)
	}
}

// pipes is a listener without a network, for tests whose time is not the clock's.
type pipes struct {
	accepted chan net.Conn
	closed   chan struct{}
}

// Accept returns the server's end of a connection.
func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

// Addr is none.
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// connect returns the client's end of a new connection, nil if it must wait.
func (p pipes) connect() net.Conn {
	synctest.Wait()
	client, server := net.Pipe()
	select {
	case p.accepted <- server:
		synctest.Wait()
		return client
	default:
		return nil
	}
}

// servingPipes calls test with a running server.
func servingPipes(t *testing.T, test func(*testing.T, pipes)) {
	synctest.Test(t, func(t *testing.T) {
		l := pipes{make(chan net.Conn), make(chan struct{})}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- New(Sources{}).serve(ctx, l) }()
		test(t, l)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// TestServeCrowd makes one connection more than is served wait until another one
// ends.
func TestServeCrowd(t *testing.T) {
	servingPipes(t, func(t *testing.T, l pipes) {
		first := l.connect()
		for i := 1; i < maxClients; i++ {
			if l.connect() == nil {
				t.Fatalf("connection %d is not served", i+1)
			}
		}
		if l.connect() != nil {
			t.Error("one more is served")
		}
		first.Close()
		if l.connect() == nil {
			t.Error("when another one has ended, the next is not served")
		}
	})
}

// TestServeTimeouts hangs up on clients that do not go on.
func TestServeTimeouts(t *testing.T) {
	const request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, tt := range []struct {
		name, says string
		reads      bool
		after      time.Duration
	}{
		{"says nothing", "", true, readTimeout},
		{"says half a request", "GET /metrics HT", true, readTimeout},
		{"says no more", request, true, idleTimeout},
		{"does not read", request, false, writeTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			servingPipes(t, func(t *testing.T, l pipes) {
				c, start := l.connect(), time.Now()
				if _, err := io.WriteString(c, tt.says); err != nil {
					t.Fatal(err)
				}
				if !tt.reads {
					<-time.After(tt.after - time.Millisecond)
					if _, err := c.Read(make([]byte, 1)); err != nil {
						t.Errorf("the server hung up early: %v", err)
					}
					<-time.After(time.Millisecond)
					synctest.Wait()
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Error(err)
				}
				if waited := time.Since(start); waited != tt.after {
					t.Errorf("the server hung up after %s, want %s", waited, tt.after)
				}
			})
		})
	}
}

// TestServeReady says when it listens, and stops with its context.
func TestServeReady(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- New(Sources{}).Serve(ctx, "127.0.0.1:0", func() { close(ready) }) }()
	<-ready
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestServeFails names the remedy.
func TestServeFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct{ addr, want string }{
		{taken.Addr().String(), "another program listens there: give another port with --metrics"},
		{"192.0.2.1:9925", "this machine does not have the address: give one of its own with --metrics"},
		{"9925", "--metrics takes HOST:PORT, as in 127.0.0.1:9925"},
		{"::1:9925", "--metrics takes HOST:PORT, as in 127.0.0.1:9925"},
		{"127.0.0.1:99999", "--metrics takes HOST:PORT, as in 127.0.0.1:9925"},
	} {
		err := New(Sources{}).Serve(context.Background(), tt.addr, func() { t.Errorf("%s: ready", tt.addr) })
		if err == nil || !strings.HasPrefix(err.Error(), "listen for metrics: ") || !strings.HasSuffix(err.Error(), ": "+tt.want) {
			t.Errorf("%s: got %v, want %s", tt.addr, err, tt.want)
		}
	}
}

// TestServeReports hands on what the server has to say.
func TestServeReports(t *testing.T) {
	var told error
	if n, err := (reports{func(err error) { told = err }}).Write([]byte("http: panic serving\n")); n != 20 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if told == nil || told.Error() != "http: panic serving" {
		t.Errorf("told %v", told)
	}
	if _, err := (reports{}).Write([]byte("nobody listens\n")); err != nil {
		t.Error(err)
	}
}
