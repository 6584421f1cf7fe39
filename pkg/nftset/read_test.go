package nftset

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// u16s is the info of an xtables target: numbers in the machine's byte order.
func u16s(numbers ...uint16) *xt.Unknown {
	var b xt.Unknown
	for _, n := range numbers {
		b = append(b, binaryutil.NativeEndian.PutUint16(n)...)
	}
	return &b
}

func TestChainAdd(t *testing.T) {
	queues := func(first, last uint16) Chain { return Chain{Queues: []Queues{{First: first, Last: last}}} }
	unknown := Chain{Queues: []Queues{{Unknown: true}}}
	for _, c := range []struct {
		name  string
		exprs []expr.Any
		want  Chain
	}{
		{"queue num 4", []expr.Any{&expr.Queue{Num: 4, Total: 1}}, queues(4, 4)},
		{"queue num 8-11 with counter", []expr.Any{&expr.Counter{}, &expr.Queue{Num: 8, Total: 4}}, queues(8, 11)},
		{"queue to symhash mod 4", []expr.Any{&expr.Hash{Modulus: 4}, &expr.Queue{}}, queues(0, 3)},
		{"queue to symhash mod 2 offset 8", []expr.Any{&expr.Hash{Modulus: 2, Offset: 8}, &expr.Queue{}}, queues(8, 9)},
		{"queue to symhash mod 65536", []expr.Any{&expr.Hash{Modulus: 65536}, &expr.Queue{}}, queues(0, 65535)},
		{"symhash beyond the last queue", []expr.Any{&expr.Hash{Modulus: 2, Offset: 65535}, &expr.Queue{}}, unknown},
		{"queue to numgen", []expr.Any{&expr.Numgen{Modulus: 4}, &expr.Queue{}}, unknown},
		{"NFQUEUE revision 3", []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: u16s(0, 4, 1, 0)}}, queues(0, 3)},
		{"NFQUEUE revision 0", []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 0, Info: u16s(7, 0)}}, queues(7, 7)},
		{"NFQUEUE cut short", []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: u16s(7)}}, unknown},
		{"another target", []expr.Any{&expr.Target{Name: "LOG", Rev: 0, Info: u16s(7, 7)}}, Chain{}},
		{"jump and goto", []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "a"}, &expr.Verdict{Kind: expr.VerdictGoto, Chain: "b"}}, Chain{Jumps: []string{"a", "b"}}},
		{"synproxy", []expr.Any{&expr.Ct{}, &expr.SynProxy{}}, Chain{Synproxy: true}},
		{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}, Chain{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got Chain
			got.add(c.exprs)
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("want (-), got (+):\n%s", d)
			}
		})
	}
}
