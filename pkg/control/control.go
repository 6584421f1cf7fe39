// Package control is how `smtpwall show` asks the running daemon: a unix socket
// on which one line of JSON asks and one line of JSON answers.
//
// It may be imported by daemon and cmd. It must never know what a command
// means: the server is given handlers.
//
//	{"command":"service-policy"}
//	{"result":{...}}  or  {"error":"..."}
package control

import (
	"encoding/json"
	"time"
)

const (
	// DefaultPath is the socket of the installed service.
	DefaultPath = "/run/smtpwall/control.sock"

	// deadline bounds one exchange, so that a client that stops reading does
	// not keep its place.
	deadline = 5 * time.Second

	// maxRequest is the longest request in bytes: a command is a few words.
	maxRequest = 4 << 10

	// maxResponse is the longest answer a client reads, in bytes: a quarter of
	// a million connections of `show conn`.
	maxResponse = 64 << 20

	// maxClients is how many are served at once; the next waits. Operators and
	// one scraper ask, each for milliseconds.
	maxClients = 8
)

// Handler answers one command. What it returns is sent as JSON.
type Handler func() (any, error)

// request is the line that asks.
type request struct {
	Command string `json:"command"`
}

// response is the line that answers: one of the two.
type response struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
}
