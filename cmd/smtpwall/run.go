package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/control"
	"github.com/smtpwall/smtpwall/pkg/ctnl"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/nfq"
	"github.com/smtpwall/smtpwall/pkg/nftset"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// runOptions are the flags of `run`.
type runOptions struct {
	policy    string
	audit     auditFlags
	control   string
	undecided choice
	midstream choice
	metrics   string
}

// newRunCommand returns `smtpwall run`.
func newRunCommand() *cobra.Command {
	_, cmd := newRunOptions()
	return cmd
}

// newRunOptions returns `smtpwall run` and what its flags set.
func newRunOptions() (*runOptions, *cobra.Command) {
	opt := &runOptions{
		undecided: choice{value: "closed", of: []string{"open", "closed"}},
		midstream: choice{of: []string{"bypass", "reset", "drop"}},
	}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "inspect live traffic",
		Long: `Binds the queues that the policy's class-maps name, inspects what nftables rules
send there, and runs until SIGTERM. It writes "ready" to its log, which is
standard error, and tells systemd, once every queue is bound. It takes
CAP_NET_ADMIN. SIGHUP opens audit files again, as after a rotation.`,
		Example: `  smtpwall run
  smtpwall run --policy new.conf --audit syslog --audit file:/var/log/smtpwall/audit.log --audit-tag ASA`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opt.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.policy, "policy", "", "policy `file` (default "+defaultPolicyFile+", or the built-in default if there is none)")
	f.StringVar(&opt.control, "control", control.DefaultPath, "`path` of the control socket")
	f.Var(&opt.undecided, "undecided", "what becomes of a session that is not understood: open or closed")
	f.Var(&opt.midstream, "midstream", "what becomes of a connection whose start was not seen: bypass, reset or drop\n(default bypass with --undecided open, else reset)")
	f.StringVar(&opt.metrics, "metrics", "", "`address` at which Prometheus finds metrics, 127.0.0.1:9125 say (default none)")
	opt.audit.add(f)
	return opt, cmd
}

// choice is a flag with a closed set of values.
type choice struct {
	value string
	of    []string
}

// String is the value.
func (c *choice) String() string { return c.value }

// Type names the value in the help.
func (c *choice) Type() string { return strings.Join(c.of, "|") }

// Set takes a value of the set.
func (c *choice) Set(s string) error {
	for _, v := range c.of {
		if s == v {
			c.value = s
			return nil
		}
	}
	return fmt.Errorf("want one of %s", strings.Join(c.of, ", "))
}

// engineOptions are the flags, and what inspects a class, in the words of the
// engine.
func (o *runOptions) engineOptions(c *policy.Class) engine.Options {
	e := engine.Options{
		Map: c.Map, TCP: c.TCP, Undecided: engine.UndecidedClosed, Midstream: engine.MidstreamReset,
	}
	if o.undecided.value == "open" {
		e.Undecided, e.Midstream = engine.UndecidedOpen, engine.MidstreamBypass
	}
	switch o.midstream.value {
	case "bypass":
		e.Midstream = engine.MidstreamBypass
	case "reset":
		e.Midstream = engine.MidstreamReset
	case "drop":
		e.Midstream = engine.MidstreamDrop
	}
	return e
}

// inspections lists the queues of a policy with the engines for them.
func (o *runOptions) inspections(cfg *policy.Config) ([]daemon.Inspect, error) {
	var all []daemon.Inspect
	for _, q := range cfg.Queues() {
		all = append(all, daemon.Inspect{Queue: q, Engine: o.engineOptions(cfg.ClassFor(q))})
	}
	if len(all) == 0 {
		return nil, errors.New("the policy inspects no queue: add a class-map with `match queue` and name it in the policy-map")
	}
	return all, nil
}

// run inspects until a signal comes.
func (o *runOptions) run(ctx context.Context, stderr io.Writer) (err error) {
	start := time.Now()
	log := newLog(stderr)
	cfg, source, err := readPolicy(o.policy)
	if err != nil {
		return err
	}
	inspect, err := o.inspections(cfg)
	if err != nil {
		return err
	}
	trail, err := o.audit.open(log, cfg.Nameif, start)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, trail.close()) }()
	ct, err := ctnl.Open()
	if err != nil {
		return err
	}
	defer ct.Close()
	if err := adopt(inspect, ct); err != nil {
		return err
	}
	socket, err := control.Listen(o.control)
	if err != nil {
		return err
	}
	log.Infof("policy: %s", source)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}

	limit, err := newLimit(log, cfg, ct, trail.writeStatic)
	if err != nil {
		return err
	}
	server := &control.Server{}
	opt := daemon.Options{
		Log: log, Start: start, Inspect: inspect, Conntrack: ct, Audit: trail.write, Limit: limit,
		Open: func(queue uint16) (daemon.Queue, error) { return nfq.Open(nfq.Options{Number: queue}) },
		Tasks: []daemon.Task{
			daemon.Signals(log),
			trail.reopener(),
			watchRuleset(log, ourQueues(cfg, limit), askedLimits(cfg)),
			daemon.NewTask("control", func(ctx context.Context, ready func()) error {
				ready()
				return server.Serve(ctx, socket)
			}),
		},
	}
	d := daemon.New(opt)
	from := sources{policy: cfg, snapshots: d.Snapshots, conns: d.Conns, static: staticHosts(d)}
	server.Handlers = handlers(from)
	if o.metrics != "" {
		d.Add(scraped(log, o.metrics, from, d, ct, limit))
	}
	return d.Run(ctx)
}

// newLog is the daemon's own log: audit records go elsewhere.
func newLog(w io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true})
	return log
}

// adopt tells the engines which connections are open already, where the operator
// lets those pass.
func adopt(inspect []daemon.Inspect, ct *ctnl.Conn) error {
	if inspect[0].Engine.Midstream != engine.MidstreamBypass {
		return nil
	}
	known, err := ct.Known()
	if err != nil {
		return err
	}
	for i := range inspect {
		inspect[i].Engine.Known = known
	}
	return nil
}

// watchEvery is how often the ruleset is looked at.
const watchEvery = 10 * time.Second

// watchRuleset is the task that logs what on this machine keeps mail from being
// inspected as it should: at start, and when it changes.
func watchRuleset(log *logrus.Logger, queues []uint16, asked static.Limits) daemon.Task {
	return daemon.NewTask("watch the ruleset", func(ctx context.Context, ready func()) error {
		told := tellChanges(log, nil, look(queues, asked), false)
		ready()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				told = tellChanges(log, told, look(queues, asked), true)
			}
		}
	})
}

// askedLimits are what `set connection` asks for, of hosts or of clients: the lower.
func askedLimits(cfg *policy.Config) static.Limits {
	host, client := cfg.ConnectionLimits()
	return host.Lower(client)
}

// look returns what is wrong now. The queues are ours, bound or about to be; asked
// are the limits of the policy.
func look(queues []uint16, asked static.Limits) []nftset.Warning {
	state, err := nftset.Read(asked)
	if err != nil {
		return []nftset.Warning{{Text: fmt.Sprintf("the ruleset cannot be checked: %v", err)}}
	}
	return nftset.Check(state, queues)
}

// tellChanges logs the warnings that were not told before, and those that are
// over. It returns now. A table that was there when the daemon had started and is
// gone is an error: mail passes uninspected, and nobody has meant it to.
func tellChanges(log *logrus.Logger, told, now []nftset.Warning, started bool) []nftset.Warning {
	news, past := without(now, told), without(told, now)
	for i, w := range news[:min(len(news), maxTold)] {
		switch {
		case i == maxTold-1 && len(news) > maxTold:
			log.Warnf("%d more such warnings; `smtpwall check --nft /etc/smtpwall` prints all that can be seen in the files", len(news)-i)
		case w.Kind.Broken(), started && w.Kind == nftset.NoTable:
			log.Error(w.Text)
		default:
			log.Warn(w.Text)
		}
	}
	for i, w := range past[:min(len(past), maxTold)] {
		if i == maxTold-1 && len(past) > maxTold {
			log.Infof("no longer so: %d more of those warnings", len(past)-i)
			continue
		}
		log.Infof("no longer so: %s", w.Text)
	}
	return now
}

// maxTold is how many warnings are logged at once: each of thousands of static
// mappings may have one. Those about mappings come last.
const maxTold = 20

// without returns those of all that some has not.
func without(all, some []nftset.Warning) (rest []nftset.Warning) {
	known := map[nftset.Warning]bool{}
	for _, w := range some {
		known[w] = true
	}
	for _, w := range all {
		if !known[w] {
			rest = append(rest, w)
		}
	}
	return rest
}

// reopener is the task that opens audit files again on SIGHUP.
func (t *auditTrail) reopener() daemon.Task {
	return daemon.NewTask("reopen audit files", func(ctx context.Context, ready func()) error {
		caught := make(chan os.Signal, 1)
		signal.Notify(caught, syscall.SIGHUP)
		defer signal.Stop(caught)
		ready()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-caught:
				t.reopen()
			}
		}
	})
}
