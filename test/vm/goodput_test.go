//go:build goodput

package vm

import (
	"testing"
	"time"
)

// TestGoodput compares inspected mail with mail of an exempt host on a link that
// loses, reorders and delays. It is no part of `make test`, because it takes a
// quarter of an hour: `make goodput`.
func TestGoodput(t *testing.T) {
	boot(t, 55*time.Minute, suite{dir: "test/vm", tags: "guest", run: "^TestLink", timeout: 50 * time.Minute})
}
