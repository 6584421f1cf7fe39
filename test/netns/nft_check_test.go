package netns

import (
	"slices"
	"testing"

	"github.com/smtpwall/smtpwall/pkg/lab"
	"github.com/smtpwall/smtpwall/pkg/nftset"
	"github.com/smtpwall/smtpwall/pkg/static"
)

// What nftset says of the live ruleset, step by step worse.
func TestNFTCheck(t *testing.T) {
	l := newLab(t, lab.Options{})
	kinds := func() (kinds []nftset.Kind) {
		queues, err := l.Queues()
		if err != nil {
			t.Fatal(err)
		}
		var bound []uint16
		for _, q := range queues {
			bound = append(bound, q.ID)
		}
		err = l.Do(lab.Firewall, func() error {
			state, err := nftset.Read(static.Limits{})
			if err != nil {
				return err
			}
			for _, w := range nftset.Check(state, bound) {
				t.Logf("%s: %s", w.Kind, w.Text)
				kinds = append(kinds, w.Kind)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return kinds
	}
	expect := func(what string, want ...nftset.Kind) {
		t.Helper()
		if got := kinds(); !slices.Equal(got, want) {
			t.Errorf("%s: warnings %v, want %v", what, got, want)
		}
	}
	sysctl := func(setting string) {
		if out, err := l.Command(lab.Firewall, "sysctl", "-qw", setting).CombinedOutput(); err != nil {
			t.Fatalf("sysctl %s: %v: %s", setting, err, out)
		}
	}
	expect("nobody bound", nftset.UnboundQueue)
	nft(t, l, "add element inet smtpwall limited6 { 2001:db8::25 }")
	expect("nobody bound, and a host is limited", nftset.UnboundQueue, nftset.UnboundQueue)
	read(t, l, accept)
	expect("bound")
	load(t, l, lab.Options{Open: true})
	expect("open")
	sysctl("net.netfilter.nf_conntrack_checksum=0")
	expect("sysctl", nftset.Sysctl)
	sysctl("net.ipv4.conf.all.rp_filter=0")
	sysctl("net.ipv4.conf.eth1.rp_filter=0")
	expect("rp_filter", nftset.Sysctl, nftset.NoRPFilter)
	load(t, l, lab.Options{})
	expect("sysctls loaded again", nftset.NoRPFilter)
	nft(t, l, "flush chain inet smtpwall divert_syn")
	expect("divert_syn empty", nftset.NotDiverted, nftset.NoRPFilter)
	nft(t, l, "flush chain inet smtpwall forward")
	expect("no jump to mail", nftset.NotDiverted, nftset.NotDiverted, nftset.NoRPFilter)
	nft(t, l, "delete table inet smtpwall")
	expect("no table", nftset.NoTable, nftset.NoRPFilter)
}
