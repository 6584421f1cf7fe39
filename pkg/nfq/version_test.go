package nfq

import (
	"os"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

// TestNetlinkVersion fails on the releases of mdlayher/netlink that go-nfqueue
// cannot live on: v1.10.0 to v1.11.0 refuse messages of odd length, v1.11.1
// blocks a verdict while the reader waits. TestOddLengths shows it on a kernel.
func TestNetlinkVersion(t *testing.T) {
	const path = "../../go.mod"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse(path, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range mod.Require {
		if r.Mod.Path != "github.com/mdlayher/netlink" {
			continue
		}
		found = true
		if v := r.Mod.Version; semver.Compare(v, "v1.10.0-0") >= 0 && semver.Compare(v, "v1.11.2") < 0 {
			t.Errorf("%s has %s, which breaks go-nfqueue: take v1.11.2 or v1.9.0", path, r.Mod)
		}
	}
	if !found {
		t.Errorf("%s does not name github.com/mdlayher/netlink", path)
	}
}
