// Package namespace gives a test a network of its own.
//
// It may be imported by tests.
package namespace

import (
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Enter moves the test into a network namespace of its own whose loopback is up.
// The namespace ends with the test's thread.
func Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread dies with the test
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace: %v: run this test as root or with `unshare -Urn`", err)
	}
	ns.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
}
