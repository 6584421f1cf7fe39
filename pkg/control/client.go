package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"syscall"
	"time"
)

// Client asks a running daemon.
type Client struct {
	dial func(context.Context) (net.Conn, error)
	path string
}

// NewClient asks the daemon whose control socket is at path.
func NewClient(path string) *Client {
	return &Client{path: path, dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
}

// InMemory is a Client of s without a socket, for tests.
func InMemory(s *Server) *Client {
	return &Client{path: "in memory", dial: func(ctx context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go s.serveConn(ctx, server)
		return client, nil
	}}
}

// Ask sends a command and reads its answer into result, as encoding/json does.
func (c *Client) Ask(ctx context.Context, command string, result any) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return c.explain(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(deadline)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	line, err := json.Marshal(request{Command: command})
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return c.explain(err)
	}
	answer, err := readLine(conn, maxResponse)
	if err != nil {
		return c.explain(err)
	}
	return decode(answer, result)
}

// decode reads an answer.
func decode(answer []byte, result any) error {
	var r response
	if err := json.Unmarshal(answer, &r); err != nil {
		return fmt.Errorf("read answer of the daemon: %w", err)
	}
	if r.Error != "" {
		return fmt.Errorf("the daemon answers: %s", r.Error)
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("read answer of the daemon: %w", err)
	}
	return nil
}

// explain turns an error of the socket into one that names the remedy.
func (c *Client) explain(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("ask the daemon at %s: it is not running: start it with `smtpwall run`, or name its socket with --control: %w", c.path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("ask the daemon at %s: only its user may: run this as root: %w", c.path, err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("ask the daemon at %s: no answer within %s: it hangs or stops: %w", c.path, deadline, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("ask the daemon at %s: it hung up, as it does while it stops: %w", c.path, err)
	}
	return fmt.Errorf("ask the daemon at %s: %w", c.path, err)
}
