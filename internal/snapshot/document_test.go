package snapshot

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/internal/vmm"
)

// SNAPSHOTS.md has the bounds of templates and the names of files.
func TestDocumentNumbers(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/SNAPSHOTS.md", "").Says(t,
		fmt.Sprintf("At most %d templates and %s are kept", mostTemplates, doctest.Size(mostBytes)),
		fmt.Sprintf("less than %s free", doctest.Size(leastRoom)),
		"an upper of more than "+doctest.Size(vmm.PlaceholderBytes),
		fmt.Sprintf("the same frequency (%v %%)", 100./tscTolerance),
		"`"+manifestName+"`", "`"+stateName+"`", "`"+memoryName+"`")
}
