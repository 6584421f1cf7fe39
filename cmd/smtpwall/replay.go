package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/capture"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// replayOptions are the flags of `replay`.
type replayOptions struct {
	policy policyFlags
	ports  []uint
	json   bool
	write  string
}

// newReplayCommand returns `smtpwall replay`.
func newReplayCommand() *cobra.Command {
	var opt replayOptions
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "inspect packet captures and show what would have happened",
		Long: `Runs the packets of pcap and pcapng files through the inspection, without any
privilege, and prints the audit records and the counters of every policy line.

Each file is inspected on its own; join a capture that was split while it was
taken first. Servers are shown as inside, clients as outside. Times are those of
the capture, in UTC.`,
		Example: `  smtpwall replay mail.pcap
  smtpwall replay --policy new.conf --json --write out.pcap mail.pcap`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return opt.run(cmd.OutOrStdout(), cmd.ErrOrStderr(), files)
		},
	}
	opt.policy.add(cmd)
	cmd.Flags().UintSliceVar(&opt.ports, "port", []uint{25}, "inspected `ports`; other packets are skipped and counted")
	cmd.Flags().BoolVar(&opt.json, "json", false, "one JSON object a record, the summary last")
	cmd.Flags().StringVar(&opt.write, "write", "", "write what the firewall would have sent on to this pcap `file`")
	return cmd
}

// replayer replays files one after the other.
type replayer struct {
	ports    []uint16
	class    policy.Class
	format   audit.Format
	out      *bufio.Writer
	pcap     *capture.Writer // nil without --write
	tally    capture.Tally
	counters engine.Counters
}

// run replays files. What is wrong with one does not keep the others from being
// read.
func (o *replayOptions) run(stdout, stderr io.Writer, files []string) (err error) {
	ports, err := portNumbers(o.ports)
	if err != nil {
		return err
	}
	cfg, err := o.policy.load()
	if err != nil {
		return err
	}
	r := replayer{ports: ports, class: cfg.Classes[0], out: bufio.NewWriter(stdout)}
	if o.json {
		r.format = audit.JSON
	}
	if o.write != "" {
		finish, werr := r.openOutput(o.write, files)
		if werr != nil {
			return werr
		}
		defer func() { err = errors.Join(err, finish()) }()
	}
	var errs []error
	for _, path := range files {
		tally, err := r.file(path)
		errs = append(errs, err)
		note(stderr, path, tally)
	}
	errs = append(errs, r.finish(cfg, o.json, len(files)), r.out.Flush())
	return errors.Join(errs...)
}

// portNumbers checks --port.
func portNumbers(ports []uint) ([]uint16, error) {
	var out []uint16
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return nil, fmt.Errorf("--port %d: a port is a number from 1 to 65535", p)
		}
		out = append(out, uint16(p))
	}
	return out, nil
}

// openOutput creates the file of --write and returns what closes it. It refuses
// to overwrite what is to be read.
func (r *replayer) openOutput(path string, inputs []string) (func() error, error) {
	if old, err := os.Stat(path); err == nil {
		for _, in := range inputs {
			if info, err := os.Stat(in); err == nil && os.SameFile(old, info) {
				return nil, fmt.Errorf("--write %s: that file is to be replayed; name another", path)
			}
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("open --write file: %w", err)
	}
	b := bufio.NewWriter(f)
	r.pcap = capture.NewWriter(b)
	return func() error {
		if err := errors.Join(r.pcap.Finish(), b.Flush(), f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}, nil
}

// file replays one capture through an engine of its own.
func (r *replayer) file(path string) (capture.Tally, error) {
	in, err := capture.Open(path)
	if err != nil {
		return capture.Tally{}, err
	}
	defer in.Close()
	eng := engine.New(offline(r.class))
	run := capture.NewReplay(eng)
	run.Ports = r.ports
	if r.pcap != nil {
		run.Forward = r.pcap.Write
	}
	records := audit.New(audit.Options{Format: r.format, Interface: sideNames, Wall: run.Wall})
	run.After = func() { r.take(eng, records) }
	tally, err := run.Run(in)
	r.tally.Add(tally)
	r.counters = audit.Sum(r.counters, eng.Counters())
	if err != nil {
		err = fmt.Errorf("replay %s: %w", path, err)
	}
	return tally, err
}

// offline is how an engine without a queue inspects for a class.
func offline(c policy.Class) engine.Options {
	return engine.Options{Map: c.Map, TCP: c.TCP, FirstConn: 1}
}

// take prints the records of what just happened. A capture has no conntrack, so
// nobody wants the kills.
func (r *replayer) take(eng *engine.Engine, f *audit.Formatter) {
	for _, e := range eng.TakeEvents() {
		for _, rec := range f.Records(&e) {
			fmt.Fprintln(r.out, rec.Line()) // Flush tells of errors
		}
	}
	eng.TakeKills()
}

// sideNames names the interfaces that capture makes up.
func sideNames(index uint32) string {
	switch index {
	case capture.OutsideIndex:
		return "outside"
	case capture.InsideIndex:
		return "inside"
	}
	return ""
}

// replaySummary is the last line of --json. The names are part of the program's
// interface.
type replaySummary struct {
	Files int `json:"files"`
	capture.Tally
	Sessions      uint64              `json:"sessions"`
	Accepted      uint64              `json:"accepted"`
	Edited        uint64              `json:"edited"`
	Held          uint64              `json:"held"`
	Early         uint64              `json:"early"` // packets of a message, sent on before those missing before them
	Dropped       uint64              `json:"dropped"`
	Drops         map[string]uint64   `json:"drops"`          // by reason; those that occurred
	Conflicts     uint64              `json:"conflicts"`      // packets with other octets than were forwarded before
	UrgentCleared uint64              `json:"urgent_cleared"` // packets
	WindowLowered uint64              `json:"window_lowered"` // packets
	Ended         uint64              `json:"ended"`          // connections, by drop-connection
	Reset         uint64              `json:"reset"`          // connections, by reset
	Offloaded     uint64              `json:"offloaded"`
	Undecided     uint64              `json:"undecided"`
	EventsLost    uint64              `json:"events_lost"`
	Policy        []audit.ClassReport `json:"policy"`
}

// finish prints the summary.
func (r *replayer) finish(cfg *policy.Config, asJSON bool, files int) error {
	c := &r.counters
	if !asJSON {
		return audit.ServicePolicy(r.out, cfg, []engine.Counters{*c})
	}
	s := replaySummary{
		Files: files, Tally: r.tally, Sessions: c.Sessions, Accepted: c.Accepted, Edited: c.Edited, Held: c.Held, Early: c.Early,
		Dropped: c.DropTotal(), Drops: map[string]uint64{}, Conflicts: c.Conflicts, UrgentCleared: c.UrgentCleared, WindowLowered: c.WindowLowered, Ended: c.EndedByDrop, Reset: c.EndedByRST,
		Offloaded: c.Offloaded, Undecided: c.Undecided, EventsLost: c.EventsLost, Policy: audit.Report(cfg, []engine.Counters{*c}),
	}
	for reason, n := range c.Drops {
		if n > 0 {
			s.Drops[engine.Reason(reason).String()] = n
		}
	}
	return json.NewEncoder(r.out).Encode(map[string]replaySummary{"summary": s})
}

// note tells which frames of a file were not inspected.
func note(w io.Writer, path string, t capture.Tally) {
	for _, n := range []struct {
		count uint64
		what  string
	}{
		{t.OtherPort, "to and from other ports skipped (--port chooses)"},
		{t.NotTCP, "that are not TCP skipped"},
		{t.Truncated, "cut by the capture's snapshot length skipped (take it with -s 0)"},
		{t.Clamped, "out of their time's order given the time of the one before"},
	} {
		if n.count > 0 {
			fmt.Fprintf(w, "%s: %d of %d frames %s\n", path, n.count, t.Frames, n.what)
		}
	}
}

// policyFlags are --policy and --map of the commands that inspect without a
// queue.
type policyFlags struct {
	path    string
	mapName string
}

// add defines the flags.
func (p *policyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.path, "policy", "", "policy `file` (default "+defaultPolicyFile+", or the built-in default if there is none)")
	cmd.Flags().StringVar(&p.mapName, "map", "", "inspect by the map of this `name` instead of the first class's")
}

// load reads the policy and leaves one class in it, with the chosen map.
func (p *policyFlags) load() (*policy.Config, error) {
	cfg, _, err := readPolicy(p.path)
	if err != nil {
		return nil, err
	}
	class := *cfg.Inspecting()
	if p.mapName != "" {
		if class.Map = cfg.Map(p.mapName); class.Map == nil {
			return nil, fmt.Errorf("--map %s: the policy has no such map; it has %s", p.mapName, mapNames(cfg))
		}
	}
	one := *cfg
	one.Classes = []policy.Class{class}
	return &one, nil
}
