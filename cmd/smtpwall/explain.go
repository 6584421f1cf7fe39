package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// newExplainCommand returns `smtpwall explain`.
func newExplainCommand() *cobra.Command {
	var flags policyFlags
	cmd := &cobra.Command{
		Use:   "explain TRANSCRIPT",
		Short: "show a written dialogue as each side would see it",
		Long: `Runs a dialogue written as text through the inspection and shows each line as
it was sent. Below it, behind "->", stands what the other side received, if that
differs; to the right, behind "#", the rule that acted with its numbers, and
whether the line was held or passed unread. The audit records follow.

A transcript has one line for what one side sends at once:

  # a comment
  S: 220 mx.example.org ESMTP
  C: EHLO client.example.com
  C: MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>
  C: QU\
  C: IT

"C: " is the client, "S: " the server. CR LF is appended. \r, \n, \t, \0 and \\
stand for those bytes, \xNN for any; a backslash at the end leaves CR LF out.
TRANSCRIPT "-" is standard input.`,
		Example: `  printf 'S: 220 hi\nC: BDAT 5 LAST\n' | smtpwall explain -
  smtpwall explain --policy new.conf --map strict dialogue.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := flags.load()
			if err != nil {
				return err
			}
			t, err := readTranscript(args[0], cmd.InOrStdin())
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			explain(out, cfg, t)
			return out.Flush()
		},
	}
	flags.add(cmd)
	return cmd
}

// readTranscript reads a transcript from a file or, named "-", from stdin.
func readTranscript(path string, stdin io.Reader) (capture.Transcript, error) {
	read := func() ([]byte, error) { return os.ReadFile(path) }
	if path == "-" {
		path, read = "standard input", func() ([]byte, error) { return io.ReadAll(stdin) }
	}
	text, err := read()
	if err != nil {
		return nil, fmt.Errorf("read transcript: %w", err)
	}
	return capture.ParseTranscript(path, text)
}

// view is what became of one turn.
type view struct {
	seen  []byte   // what its receiver got
	lost  string   // why some of it did not arrive; empty if all did
	notes []string // the rules that acted on it
}

// explainer follows a transcript through an engine.
type explainer struct {
	cfg    *policy.Config
	turns  capture.Transcript
	views  []view
	packet map[uint32]int // packet ID -> turn
	eng    *engine.Engine
	lines  []audit.LineReport // as they were before the packet in hand
	events []engine.Event
}

// explain runs t through the inspection and prints what each side saw.
func explain(w io.Writer, cfg *policy.Config, t capture.Transcript) {
	x := &explainer{
		cfg: cfg, turns: t, views: make([]view, len(t)), packet: make(map[uint32]int),
		eng: engine.New(offline(cfg.Classes[0])),
	}
	x.lines = x.report()
	t.Play(x.inspect)
	x.after(capture.Closing, x.eng.Tick(time.Hour)) // beyond every timeout
	for i := range t {
		x.print(w, i)
	}
	x.records(w)
}

// inspect gives one packet of a turn to the engine.
func (x *explainer) inspect(turn int, p *engine.Packet) []engine.Decision {
	x.packet[p.ID] = turn
	d := x.eng.Process(p)
	x.after(turn, d)
	if !slices.ContainsFunc(d, func(d engine.Decision) bool { return d.ID == p.ID }) {
		x.note(turn, "held: the reply to the command before it says how to read it")
	}
	return d
}

// after notes what the engine decided, and why, while turn was sent.
func (x *explainer) after(turn int, decisions []engine.Decision) {
	for _, d := range decisions {
		if t := x.packet[d.ID]; t >= 0 {
			x.views[t].take(d)
		}
	}
	var told []string
	for _, e := range x.eng.TakeEvents() {
		x.events = append(x.events, e)
		if s := audit.Summary(&e); s != "" {
			x.note(x.turnAt(turn, &e), s)
			told = append(told, audit.RuleLine(&e))
		}
	}
	x.eng.TakeKills()
	x.counted(turn, told)
	for _, d := range decisions {
		if t := x.packet[d.ID]; t >= 0 && d.Mark&engine.MarkOffload != 0 && len(x.views[t].notes) == 0 {
			x.note(t, "passes unread")
		}
	}
}

// counted notes the policy lines that counted something without an event of
// theirs being told: mask-banner, or a rate-limit that is not reached.
func (x *explainer) counted(turn int, told []string) {
	before := x.lines
	x.lines = x.report()
	for i, l := range x.lines {
		explained := slices.ContainsFunc(told, func(rule string) bool {
			return l.Line == rule || l.Do == "" && strings.HasPrefix(l.Line, rule+" ")
		})
		if l.Count > before[i].Count && !explained {
			x.note(turn, ruleOf(l))
		}
	}
}

// take adds a decision to what the receiver of a turn saw.
func (v *view) take(d engine.Decision) {
	tcp, ok := capture.ParseTCP(d.Data)
	switch {
	case d.Verdict == engine.Drop:
		v.lost = "dropped, " + d.Reason.String()
	case d.Mark&engine.MarkReset != 0 || ok && tcp.Flags&capture.RST != 0:
		v.lost = "reset"
	default:
		v.seen = append(v.seen, tcp.Payload...)
	}
}

// note adds a rule to a turn, once.
func (x *explainer) note(turn int, s string) {
	if turn < 0 || slices.Contains(x.views[turn].notes, s) {
		return
	}
	x.views[turn].notes = append(x.views[turn].notes, s)
}

// turnAt is the turn that holds the byte an event is about. It may be an earlier
// one than the turn in hand, whose packet set a held one free.
func (x *explainer) turnAt(turn int, e *engine.Event) int {
	var end uint64
	for i, t := range x.turns {
		if t.Side != e.Side {
			continue
		}
		if end += uint64(len(t.Data)); e.Offset < end {
			return i
		}
	}
	return turn
}

// report is the counters of every policy line.
func (x *explainer) report() []audit.LineReport {
	return audit.Report(x.cfg, []engine.Counters{x.eng.Counters()})[0].Lines
}

// ruleOf spells a policy line with its action.
func ruleOf(l audit.LineReport) string {
	if l.Do == "" {
		return l.Line
	}
	return l.Line + ": " + l.Do
}
