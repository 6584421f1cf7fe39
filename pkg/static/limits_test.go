package static

import (
	"strings"
	"testing"
)

func TestParseComment(t *testing.T) {
	for _, tt := range []struct {
		comment string
		want    Limits
		err     string // a part of it; "" for none
	}{
		{"", Limits{}, ""},
		{" \t ", Limits{}, ""},
		{"tcp 50 100", Limits{50, 100}, ""},
		{"50 100", Limits{50, 100}, ""}, // a PIX takes the word for granted
		{"tcp 50", Limits{50, 0}, ""},
		{"50", Limits{50, 0}, ""},
		{"tcp 0 100", Limits{0, 100}, ""},
		{"tcp 0 0", Limits{}, ""},
		{"  tcp\t50   100 ", Limits{50, 100}, ""},
		{"tcp 007 1", Limits{7, 1}, ""},
		{"tcp 2000000 2000000", Limits{2000000, 2000000}, ""},

		{"tcp 2000001", Limits{}, "2000001: more than 2000000"},
		{"tcp 50 2000001", Limits{}, "2000001: more than 2000000"},
		{"tcp 4294967297", Limits{}, "4294967297: more than 2000000"}, // 1 in 32 bits
		{"tcp 1 18446744073709551617", Limits{}, "18446744073709551617: more than"},
		{"tcp", Limits{}, "two numbers"},
		{"tcp tcp 1", Limits{}, "two numbers"},
		{"TCP 1 2", Limits{}, "two numbers"},
		{"tcp -1", Limits{}, "two numbers"},
		{"tcp 50 -1", Limits{}, "two numbers"},
		{"tcp +1", Limits{}, "two numbers"},
		{"tcp 5e1", Limits{}, "two numbers"},
		{"tcp 0x10", Limits{}, "two numbers"},
		{"tcp 1_000", Limits{}, "two numbers"},
		{"tcp 1.5", Limits{}, "two numbers"},
		{"tcp 50/100", Limits{}, "two numbers"},
		{"tcp 50 100 150", Limits{}, "two numbers"},
		{"tcp 50 100 udp 10", Limits{}, "two numbers"},
		{"tcp 50 100 # the gateway", Limits{}, "two numbers"},
		{"the mail gateway", Limits{}, "two numbers"},
		{"50 100 tcp", Limits{}, "two numbers"},
		{"udp 50", Limits{}, "two numbers"},
	} {
		got, err := ParseComment(tt.comment)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: %v, %v, want %v, an error with %q", tt.comment, got, err, tt.want, tt.err)
		}
	}
}

// What is printed is read again as the same.
func TestLimitsString(t *testing.T) {
	for want, l := range map[string]Limits{"tcp 50 100": {50, 100}, "tcp 0 0": {}, "tcp 2000000 1": {2000000, 1}} {
		back, err := ParseComment(l.String())
		if l.String() != want || back != l || err != nil {
			t.Errorf("%q, read back as %v, %v, want %q", l.String(), back, err, want)
		}
	}
}

func TestLowerOfTwoLimits(t *testing.T) {
	for _, tt := range []struct{ a, b, want Limits }{
		{Limits{}, Limits{}, Limits{}},
		{Limits{50, 100}, Limits{}, Limits{50, 100}}, // 0 is no limit, not the lowest one
		{Limits{50, 100}, Limits{40, 200}, Limits{40, 100}},
		{Limits{50, 0}, Limits{0, 100}, Limits{50, 100}},
		{Limits{50, 100}, Limits{50, 100}, Limits{50, 100}},
		{Limits{1, 2000000}, Limits{2000000, 1}, Limits{1, 1}},
	} {
		if ab, ba := tt.a.Lower(tt.b), tt.b.Lower(tt.a); ab != tt.want || ba != tt.want {
			t.Errorf("%v and %v: %v, and the other way %v, want %v", tt.a, tt.b, ab, ba, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	const cookies, none, unknown, isProven = true, false, false, true
	for _, tt := range []struct {
		limits   Limits
		synproxy bool
		proven   bool   // the client of the SYN
		counts   counts // open, half-open, of them proven
		want     verdict
	}{
		// No limits.
		{Limits{}, none, unknown, counts{9, 9, 0}, admit},
		{Limits{}, none, isProven, counts{9, 9, 9}, admit},
		{Limits{}, cookies, unknown, counts{9, 9, 0}, admit},
		{Limits{}, cookies, isProven, counts{9, 9, 9}, admit},

		// A total limit only: every connection holds a place, whoever answers SYNs.
		{Limits{2, 0}, none, unknown, counts{0, 0, 0}, admit},
		{Limits{2, 0}, none, unknown, counts{1, 0, 0}, admit},
		{Limits{2, 0}, none, unknown, counts{2, 0, 0}, refuse},
		{Limits{2, 0}, none, unknown, counts{1, 1, 0}, refuse},
		{Limits{2, 0}, none, unknown, counts{0, 2, 0}, refuse},
		{Limits{2, 0}, none, isProven, counts{0, 2, 0}, refuse},
		{Limits{2, 0}, none, unknown, counts{3, 0, 0}, refuse}, // the limit was lowered
		{Limits{2, 0}, cookies, unknown, counts{0, 1, 0}, admit},
		{Limits{2, 0}, cookies, unknown, counts{0, 2, 0}, refuse},
		{Limits{2, 0}, cookies, unknown, counts{1, 1, 0}, refuse},
		{Limits{2, 0}, cookies, isProven, counts{0, 2, 0}, refuse},

		// An embryonic limit only.
		{Limits{0, 2}, none, unknown, counts{9, 1, 0}, admit},
		{Limits{0, 2}, none, unknown, counts{0, 2, 0}, refuseHalf},
		{Limits{0, 2}, none, unknown, counts{0, 3, 1}, refuseHalf},
		{Limits{0, 2}, none, unknown, counts{0, 3, 2}, admit}, // proven ones are no flood
		{Limits{0, 2}, none, isProven, counts{0, 2, 0}, admit},
		{Limits{0, 2}, cookies, unknown, counts{9, 1, 0}, admit},
		{Limits{0, 2}, cookies, unknown, counts{0, 2, 0}, proxy},
		{Limits{0, 2}, cookies, unknown, counts{0, 3, 1}, proxy},
		{Limits{0, 2}, cookies, unknown, counts{0, 3, 2}, admit},
		{Limits{0, 2}, cookies, isProven, counts{0, 9, 0}, admit},

		// Both, the total one lower, as in `tcp 50 100`. Without cookies it is strict.
		{Limits{2, 3}, none, unknown, counts{0, 1, 0}, admit},
		{Limits{2, 3}, none, unknown, counts{0, 2, 0}, refuse},
		{Limits{2, 3}, none, unknown, counts{1, 1, 0}, refuse},
		{Limits{2, 3}, none, isProven, counts{1, 1, 0}, refuse},
		{Limits{2, 3}, cookies, unknown, counts{1, 0, 0}, admit},
		{Limits{2, 3}, cookies, unknown, counts{0, 1, 0}, admit},
		{Limits{2, 3}, cookies, unknown, counts{0, 2, 0}, proxy}, // half-open ones refuse nobody
		{Limits{2, 3}, cookies, unknown, counts{1, 1, 0}, proxy},
		{Limits{2, 3}, cookies, isProven, counts{0, 2, 0}, admit},
		{Limits{2, 3}, cookies, isProven, counts{1, 1, 0}, admit},
		{Limits{2, 3}, cookies, isProven, counts{1, 9, 0}, admit},
		{Limits{2, 3}, cookies, unknown, counts{2, 0, 0}, refuse},
		{Limits{2, 3}, cookies, isProven, counts{2, 0, 0}, refuse},
		{Limits{2, 3}, cookies, unknown, counts{1, 1, 1}, refuse}, // proven ones do
		{Limits{2, 3}, cookies, isProven, counts{1, 1, 1}, refuse},
		{Limits{2, 3}, cookies, isProven, counts{0, 2, 2}, refuse},
		{Limits{2, 3}, cookies, isProven, counts{0, 2, 1}, admit},

		// Both, the embryonic one lower.
		{Limits{4, 2}, none, unknown, counts{2, 1, 0}, admit},
		{Limits{4, 2}, none, unknown, counts{0, 2, 0}, refuseHalf},
		{Limits{4, 2}, none, unknown, counts{2, 2, 0}, refuse}, // the worse of the two
		{Limits{4, 2}, none, isProven, counts{1, 2, 0}, admit},
		{Limits{4, 2}, cookies, unknown, counts{2, 1, 0}, admit},
		{Limits{4, 2}, cookies, unknown, counts{0, 2, 0}, proxy},
		{Limits{4, 2}, cookies, unknown, counts{3, 1, 0}, proxy},
		{Limits{4, 2}, cookies, isProven, counts{3, 1, 0}, admit},
		{Limits{4, 2}, cookies, isProven, counts{3, 1, 1}, refuse},
		{Limits{4, 2}, cookies, unknown, counts{4, 0, 0}, refuse},
		{Limits{4, 2}, cookies, unknown, counts{4, 2, 0}, refuse},
	} {
		if got := tt.limits.judge(&tt.counts, tt.synproxy && tt.limits.Embryonic > 0, tt.proven); got != tt.want {
			t.Errorf("%v, synproxy %v, proven %v, %+v: verdict %d, want %d", tt.limits, tt.synproxy, tt.proven, tt.counts, got, tt.want)
		}
	}
}
