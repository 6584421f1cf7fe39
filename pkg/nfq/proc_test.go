package nfq

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStatus(t *testing.T) {
	tests := []struct {
		name, text string
		want       []Status
		err        string
	}{
		{name: "no queue", text: ""},
		{
			name: "two queues, one overloaded",
			text: "    0   4242     0 2 65531     0     0        7  1\n" +
				"    3 4294963202  8192 2 65531   981 70000 4294967295  1\n",
			want: []Status{
				{Number: 0, PortID: 4242, CopyMode: 2, CopyRange: 65531, LastID: 7},
				{Number: 3, PortID: 4294963202, Waiting: 8192, CopyMode: 2, CopyRange: 65531, Dropped: 981, UserDropped: 70000, LastID: 4294967295},
			},
		},
		{
			name: "a column more",
			text: "65535 1 0 1 0 0 0 0 1 99\n",
			want: []Status{{Number: 65535, PortID: 1, CopyMode: 1}},
		},
		{name: "short line", text: "0 1 2\n", err: "line 1 \"0 1 2\": 3 columns, want at least 8"},
		{name: "not a number", text: "0 1 0 2 65531 0 0 7 1\n0 x 0 2 65531 0 0 7 1\n", err: "line 2 \"0 x 0 2 65531 0 0 7 1\": column 2"},
		{name: "queue out of range", text: "65536 1 0 2 65531 0 0 7 1\n", err: "column 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseStatus(tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestGap(t *testing.T) {
	tests := []struct {
		name             string
		last             uint32
		suspect          bool
		id, most         uint32
		missing, waiting uint32
	}{
		{"next", 6, false, 7, 100, 0, 0},
		{"next after a sign of nothing", 6, true, 7, 100, 0, 0},
		{"lost by the kernel", 6, false, 10, 100, 3, 0},
		{"not understood", 6, true, 8, 100, 1, 1},
		{"first packet of a queue", 0, true, 1, 100, 0, 0},
		{"taken by the filter at the start", 0, true, 41, 100, 40, 40},
		{"more than can wait", 0, true, 1000, 100, 999, 100},
		{"numbers wrap", 1<<32 - 2, true, 1, 100, 2, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gap{last: tt.last, suspect: tt.suspect}
			missing, waiting := g.next(tt.id, tt.most)
			if missing != tt.missing || waiting != tt.waiting {
				t.Errorf("missing %d, waiting %d; want %d, %d", missing, waiting, tt.missing, tt.waiting)
			}
			if (g != gap{last: tt.id}) {
				t.Errorf("afterwards %+v", g)
			}
		})
	}
}
