package sandbox

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// The documents have the times and numbers of a machine.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/PROTOCOL.md", "5.3").Says(t,
		fmt.Sprintf("has not ended %s later (%s in software emulation)", doctest.Time(shutdownDeadline), doctest.Time(slowShutdownDeadline)),
		fmt.Sprintf("every %s, and when the host's wall clock and its monotonic clock have moved differently by %s or more, compared every %s",
			doctest.Time(clockPeriod), doctest.Time(clockJump), doctest.Time(clockCheck)))
	doctest.Open(t, "docs/SNAPSHOTS.md", "").Says(t,
		"`"+hookDir+"`", fmt.Sprintf("at most %s each", doctest.Time(hookTime)),
		fmt.Sprintf("within %s of having a processor", doctest.Time(firstWord)),
		fmt.Sprintf("an ext4 disk of %d GiB", DefaultUpperMiB>>10))
}
