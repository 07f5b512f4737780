package proc

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// BOOT.md has the numbers of the reaper and of a handover.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/BOOT.md", "27").Says(t, fmt.Sprintf("in batches of %d", reapBatch))
	doctest.Open(t, "docs/BOOT.md", "22").Says(t, "at most "+doctest.Time(chargeDeadline), "`"+SecondName+"`")
}
