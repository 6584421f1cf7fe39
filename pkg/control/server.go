package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Server answers commands.
type Server struct {
	Handlers map[string]Handler
}

// Listen makes the socket, readable and writable by its owner alone, and its
// directory. A socket that a dead daemon left behind is replaced.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of control socket: %w: give another path with --control", err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w: give another path with --control", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect control socket: %w", err)
	}
	return l, nil
}

// removeStale removes a socket on which nobody answers.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: there is a file of another kind: remove it or give another path with --control", path)
	}
	c, err := net.DialTimeout("unix", path, deadline)
	if err == nil {
		c.Close()
		return fmt.Errorf("control socket %s: another smtpwall answers there: stop it or give another path with --control", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("look at control socket: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale control socket: %w", err)
	}
	return nil
}

// Serve answers until ctx ends; then it closes l and every connection, and
// returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var clients sync.WaitGroup
	defer clients.Wait()
	places := make(chan struct{}, maxClients)
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept control connection: %w", err)
		}
		places <- struct{}{}
		clients.Go(func() {
			defer func() { <-places }()
			s.serveConn(ctx, c)
		})
	}
}

// serveConn answers one request and closes the connection. An error concerns
// the client alone, who sees it.
func (s *Server) serveConn(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		return
	}
	line, err := readLine(c, maxRequest)
	if err != nil {
		return
	}
	answer, err := json.Marshal(s.answer(line))
	if err != nil {
		return
	}
	_, _ = c.Write(append(answer, '\n'))
}

// answer runs the command of a request line.
func (s *Server) answer(line []byte) response {
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		return response{Error: fmt.Sprintf("read request: %v", err)}
	}
	handle, ok := s.Handlers[req.Command]
	if !ok {
		return response{Error: fmt.Sprintf("unknown command %q: want one of %s", req.Command, s.commands())}
	}
	result, err := handle()
	if err != nil {
		return response{Error: err.Error()}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return response{Error: fmt.Sprintf("write answer: %v", err)}
	}
	return response{Result: text}
}

// commands lists what the server answers.
func (s *Server) commands() string {
	var all []string
	for name := range s.Handlers {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// readLine reads up to and without a newline, at most limit bytes.
func readLine(r io.Reader, limit int64) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, limit)).ReadBytes('\n')
	if errors.Is(err, io.EOF) && int64(len(line)) == limit {
		return nil, fmt.Errorf("line is longer than %d bytes", limit)
	}
	if err != nil {
		return nil, err
	}
	return line[:len(line)-1], nil
}
