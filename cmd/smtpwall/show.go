package main

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/control"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// patience is how long the daemon's tasks may take to tell what they know: less
// than the client's.
const patience = 2 * time.Second

// maxListed is how many lines an answer has at most: as many of the longest ones
// as fit into an answer of the control socket. Overflow: the answer says how many
// more there are.
const maxListed = 140_000

// sources are what the daemon's answers are made of.
type sources struct {
	policy    *policy.Config // in force
	snapshots func(context.Context) ([]daemon.Snapshot, error)
	conns     func(ctx context.Context, limit int) (daemon.Conns, error)
	static    func(context.Context) (static.Report, error)
}

// handlers answer control commands.
func handlers(s sources) map[string]control.Handler {
	return map[string]control.Handler{
		showServicePolicy: answering(s.servicePolicy),
		showConn:          answering(s.connTable),
		showStatic:        answering(s.staticTable),
	}
}

// answering makes a handler of a function that gives up when its context ends.
func answering[T any](answer func(context.Context) (T, error)) control.Handler {
	return func() (any, error) {
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		return answer(ctx)
	}
}

// newShowCommand returns `smtpwall show`.
func newShowCommand() *cobra.Command {
	show := &cobra.Command{
		Use:   "show",
		Short: "ask the running daemon",
		Example: `  smtpwall show service-policy
  smtpwall show conn
  smtpwall show static`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show.AddCommand(newShowServicePolicyCommand(), newShowConnCommand(), newShowStaticCommand())
	return show
}

// shown is what the daemon says, ready to be shown.
type shown interface {
	// print writes it as text or as JSON.
	print(w io.Writer, asJSON bool) error
}

// asking completes a command that sends a control command and prints what comes
// back. into returns where to read it into.
func asking(cmd *cobra.Command, command string, into func() shown) *cobra.Command {
	var path string
	var asJSON bool
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a := into()
		if err := control.NewClient(path).Ask(cmd.Context(), command, a); err != nil {
			return err
		}
		return a.print(cmd.OutOrStdout(), asJSON)
	}
	cmd.Flags().StringVar(&path, "control", control.DefaultPath, "`path` of the daemon's control socket")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// printJSON writes an answer for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
