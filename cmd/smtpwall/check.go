package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/nftset"
	"github.com/smtpwall/smtpwall/pkg/policy"
)

// defaultPolicyFile is read if --policy names none; it may be missing.
const defaultPolicyFile = "/etc/smtpwall/policy.conf"

// newCheckCommand returns `smtpwall check`.
func newCheckCommand() *cobra.Command {
	var path, nft string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "check the policy and nft files without loading them",
		Long: `Parses the policy file and prints every error with file, line, column and what
was expected there. What is no error but will hurt is printed as a warning.
With --nft it also reads the limits in static.nft and compares the mappings with
those that lead back, and has nft check the ruleset as it would be loaded, which
takes CAP_NET_ADMIN.`,
		Example: `  smtpwall check
  smtpwall check --policy new.conf --nft /etc/smtpwall`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := checkPolicy(cmd, path)
			if nft != "" {
				err = errors.Join(err, checkStatic(cmd, nft), checkNft(cmd, nft))
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "policy", "", "policy `file` (default "+defaultPolicyFile+", or the built-in default if there is none)")
	cmd.Flags().StringVar(&nft, "nft", "", "`directory` of smtpwall.nft and its include files")
	return cmd
}

// readPolicy reads the policy file at path and returns where it came from. An
// empty path means the default file, or the built-in policy if that is missing; a
// missing file that was named is an error.
func readPolicy(path string) (*policy.Config, string, error) {
	file := path
	if file == "" {
		file = defaultPolicyFile
	}
	text, err := os.ReadFile(file)
	switch {
	case path == "" && errors.Is(err, fs.ErrNotExist):
		return policy.Default(), "built-in default", nil
	case err != nil:
		return nil, file, fmt.Errorf("read policy: %w", err)
	}
	cfg, err := policy.Parse(file, text)
	return cfg, file, err
}

// checkPolicy prints a summary of the policy and what in it will hurt, or
// everything wrong with it.
func checkPolicy(cmd *cobra.Command, path string) error {
	cfg, file, err := readPolicy(path)
	if list := policy.Errors(nil); errors.As(err, &list) {
		for _, e := range list {
			fmt.Fprintln(cmd.ErrOrStderr(), e)
		}
		return fmt.Errorf("check policy %s: %s", file, plural(len(list), "error"))
	}
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "policy %s: OK, %s: %s\n", file, plural(len(cfg.Maps), "map"), mapNames(cfg))
	for _, c := range cfg.Classes {
		fmt.Fprintf(out, "  class %s: %s%s%s\n", c.Name, inspectionOf(&c), tcpMapOf(&c), limitsOf(&c))
	}
	for _, w := range cfg.Warnings() {
		fmt.Fprintf(out, "warning: %s\n", w)
	}
	return nil
}

// inspectionOf says what inspects the queues of a class.
func inspectionOf(c *policy.Class) string {
	if c.Map == nil {
		return "inspects nothing"
	}
	return fmt.Sprintf("queues %d-%d inspected by %s, %s", c.First, c.Last, c.Map.Name, plural(len(c.Map.Matches), "match line"))
}

// limitsOf lists the limits of connections that a class states, if any.
func limitsOf(c *policy.Class) string {
	if limits := c.SetConnection(); limits != "" {
		return ", " + limits
	}
	return ""
}

// tcpMapOf names the tcp-map of a class, if it has one.
func tcpMapOf(c *policy.Class) string {
	if c.TCP.Name == "" {
		return ""
	}
	return ", tcp-map " + c.TCP.Name
}

// mapNames lists a policy's maps.
func mapNames(cfg *policy.Config) string {
	var names []string
	for _, m := range cfg.Maps {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// plural is "1 map", "2 maps".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// checkStatic looks at the static mappings in dir's static.nft: what nft leaves
// alone. Limits that cannot be read are errors, the rest are warnings.
func checkStatic(cmd *cobra.Command, dir string) error {
	file := filepath.Join(dir, "static.nft")
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nft has its say if the main file wants it
	}
	if err != nil {
		return fmt.Errorf("check nft files: %w", err)
	}
	found := nftset.ParseStatic(string(text))
	for _, f := range found.Faults {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: %s\n", file, f.Line, f)
	}
	for _, f := range append(found.MaxFirst, found.Reverse...) {
		fmt.Fprintf(cmd.OutOrStdout(), "warning: %s:%d: %s\n", file, f.Line, f)
	}
	if n := len(found.Faults); n > 0 {
		return fmt.Errorf("check nft files: %s: %s", file, plural(n, "error"))
	}
	return nil
}

// checkNft has nft check the main file in dir. nft looks for "smtpwall/NAME.nft"
// below /etc before it looks anywhere else, so the includes are given to it with
// the directory that is to be checked.
func checkNft(cmd *cobra.Command, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("check nft files: %w", err)
	}
	file := filepath.Join(dir, "smtpwall.nft")
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("check nft files: %w; an import writes three of the files: copy them over the shipped ones and name that directory", err)
	}
	output, err := runNft(cmd.Context(), includesFrom(text, dir))
	output = bytes.ReplaceAll(output, []byte("/dev/stdin"), []byte(file))
	cmd.ErrOrStderr().Write(output)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("check nft files: %w; install the package nftables", err)
	case bytes.Contains(output, []byte("Operation not permitted")):
		return fmt.Errorf("check nft files: %w; run this as root or with CAP_NET_ADMIN", err)
	case bytes.Contains(output, []byte("No such file or directory")) && bytes.Contains(output, []byte("queue ")):
		return fmt.Errorf("check nft files: %w; a queue statement takes a kernel with the module nft_queue", err)
	case bytes.Contains(output, []byte("No such file or directory")) && bytes.Contains(output, []byte("synproxy ")):
		return fmt.Errorf("check nft files: %w; a synproxy statement takes a kernel with the module nft_synproxy: without it empty intercept.nft", err)
	case err != nil:
		return fmt.Errorf("check nft files: nft refuses %s: %w", file, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "nft %s: OK\n", file)
	return nil
}

// includesFrom makes text's includes of "smtpwall/NAME" mean the file in dir.
// Lines keep their numbers.
func includesFrom(text []byte, dir string) []byte {
	lines := strings.Split(string(text), "\n")
	for i, l := range lines {
		if name, ok := strings.CutPrefix(strings.TrimSpace(l), `include "smtpwall/`); ok {
			lines[i] = `include "` + dir + "/" + name
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// runNft gives text to `nft --check` and returns what it printed.
func runNft(ctx context.Context, text []byte) ([]byte, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := context.WithTimeoutCause(ctx, nftPatience, fmt.Errorf("it did not end within %v", nftPatience))
	defer stop()
	nft := exec.CommandContext(ctx, "nft", "--check", "--file", "-")
	nft.Stdin = bytes.NewReader(text)
	output, err := nft.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return output, err
}

// nftPatience is how long nft may take: versions of it loop on some texts.
const nftPatience = 2 * time.Minute
