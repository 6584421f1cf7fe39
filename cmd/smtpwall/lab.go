package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/lab"
)

// newLabCommand returns `smtpwall lab`.
func newLabCommand() *cobra.Command {
	d := demo{}
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "show the firewall at work, with real mail in namespaces of its own",
		Long: `Builds a client, a firewall and a server on this machine (three network
namespaces), loads the shipped ruleset on the firewall, starts the daemon there,
and lets a mail client speak to a mail server through the kernel's queue. Shows
what each side sent, what the other side got, and the rule that acted; then the
audit records and the counters. Needs root; leaves nothing behind.`,
		Example: `  smtpwall lab
  smtpwall lab --nft ./nft --policy strict.conf`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run()
		},
	}
	cmd.Flags().StringVar(&d.nft, "nft", "/etc/smtpwall", "directory of the ruleset's files")
	cmd.Flags().StringVar(&d.policy, "policy", "", "policy file (default: the built-in map)")
	return cmd
}

// demo is one run of `smtpwall lab`.
type demo struct {
	nft, policy string
	out         io.Writer
	lab         *lab.Lab
	dir         string // of the daemon's files
	exe         string
	daemon      *exec.Cmd
}

// daemonStart is how long the daemon may take until it is ready.
const daemonStart = 20 * time.Second

// run builds the lab, lets mail through it and explains.
func (d *demo) run() (err error) {
	if d.exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	if d.dir, err = os.MkdirTemp("", "smtpwall-lab-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(d.dir)
	if d.lab, err = lab.New("demo"); err != nil {
		return err
	}
	defer d.lab.Close()
	diversion, err := d.lab.LoadRuleset(d.nft, lab.Options{Files: map[string]string{"exempt.nft": exemptNFT}})
	if err != nil {
		return err
	}
	if err := d.startDaemon(); err != nil {
		return err
	}
	defer d.stopDaemon()
	fmt.Fprintf(d.out, "client %s -- firewall -- server %s; diverted by the %s\n", lab.ClientIP4, lab.ServerIP4, diversion)
	sessions, err := d.mail()
	if err != nil {
		return err
	}
	policy, err := d.show()
	if err != nil {
		return err
	}
	d.stopDaemon() // so that every record has been written
	records, err := d.records()
	if err != nil {
		return err
	}
	for _, s := range sessions {
		s.print(d.out, records)
	}
	fmt.Fprintf(d.out, "\n== audit records\n")
	for _, r := range records {
		fmt.Fprintf(d.out, "%%SMTPWALL-%d-%d: %s\n", r.Severity, r.ID, r.Message)
	}
	fmt.Fprintf(d.out, "\n== smtpwall show service-policy\n%s", policy)
	return nil
}

// exemptNFT makes the client's second address an exempt host.
const exemptNFT = `table inet smtpwall {
	set exempt4 { type ipv4_addr; flags interval; }
	set exempt6 { type ipv6_addr; flags interval; }
}
flush set inet smtpwall exempt4
flush set inet smtpwall exempt6
add element inet smtpwall exempt4 { ` + exemptAddress + ` }
`

// exemptAddress is an address of the client's network that is exempt.
const exemptAddress = "10.9.1.77"

// startDaemon runs `smtpwall run` on the firewall until it is ready.
func (d *demo) startDaemon() error {
	args := []string{"run", "--audit", "file:" + filepath.Join(d.dir, "audit.json"), "--audit-format", "json", "--control", d.control()}
	if d.policy != "" {
		args = append(args, "--policy", d.policy)
	}
	d.daemon = d.lab.Command(lab.Firewall, d.exe, args...)
	stderr, err := d.daemon.StderrPipe()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	if err := d.daemon.Start(); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	ready, log := make(chan struct{}), &strings.Builder{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			fmt.Fprintln(log, s.Text())
			if strings.Contains(s.Text(), "ready") {
				close(ready)
				io.Copy(io.Discard, stderr)
				return
			}
		}
	}()
	select {
	case <-ready:
		return nil
	case <-ended:
	case <-time.After(daemonStart):
		d.daemon.Process.Kill()
		<-ended
	}
	d.daemon.Wait()
	d.daemon = nil
	return fmt.Errorf("the daemon did not become ready; it said:\n%s", log)
}

func (d *demo) control() string { return filepath.Join(d.dir, "control.sock") }

// stopDaemon ends the daemon and waits for it.
func (d *demo) stopDaemon() {
	if d.daemon == nil {
		return
	}
	d.daemon.Process.Signal(syscall.SIGTERM)
	d.daemon.Wait()
	d.daemon = nil
}

// show asks the daemon for its counters.
func (d *demo) show() (string, error) {
	out, err := exec.Command(d.exe, "show", "service-policy", "--control", d.control()).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("show service-policy: %w: %s", err, out)
	}
	return string(out), nil
}

// record is what the lab reads of an audit record in JSON (see pkg/audit).
type record struct {
	ID         int     `json:"id"`
	Severity   int     `json:"severity"`
	Event      string  `json:"event"`
	ClientPort uint16  `json:"client_port"`
	Side       string  `json:"side"`
	Action     string  `json:"action"`
	Class      int     `json:"class"`
	Rule       string  `json:"rule"`
	Detail     string  `json:"detail"`
	Offset     *uint64 `json:"offset"`
	Message    string  `json:"message"`
}

// records reads the audit file.
func (d *demo) records() (list []record, err error) {
	f, err := os.Open(filepath.Join(d.dir, "audit.json"))
	if err != nil {
		return nil, fmt.Errorf("read audit records: %w", err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var r record
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("read audit records: %w", err)
		}
		list = append(list, r)
	}
	return list, nil
}
