package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// labSession is one connection of the lab, as both ends saw it.
type labSession struct {
	title  string
	port   uint16
	conn   *wiretap // the client's end
	server *wiretap // the server's end
	turns  []labTurn
}

// labTurn is what the client wrote, or read, before it did the other.
type labTurn struct {
	client bool // the client wrote it
	bytes  []byte
}

// say notes what passes the client's end, in order.
func (s *labSession) say(out bool, b []byte) {
	if n := len(s.turns); n > 0 && s.turns[n-1].client == out {
		s.turns[n-1].bytes = append(s.turns[n-1].bytes, b...)
		return
	}
	s.turns = append(s.turns, labTurn{out, bytes.Clone(b)})
}

// labColumn is the width of what a side sent or got.
const labColumn = 44

// print shows each line as its sender sent it, as its receiver got it, and the
// rule that acted.
func (s *labSession) print(w io.Writer, records []record) {
	fmt.Fprintf(w, "\n== %s\n   %-*s %-*s %s\n", s.title, labColumn, "sent", labColumn, "arrived", "rule")
	var serverIn, serverOut []byte
	if s.server != nil {
		serverIn, serverOut = s.server.bytes()
	}
	var at [2]int // octets of the client's and of the server's stream shown
	replies := 0  // of the server, to tell the greeting
	for _, t := range s.turns {
		side, other := 0, serverIn
		if !t.client {
			side, other = 1, serverOut
			replies++
		}
		for line := range bytes.Lines(t.bytes) {
			from := at[side]
			at[side] += len(line)
			sent, arrived := line, cut(other, from, at[side])
			if !t.client {
				sent, arrived = arrived, line
			}
			rule := ruleFor(records, s.port, t.client, from, at[side])
			if rule == "" && !bytes.Equal(sent, arrived) && !t.client {
				rule = silentRule(replies)
			}
			s.printLine(w, "CS"[side], sent, arrived, rule)
		}
	}
}

// printLine prints one line of the table.
func (s *labSession) printLine(w io.Writer, side byte, sent, arrived []byte, rule string) {
	same := "(the same)"
	switch {
	case len(arrived) == 0:
		same = "(nothing)"
	case !bytes.Equal(sent, arrived):
		same = printable(arrived)
	}
	fmt.Fprintf(w, "%c: %-*s %-*s %s\n", side, labColumn, printable(sent), labColumn, same, rule)
}

// cut is b[from:to] as far as b goes.
func cut(b []byte, from, to int) []byte { return b[min(from, len(b)):min(to, len(b))] }

// printable is a line without its end and cut to the labColumn.
func printable(b []byte) string {
	s := strings.TrimRight(string(b), "\r\n")
	if len(s) > labColumn {
		s = s[:labColumn-3] + "..."
	}
	return s
}

// ruleFor finds the records about octets from..to of a side.
func ruleFor(records []record, port uint16, client bool, from, to int) string {
	side := "response"
	if client {
		side = "request"
	}
	var rules []string
	for _, r := range records {
		if r.ClientPort != port || r.Side != side || r.Offset == nil || int(*r.Offset) < from || int(*r.Offset) >= to {
			continue
		}
		rule := r.Event
		if r.Rule != "" {
			rule = r.Rule
		}
		if r.Action != "" {
			rule += ": " + r.Action
		}
		rules = append(rules, rule)
	}
	return strings.Join(rules, "; ")
}

// silentRule names the rules that change replies without a record.
func silentRule(reply int) string {
	if reply == 1 {
		return "mask-banner"
	}
	return "match ehlo-reply-parameter others: mask"
}
