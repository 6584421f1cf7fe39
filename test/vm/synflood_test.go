//go:build synflood

package vm

import (
	"testing"
	"time"
)

// TestSYNFlood sends mail during a minute of SYN flood, with and without intercept.
// It is no part of `make test`, because it takes some minutes: `make synflood`.
func TestSYNFlood(t *testing.T) {
	boot(t, 24*time.Minute, suite{dir: "test/netns", tags: "synflood", run: "^TestLimitFlood", timeout: 22 * time.Minute, flags: "-synflood=60s"})
}
