package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/control"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// showServicePolicy is the control command of `show service-policy`.
const showServicePolicy = "show service-policy"

// patience is how long the shards may take to tell their counters: less than
// the client's.
const patience = 2 * time.Second

// servicePolicy is the answer to it. The JSON names are part of the program's
// interface; Text is what a terminal shows, made by the daemon because the
// policy file may have changed since it started.
type servicePolicy struct {
	Text          string              `json:"text,omitempty"`
	ServicePolicy string              `json:"service_policy"`
	PolicyMap     string              `json:"policy_map"`
	Classes       []audit.ClassReport `json:"classes"`
}

// handlers answer control commands from the policy in force and the shards.
func handlers(cfg *policy.Config, snapshots func(context.Context) ([]daemon.Snapshot, error)) map[string]control.Handler {
	return map[string]control.Handler{
		showServicePolicy: func() (any, error) {
			ctx, stop := context.WithTimeout(context.Background(), patience)
			defer stop()
			all, err := snapshots(ctx)
			if err != nil {
				return nil, err
			}
			return newServicePolicy(cfg, all)
		},
	}
}

// newServicePolicy sums the shards' counters by class.
func newServicePolicy(cfg *policy.Config, all []daemon.Snapshot) (servicePolicy, error) {
	sums := make([]engine.Counters, len(cfg.Classes))
	for i, class := range cfg.Classes {
		for _, s := range all {
			if class.First <= s.Queue && s.Queue <= class.Last {
				sums[i] = audit.Sum(sums[i], s.Engine)
			}
		}
	}
	var text bytes.Buffer
	err := audit.ServicePolicy(&text, cfg, sums)
	return servicePolicy{
		Text: text.String(), ServicePolicy: cfg.ServicePolicy, PolicyMap: cfg.PolicyMap,
		Classes: audit.Report(cfg, sums),
	}, err
}

// newShowCommand returns `smtpwall show`.
func newShowCommand() *cobra.Command {
	show := &cobra.Command{
		Use:     "show",
		Short:   "ask the running daemon",
		Example: `  smtpwall show service-policy`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show.AddCommand(newShowServicePolicyCommand())
	return show
}

// newShowServicePolicyCommand returns `smtpwall show service-policy`.
func newShowServicePolicyCommand() *cobra.Command {
	var path string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "service-policy",
		Short: "print the counters of every policy line",
		Long: `Prints the policy in force with its counters, in the layout of an ASA's
"show service-policy inspect esmtp". Lines that an ASA does not have appear once
they have counted something.`,
		Example: `  smtpwall show service-policy
  smtpwall show service-policy --json | jq '.classes[].packet'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer servicePolicy
			if err := control.NewClient(path).Ask(cmd.Context(), showServicePolicy, &answer); err != nil {
				return err
			}
			return answer.print(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().StringVar(&path, "control", control.DefaultPath, "`path` of the daemon's control socket")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// print writes the answer as text or as JSON.
func (s servicePolicy) print(w io.Writer, asJSON bool) error {
	if !asJSON {
		_, err := io.WriteString(w, s.Text)
		return err
	}
	s.Text = ""
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(s)
}
