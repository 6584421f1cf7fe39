package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// asSmtpwall makes the test binary the program itself, for tests that run it in
// another namespace.
const asSmtpwall = "SMTPWALL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asSmtpwall) != "" {
		main()
	}
	os.Exit(m.Run())
}

func TestExitCodes(t *testing.T) {
	tests := []struct {
		args   string
		code   int
		stderr string // what it must hold
	}{
		{"", exitOK, ""},
		{"version", exitOK, ""},
		{"run --help", exitOK, ""},
		{"show", exitOK, ""},
		{"nonsense", exitUsage, `unknown command "nonsense"`},
		{"--nonsense", exitUsage, "Run `smtpwall --help` for usage."},
		{"run extra", exitUsage, "Run `smtpwall run --help` for usage."},
		{"run --undecided maybe", exitUsage, "want one of open, closed"},
		{"run --midstream pass", exitUsage, "want one of bypass, reset, drop"},
		{"import asa asa.cfg", exitUsage, `required flag(s) "out" not set`},
		{"import asa --out new", exitUsage, "accepts 1 arg(s), received 0"},
		{"run --audit-format xml", exitUsage, "want one of asa, json"},
		{"show nonsense", exitUsage, "Run `smtpwall show --help` for usage."},
		{"show service-policy --control /nonexistent/socket", exitFailed, "it is not running: start it with `smtpwall run`"},
		{"run --policy /nonexistent/policy.conf", exitFailed, "smtpwall: read policy: open /nonexistent/policy.conf"},
		{"run --audit carrier-pigeon", exitFailed, `unknown audit target "carrier-pigeon"`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := execute(strings.Fields(tt.args), &stdout, &stderr); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if !strings.Contains(stderr.String(), tt.stderr) || (tt.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("standard error is %q, want %q in it", &stderr, tt.stderr)
			}
			if (stdout.Len() > 0) != (tt.code == exitOK) {
				t.Errorf("standard output is %q", &stdout)
			}
		})
	}
}

// TestHelp wants a help with an example from every command of ours.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: no help or no example", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRootCommand())
}
