package main

import (
	"bytes"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/audit"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/engine"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// showServicePolicy is the control command of `show service-policy`.
const showServicePolicy = "show service-policy"

// servicePolicy is the answer to it. The JSON names are part of the program's
// interface; Text is what a terminal shows, made by the daemon because the
// policy file may have changed since it started.
type servicePolicy struct {
	Text          string              `json:"text,omitempty"`
	ServicePolicy string              `json:"service_policy"`
	PolicyMap     string              `json:"policy_map"`
	Classes       []audit.ClassReport `json:"classes"`
}

// servicePolicy reports the policy in force with the shards' counters.
func (s sources) servicePolicy(ctx context.Context) (servicePolicy, error) {
	all, err := s.snapshots(ctx)
	if err != nil {
		return servicePolicy{}, err
	}
	return newServicePolicy(s.policy, all)
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

// newShowServicePolicyCommand returns `smtpwall show service-policy`.
func newShowServicePolicyCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "service-policy",
		Short: "print the counters of every policy line",
		Long: `Prints the policy in force with its counters, in the layout of an ASA's
"show service-policy inspect esmtp". Lines that an ASA does not have appear once
they have counted something.`,
		Example: `  smtpwall show service-policy
  smtpwall show service-policy --json | jq '.classes[].packet'`,
	}, showServicePolicy, func() shown { return &servicePolicy{} })
}

// print writes the answer as text or as JSON.
func (s *servicePolicy) print(w io.Writer, asJSON bool) error {
	if !asJSON {
		_, err := io.WriteString(w, s.Text)
		return err
	}
	s.Text = ""
	return printJSON(w, s)
}
