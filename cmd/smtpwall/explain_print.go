package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/smtp"
)

// column is where notes stand.
const column = 60

// print shows one turn.
func (x *explainer) print(w io.Writer, i int) {
	t, v := x.turns[i], x.views[i]
	who := map[smtp.Side]string{smtp.Client: "C: ", smtp.Server: "S: "}[t.Side]
	lines := []string{who + capture.EscapeLine(t.Data)}
	switch {
	case v.lost != "" && len(v.seen) == 0:
		lines = append(lines, "-> ("+v.lost+")")
	case v.lost != "":
		lines = append(lines, "-> "+capture.EscapeLine(v.seen)+" ("+v.lost+")")
	case len(v.seen) == 0 && len(t.Data) > 0:
		lines = append(lines, "-> (not decided)")
	case !bytes.Equal(v.seen, t.Data):
		lines = append(lines, "-> "+capture.EscapeLine(v.seen))
	}
	for n, note := range v.notes {
		if n > 0 {
			lines = append(lines, "")
		}
		last := &lines[len(lines)-1]
		*last = fmt.Sprintf("%-*s # %s", column, *last, note)
	}
	for _, l := range lines {
		fmt.Fprintln(w, l)
	}
}

// records prints the audit records of the whole dialogue.
func (x *explainer) records(w io.Writer) {
	f := audit.New(audit.Options{Interface: sideNames, Wall: func(d time.Duration) time.Time { return time.Unix(0, 0).UTC().Add(d) }})
	fmt.Fprintln(w, "\nAudit records:")
	for i := range x.events {
		for _, r := range f.Records(&x.events[i]) {
			fmt.Fprintln(w, r.Body)
		}
	}
}
