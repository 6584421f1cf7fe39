package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/smtpwall/smtpwall/pkg/static"
)

// showStatic is the control command of `show static`.
const showStatic = "show static"

// staticTable is the answer to it. The JSON names are part of the program's
// interface.
type staticTable struct {
	Omitted int          `json:"omitted,omitempty"` // hosts not listed, for want of room
	Hosts   []staticLine `json:"hosts"`
}

// staticLine is one host, or a network none of whose hosts was heard of.
type staticLine struct {
	Global        string `json:"global"`
	Local         string `json:"local"`
	Current       uint32 `json:"current"`
	Limit         uint32 `json:"limit"` // 0 is unlimited
	HalfOpen      uint32 `json:"half_open"`
	HalfOpenLimit uint32 `json:"half_open_limit"` // 0 is unlimited
	Peak          uint32 `json:"peak"`
	Denied        uint64 `json:"denied"`
	Intercepted   uint64 `json:"intercepted"`
	Intercept     bool   `json:"intercept"`
	Full          bool   `json:"full"`
}

// errNoStatic is the answer of a daemon that counts nothing.
var errNoStatic = errors.New("this daemon counts no static mappings: what it logged at its start says why")

// staticTable reports the static mappings.
func (s sources) staticTable(ctx context.Context) (staticTable, error) {
	if s.static == nil {
		return staticTable{}, errNoStatic
	}
	all, err := s.static(ctx)
	if err != nil {
		return staticTable{}, err
	}
	return newStaticTable(all), nil
}

// newStaticTable describes hosts, in their order.
func newStaticTable(r static.Report) staticTable {
	listed := r.Hosts[:min(len(r.Hosts), maxListed)]
	t := staticTable{Omitted: r.Omitted + len(r.Hosts) - len(listed), Hosts: make([]staticLine, 0, len(listed))}
	for _, h := range listed {
		t.Hosts = append(t.Hosts, staticLine{
			Global: hostOrNet(h.Global), Local: hostOrNet(h.Local),
			Current: h.Connections, Limit: h.Limits.Max, HalfOpen: h.HalfOpen, HalfOpenLimit: h.Limits.Embryonic,
			Peak: h.Peak, Denied: h.Denied, Intercepted: h.Intercepted, Intercept: h.Intercept, Full: h.Full,
		})
	}
	return t
}

// hostOrNet is an address without its length, or a network with it.
func hostOrNet(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// newShowStaticCommand returns `smtpwall show static`.
func newShowStaticCommand() *cobra.Command {
	return asking(&cobra.Command{
		Use:   "static",
		Short: "list the static mappings with their connections",
		Long: `Lists the hosts behind static mappings, and what is counted of their connections
on every port, of exempt hosts' too.

  Global          Local           Current/limit  Half-open/limit  Peak  Denied  Intercepted  State
  1.1.1.1         192.168.1.1     50/50          0/100            50    12      0            full
  1.1.1.2         192.168.1.2     104/500        100/100          131   0       48211        intercept
  203.0.113.0/28  192.168.1.0/28  0/unlimited    0/unlimited      0     0       0            -

  Global       the address that clients connect to
  Local        the host's own address; both are the same where it has no other.
               A network is listed until one of its hosts is heard of
  Current      connections, half-open ones included, and how many there may be
  Half-open    connections whose handshake is not complete, and the limit at which
               the host enters intercept
  Peak         the most connections that there ever were
  Denied       SYNs refused: the host, or their client, was at a limit
  Intercepted  SYNs that the kernel answered with a cookie
  State        full: the next connection is refused; intercept: the kernel answers
               SYNs with cookies, because too many connections were half-open

Peak, Denied and Intercepted are since the daemon started, or since the host last
had no limit or no mapping. The limits are those in force: the lower of the map's
comment and of "set connection" in the policy.`,
		Example: `  smtpwall show static
  smtpwall show static --json | jq '.hosts[] | select(.denied > 0)'`,
	}, showStatic, func() shown { return &staticTable{} })
}

// print writes the answer as text or as JSON.
func (t *staticTable) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, t)
	}
	if len(t.Hosts) == 0 {
		_, err := fmt.Fprintln(w, "no static mappings: the maps of static.nft are empty or not loaded")
		return err
	}
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(columns, "Global\tLocal\tCurrent/limit\tHalf-open/limit\tPeak\tDenied\tIntercepted\tState")
	for _, h := range t.Hosts {
		fmt.Fprintf(columns, "%s\t%s\t%d/%s\t%d/%s\t%d\t%d\t%d\t%s\n", h.Global, h.Local,
			h.Current, limit(h.Limit), h.HalfOpen, limit(h.HalfOpenLimit), h.Peak, h.Denied, h.Intercepted, h.state())
	}
	if err := columns.Flush(); err != nil || t.Omitted == 0 {
		return err
	}
	_, err := fmt.Fprintf(w, "%d more are not listed\n", t.Omitted)
	return err
}

// limit is a limit for a reader.
func limit(n uint32) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// state is what happens to SYNs, in a word without a space.
func (h *staticLine) state() string {
	switch {
	case h.Intercept && h.Full:
		return "intercept,full"
	case h.Intercept:
		return "intercept"
	case h.Full:
		return "full"
	}
	return "-"
}
