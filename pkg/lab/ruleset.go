package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// Diversion is how packets come from the ruleset into a queue.
type Diversion string

// The two ways. A kernel without the nftables expression `queue` cannot load
// divert.nft; the lab then loads all other files as they are and puts the target
// NFQUEUE of xtables into the chains that divert.nft would have filled. The
// packets take the same way through the ruleset; only the spreading over queues
// differs (by addresses, not by addresses and ports).
const (
	NativeQueue  Diversion = "nft queue statement"
	XtablesQueue Diversion = "xtables NFQUEUE target (this kernel has no nft queue statement)"
)

// Options is what LoadRuleset loads otherwise than shipped.
type Options struct {
	Open  bool              // divert-open.nft in place of divert.nft
	Check bool              // change nothing, as `nft -c`
	Files map[string]string // text by file name, in place of the shipped file
}

// The files that LoadRuleset knows by name.
const (
	mainFile   = "smtpwall.nft"
	divertFile = "divert.nft"
	openFile   = "divert-open.nft"
)

// declareDivert stands in for divert.nft on a kernel without `queue`. It does
// not flush the two chains: the targets in them stay until replaced.
const declareDivert = "table inet smtpwall {\n\tchain divert { }\n\tchain divert_syn { }\n}\n"

// LoadRuleset loads the ruleset in dir, the project's nft directory or an
// installed /etc/smtpwall, and its sysctls on the firewall. It may be called
// again and again.
func (l *Lab) LoadRuleset(dir string, opt Options) (Diversion, error) {
	files, err := readRuleset(dir, opt)
	if err != nil {
		return "", fmt.Errorf("read ruleset: %w", err)
	}
	if !opt.Check {
		if err := l.setShippedSysctls(dir); err != nil {
			return "", fmt.Errorf("load ruleset: %w", err)
		}
	}
	if l.hasQueueStatement() {
		return NativeQueue, l.loadFiles(files, opt.Check)
	}
	targets, err := parseDivert(files[divertFile])
	if err != nil {
		return "", fmt.Errorf("load ruleset: %w", err)
	}
	files[divertFile] = declareDivert
	if err := l.loadFiles(files, opt.Check); err != nil || opt.Check {
		return XtablesQueue, err
	}
	return XtablesQueue, l.addTargets(targets)
}

// readRuleset returns the text of every nft file of dir, by name, with the
// changes that opt asks for.
func readRuleset(dir string, opt Options) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.nft"))
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(p)] = string(text)
	}
	if files[mainFile] == "" {
		return nil, fmt.Errorf("no %s in %s: name the project's nft directory or /etc/smtpwall", mainFile, dir)
	}
	if opt.Open {
		files[divertFile] = files[openFile]
	}
	for name, text := range opt.Files {
		files[name] = text
	}
	return files, nil
}

// setShippedSysctls applies sysctl.d/smtpwall.conf of dir.
func (l *Lab) setShippedSysctls(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "sysctl.d", "smtpwall.conf"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // an installed /etc/smtpwall: the package has put the file elsewhere
	}
	if err != nil {
		return err
	}
	var pairs []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			pairs = append(pairs, line)
		}
	}
	return l.Do(Firewall, func() error { return setSysctls(pairs) })
}

// loadFiles writes the files and loads the main one as an operator would. Its
// includes get the full path: nft looks into /etc before it looks into the
// directories of -I, and smtpwall may be installed on this machine.
func (l *Lab) loadFiles(files map[string]string, check bool) error {
	dir := filepath.Join(l.dir, "smtpwall")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create directory: %w", err)
	}
	for name, text := range files {
		text = strings.ReplaceAll(text, `include "smtpwall/`, `include "`+dir+`/`)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write ruleset: %w", err)
		}
	}
	args := []string{"-f", filepath.Join(dir, mainFile)}
	if check {
		args = append([]string{"-c"}, args...)
	}
	_, err := l.NFT(args...)
	return err
}

// NFT runs nft on the firewall and returns what it printed.
func (l *Lab) NFT(arg ...string) (string, error) {
	out, err := l.Command(Firewall, "nft", arg...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run nft %s: %w: %s", strings.Join(arg, " "), err, out)
	}
	return string(out), nil
}

// hasQueueStatement asks the kernel, in a transaction that changes nothing.
func (l *Lab) hasQueueStatement() bool {
	_, err := l.NFT("-c", "table inet smtpwall_probe { chain probe { queue num 0; }; }")
	return err == nil
}

// target is one queue statement as the xtables target NFQUEUE has it.
type target struct {
	chain      string
	num, total uint16
	bypass     bool
}

// queueRule reads the queue statements of divert.nft and divert-open.nft:
//
//	add rule inet smtpwall CHAIN queue [flags bypass] {to symhash mod N [offset M]|to M|num M}
var queueRule = regexp.MustCompile(`(?m)^add rule inet smtpwall (\w+) queue(?: flags (bypass))? (?:to symhash mod (\d+)(?: offset (\d+))?|(?:to|num) (\d+))$`)

// parseDivert returns the queue statements of a divert file.
func parseDivert(text string) ([]target, error) {
	var targets []target
	for _, m := range queueRule.FindAllStringSubmatch(text, -1) {
		t := target{chain: m[1], bypass: m[2] != "", total: 1}
		for _, f := range []struct {
			text string
			into *uint16
		}{{m[3], &t.total}, {m[4], &t.num}, {m[5], &t.num}} {
			if f.text == "" {
				continue
			}
			n, err := strconv.ParseUint(f.text, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("read queue number in %q: %w", m[0], err)
			}
			*f.into = uint16(n)
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("no queue statement of the form %q found in %s", "add rule inet smtpwall divert queue to symhash mod 4", divertFile)
	}
	return targets, nil
}

// addTargets replaces what is in the targets' chains, in one transaction.
func (l *Lab) addTargets(targets []target) error {
	conn, err := l.nftables()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: "smtpwall", Family: nftables.TableFamilyINet}
	for _, t := range targets {
		chain := &nftables.Chain{Table: table, Name: t.chain}
		conn.FlushChain(chain)
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{t.expr()}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("add NFQUEUE targets: %w (kernel without nft_compat or xt_NFQUEUE?)", err)
	}
	return nil
}

// expr is the target in the kernel's form: struct xt_NFQ_info_v3, padded to
// the alignment that nft_compat asks for.
func (t target) expr() *expr.Target {
	var flags uint16
	if t.bypass {
		flags = 1 // NFQ_FLAG_BYPASS
	}
	info := make(xt.Unknown, 0, 8)
	for _, v := range [4]uint16{t.num, t.total, flags, 0} {
		info = append(info, binaryutil.NativeEndian.PutUint16(v)...)
	}
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

// nftables opens a netlink connection on the firewall.
func (l *Lab) nftables() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(l.FD(Firewall)))
	if err != nil {
		return nil, fmt.Errorf("open netlink socket on firewall: %w", err)
	}
	return conn, nil
}
