package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/smtpwall/smtpwall/pkg/ctnl"
	"github.com/smtpwall/smtpwall/pkg/daemon"
	"github.com/smtpwall/smtpwall/pkg/nftset"
	"github.com/smtpwall/smtpwall/pkg/policy"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// shippedSYNQueue is the queue of chain divert_syn in the shipped divert.nft.
const shippedSYNQueue = 4

// liveRuleset is what the live ruleset has to do with connection limits. Without
// table inet smtpwall there are no static mappings; that is no error, because the
// operator may divert with rules of their own.
type liveRuleset struct {
	nftset.Writer
	host, client static.Limits // of the policy
}

// Read returns what is to be enforced. What in it is wrong is told by the task
// that watches the ruleset.
func (r *liveRuleset) Read() (static.Config, error) {
	live, err := nftset.ReadStatic()
	if errors.Is(err, nftset.ErrNoTable) {
		return static.Config{}, nil
	}
	if err != nil {
		return static.Config{}, err
	}
	return static.Config{Mappings: live.Mappings, Host: r.host, Client: r.client, Synproxy: live.Synproxy}, nil
}

// Apply brings the daemon's sets to what they are to hold.
func (r *liveRuleset) Apply(want static.Sets) error {
	err := r.Writer.Apply(want)
	if errors.Is(err, nftset.ErrNoTable) {
		return nil
	}
	return err
}

// Cookies returns how many SYNs were answered with a cookie.
func (r *liveRuleset) Cookies() (map[netip.Addr]uint64, error) {
	counts, err := nftset.ReadCookies()
	if errors.Is(err, nftset.ErrNoTable) {
		return nil, nil
	}
	return counts, err
}

// Full returns how many SYNs the kernel dropped because their host was full.
func (r *liveRuleset) Full() (map[netip.Addr]uint64, error) {
	counts, err := nftset.ReadFull()
	if errors.Is(err, nftset.ErrNoTable) {
		return nil, nil
	}
	return counts, err
}

// newLimit says how connections are limited: by the live ruleset and the policy,
// in the queue that chain divert_syn names. It is nil, and the log says why, if
// the policy inspects that queue.
func newLimit(log *logrus.Logger, cfg *policy.Config, ct *ctnl.Conn, audit func(*static.Event)) (*daemon.Limit, error) {
	queue := uint16(shippedSYNQueue)
	live, err := nftset.ReadStatic()
	switch {
	case errors.Is(err, nftset.ErrNoTable):
	case err != nil:
		return nil, err
	case len(live.SYNQueue) > 0:
		queue = live.SYNQueue[0]
	}
	if slices.Contains(cfg.Queues(), queue) {
		log.Errorf("connections are not limited: queue %d of chain divert_syn is one that a class inspects; give the two different numbers in divert.nft and policy.conf", queue)
		return nil, nil
	}
	intercepted, err := nftset.ReadIntercepted()
	if err != nil && !errors.Is(err, nftset.ErrNoTable) {
		return nil, err
	}
	r := &liveRuleset{}
	r.host, r.client = cfg.ConnectionLimits()
	return &daemon.Limit{Queue: queue, Entries: ct, Ruleset: r, Watch: nftset.Watch, Audit: audit, Intercepted: intercepted}, nil
}

// ourQueues are the queues that the daemon binds.
func ourQueues(cfg *policy.Config, limit *daemon.Limit) []uint16 {
	queues := cfg.Queues()
	if limit != nil {
		queues = append(queues, limit.Queue)
	}
	return queues
}

// staticHosts are the hosts of a daemon for `show static`; nil if it limits none.
func staticHosts(d *daemon.Daemon) func(context.Context) (static.Report, error) {
	return func(context.Context) (static.Report, error) {
		s, ok := d.Limits()
		if !ok {
			return static.Report{}, errNoStatic
		}
		return s.Report, nil
	}
}
