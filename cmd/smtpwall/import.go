package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/asa"
)

// newImportCommand returns `smtpwall import`.
func newImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "import",
		Short:   "turn another firewall's configuration into smtpwall's",
		Example: "  smtpwall import asa running-config.txt --out new",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImportASACommand())
	return cmd
}

// newImportASACommand returns `smtpwall import asa`.
func newImportASACommand() *cobra.Command {
	var dir string
	var force bool
	cmd := &cobra.Command{
		Use:   "asa FILE",
		Short: "turn a PIX or ASA configuration into nft files and policy.conf",
		Long: `Reads what "show running-config" of a PIX or ASA prints, or a piece of it, and
writes exempt.nft, static.nft and policy.conf: the hosts whose mail is not
inspected, the static mappings with their connection limits, and the inspection
maps. They can take the place of the installed files.

What is carried over with a difference, and what is not carried over, is listed
as FILE:LINE: TEXT: REASON. Lines about other things than mail and static
mappings are counted by their first word.`,
		Example: `  smtpwall import asa running-config.txt --out new
  smtpwall check --policy new/policy.conf`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cobra.ExactArgs(1)(cmd, args), cmd.ValidateRequiredFlags())
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return importASA(cmd.OutOrStdout(), args[0], dir, force)
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "`directory` for the files; created if it is missing")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite files of an earlier import")
	if err := cmd.MarkFlagRequired("out"); err != nil {
		panic(err) // no such flag
	}
	return cmd
}

// output is a file to be written.
type output struct{ name, text, what string }

// importASA imports one file. It writes nothing unless all of it worked.
func importASA(w io.Writer, file, dir string, force bool) error {
	text, err := readASA(file)
	if err != nil {
		return err
	}
	r, err := asa.Import(file, text)
	if err != nil {
		return err
	}
	outputs := []output{
		{"exempt.nft", r.ExemptNFT(), count(len(r.Exempt), "exempt host or network", "exempt hosts and networks")},
		{"static.nft", r.StaticNFT(), count(len(r.Mappings), "static mapping", "static mappings")},
		{"policy.conf", r.PolicyConf(), "inspection by " + r.Policy.Classes[0].Map.Name},
	}
	if err := writeAll(dir, outputs, force); err != nil {
		return fmt.Errorf("import %s: %w", file, err)
	}
	for _, o := range outputs {
		fmt.Fprintf(w, "wrote %s: %s\n", filepath.Join(dir, o.name), o.what)
	}
	printImport(w, file, r)
	return nil
}

// readASA reads the file, a little more of it than the import takes at most.
func readASA(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, asa.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// count is a number with the word for it.
func count(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// writeAll writes all files into dir, or none: they are complete before the
// first one gets its name.
func writeAll(dir string, outputs []output, force bool) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	for _, o := range outputs {
		info, err := os.Lstat(filepath.Join(dir, o.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("look for an earlier import: %w", err)
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is there and no file; name another directory", filepath.Join(dir, o.name))
		case !force:
			return fmt.Errorf("%s exists; name another directory, or overwrite it with --force", filepath.Join(dir, o.name))
		}
	}
	temporary := make([]string, 0, len(outputs))
	defer func() {
		for _, path := range temporary {
			os.Remove(path) // those that got their name are gone already
		}
	}()
	for _, o := range outputs {
		path, err := writeTemporary(dir, o)
		if path != "" {
			temporary = append(temporary, path)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", o.name, err)
		}
	}
	for i, o := range outputs {
		if err := os.Rename(temporary[i], filepath.Join(dir, o.name)); err != nil {
			return fmt.Errorf("write %s: %w", o.name, err)
		}
	}
	return nil
}

// writeTemporary writes a file under another name and returns that.
func writeTemporary(dir string, o output) (string, error) {
	f, err := os.CreateTemp(dir, "."+o.name+".")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(o.text)
	return f.Name(), errors.Join(err, f.Chmod(0o644), f.Close())
}

// printImport lists what the operator should look at.
func printImport(w io.Writer, file string, r *asa.Result) {
	for _, part := range []struct {
		title    string
		findings []asa.Finding
	}{
		{"carried over with a difference", r.Warnings},
		{"not carried over", r.Lost},
	} {
		if len(part.findings) > 0 {
			fmt.Fprintf(w, "\n%s:\n", part.title)
		}
		for _, f := range part.findings {
			fmt.Fprintf(w, "%s:%d: %s: %s\n", file, f.Line, f.Text, f.Reason)
		}
	}
	if len(r.Unnamed) > 0 {
		fmt.Fprintf(w, "\nno nameif in the file: records name the kernel's interfaces and call every connection inbound,\nuntil policy.conf names %s: comments in it show where\n", strings.Join(r.Unnamed, ", "))
	}
	if len(r.Others) > 0 {
		fmt.Fprintf(w, "\nnot read, as about other things than mail and static mappings:\n")
	}
	for _, o := range r.Others {
		fmt.Fprintf(w, "%s:%d: %s: %s\n", file, o.First, o.Word, count(o.Count, "line", "lines"))
	}
}
