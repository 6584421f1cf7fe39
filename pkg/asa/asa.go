package asa

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// Bounds of what is read. The largest ASA configurations have some 100,000 lines;
// the program must not be brought down by a file that somebody sent.
const (
	MaxBytes    = 16 << 20 // of a file; more is an error
	maxLines    = 500_000  // more is an error
	maxLine     = 4096     // bytes of a line; a longer one is listed
	maxElements = 10_000   // entries of an access list, mappings, exempt hosts; more are listed
	maxShown    = 120      // bytes of a line in a Finding
)

// Finding is one line of the file that the operator should look at.
type Finding struct {
	Line   int    // from 1
	Text   string // the line, fit for a terminal
	Reason string
}

// Other is how many lines began with a word that has nothing to do with mail or
// static mappings.
type Other struct {
	Word  string // fit for a terminal
	First int    // the first such line
	Count int
}

// Exempt is a host or network that is not inspected, as chain forward sees it.
type Exempt struct {
	Prefix netip.Prefix
	List   string // the access list that names it
}

// Mapping is a static mapping. Only one mapping of a local address has Reverse:
// the global address of connections that the host opens itself.
type Mapping struct {
	static.Mapping
	Reverse bool
	line    int
}

// Result is what a configuration became.
type Result struct {
	Exempt   []Exempt  // ascending, none inside another
	Mappings []Mapping // in the order of the file
	Policy   *policy.Config

	Warnings []Finding // carried over, but not exactly
	Lost     []Finding // not carried over
	Others   []Other   // in the order of the file
	Unnamed  []string  // interfaces of mappings that no nameif in the file declares

	file       string
	interfaces []string // policy.conf's comments about them
}

// errNothing is a file that is probably no configuration.
var errNothing = errors.New("no static mapping, exempt host or inspection of mail in it; give it what the ASA's `show running-config` prints")

// Import reads a configuration. The name is used in texts only. The error tells
// that nothing in it is of use.
func Import(file string, text []byte) (*Result, error) {
	if len(text) > MaxBytes || bytes.Count(text, []byte("\n")) > maxLines {
		return nil, fmt.Errorf("import %s: more than %d bytes or %d lines; give it the parts about mail and static mappings", file, MaxBytes, maxLines)
	}
	im := newImporter(file)
	im.read(string(text))
	im.mappings()
	frame := im.policies()
	if !im.useful() {
		return nil, fmt.Errorf("import %s: %w", file, errNothing)
	}
	cfg, err := im.policy(frame)
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", file, err)
	}
	im.unpaired()
	im.interfacesOfStatics()
	r := &Result{
		Exempt: joined(im.exempts), Mappings: im.mapped, Policy: cfg, file: printable(file), interfaces: im.interfaces,
		Warnings: sorted(im.warnings), Lost: sorted(im.lost), Others: im.others(), Unnamed: im.unnamed,
	}
	return r, nil
}

// useful tells whether anything was found.
func (im *importer) useful() bool {
	return len(im.mapped) > 0 || len(im.exempts) > 0 || len(im.kept) > 0 || len(im.policyMaps) > 0 || len(im.fixups) > 0
}

// printable makes a text of the file fit for a terminal and for one line.
func printable(s string) string {
	if len(s) > maxShown {
		s = s[:maxShown] + "..."
	}
	if strconv.CanBackquote(s) {
		return s
	}
	return strconv.Quote(s)
}
