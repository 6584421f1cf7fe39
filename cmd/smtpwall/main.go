// Command smtpwall inspects SMTP as a PIX or ASA firewall does, on a Linux box
// whose nftables rules divert mail to NFQUEUE.
//
// This package is flags, wiring and exit codes, a file a subcommand.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr)) }

// execute runs a command line and returns its exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	// An error before the command's own work begins is one of the command line.
	begun := false
	root.PersistentPreRun = func(*cobra.Command, []string) { begun = true }
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteC()
	switch {
	case err == nil:
		return exitOK
	case begun:
		fmt.Fprintf(stderr, "smtpwall: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stderr, "smtpwall: %v\nRun `%s --help` for usage.\n", err, cmd.CommandPath())
	return exitUsage
}

// newRootCommand returns `smtpwall` with its subcommands.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "smtpwall",
		Short: "inspect SMTP like a PIX or ASA firewall",
		Long: `smtpwall inspects the mail that nftables rules divert to it: it judges the SMTP
dialogue of both sides, masks what may not pass, ends what must not go on, and
writes an audit record for each decision.`,
		Example: `  smtpwall run
  smtpwall show service-policy
  smtpwall replay mail.pcap`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.AddCommand(
		newRunCommand(), newShowCommand(), newReplayCommand(), newExplainCommand(),
		newCheckCommand(), newImportCommand(), newVersionCommand(), newLabCommand(),
	)
	return root
}
