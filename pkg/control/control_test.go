package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// numbers is an answer.
type numbers struct {
	A, B int
}

// server answers three commands.
func server() *Server {
	return &Server{Handlers: map[string]Handler{
		"numbers": func() (any, error) { return numbers{1, 2}, nil },
		"fail":    func() (any, error) { return nil, errors.New("count flows: too many") },
		"bad":     func() (any, error) { return make(chan int), nil },
	}}
}

// asks are the questions that both the socket and its twin are asked.
var asks = []struct {
	command string
	want    numbers
	err     string
}{
	{"numbers", numbers{1, 2}, ""},
	{"fail", numbers{}, "the daemon answers: count flows: too many"},
	{"bad", numbers{}, "the daemon answers: write answer: json: unsupported type: chan int"},
	{"nonsense", numbers{}, `the daemon answers: unknown command "nonsense": want one of bad, fail, numbers`},
}

// ask puts every question to c.
func ask(t *testing.T, c *Client) {
	t.Helper()
	for _, tt := range asks {
		var got numbers
		err := c.Ask(context.Background(), tt.command, &got)
		if got != tt.want {
			t.Errorf("%s: %v, want %v", tt.command, got, tt.want)
		}
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
			t.Errorf("%s: error %v, want %q", tt.command, err, tt.err)
		}
	}
}

func TestInMemory(t *testing.T) { ask(t, InMemory(server())) }

// serve runs a server on a socket until the test ends.
func serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server().Serve(ctx, l) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	stop := serve(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
	for range 2 * maxClients {
		ask(t, NewClient(path))
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another smtpwall answers there") {
		t.Errorf("second server: %v", err)
	}
	stop()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	err = NewClient(path).Ask(context.Background(), "numbers", &numbers{})
	if err == nil || !strings.Contains(err.Error(), "it is not running") {
		t.Errorf("without a server: %v", err)
	}
}

// TestStopWithClient ends a server to which a silent client is connected.
func TestStopWithClient(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	stop := serve(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(t, NewClient(path)) // the silent one was accepted before
	begin := time.Now()
	stop()
	if took := time.Since(begin); took > deadline/2 {
		t.Errorf("the server waited %s for the silent client", took)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestStale replaces the socket of a dead daemon, and nothing else.
func TestStale(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	err = NewClient(path).Ask(context.Background(), "numbers", &numbers{})
	if err == nil || !strings.Contains(err.Error(), "it is not running") {
		t.Errorf("stale socket: %v", err)
	}
	stop := serve(t, path)
	ask(t, NewClient(path))
	stop()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "a file of another kind") {
		t.Errorf("a plain file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q now", text)
	}
}

// TestBadRequests writes bytes at the server as they are.
func TestBadRequests(t *testing.T) {
	tests := []struct{ name, request, want string }{
		{"not JSON", "x\n", `{"error":"read request: invalid character 'x' looking for beginning of value"}` + "\n"},
		{"no command", "{}\n", `{"error":"unknown command \"\": want one of bad, fail, numbers"}` + "\n"},
		{"too long", strings.Repeat("x", maxRequest), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, conn := net.Pipe()
			go server().serveConn(context.Background(), conn)
			if _, err := client.Write([]byte(tt.request)); err != nil {
				t.Fatal(err)
			}
			got, _ := readLine(client, 1000)
			if len(got) > 0 {
				got = append(got, '\n')
			}
			if string(got) != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDeadline connects and says nothing: the server hangs up in time. A
// handler that hangs costs the client no more.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		client, conn := net.Pipe()
		go server().serveConn(context.Background(), conn)
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("the silent client got an answer")
		}
		if waited := time.Since(start); waited != deadline {
			t.Errorf("the server hung up after %s, want %s", waited, deadline)
		}

		hang := make(chan struct{})
		s := &Server{Handlers: map[string]Handler{"hang": func() (any, error) { <-hang; return 0, nil }}}
		err := InMemory(s).Ask(context.Background(), "hang", new(int))
		if err == nil || !strings.Contains(err.Error(), "no answer within 5s") {
			t.Errorf("a handler that hangs: %v", err)
		}
		close(hang)
	})
}
