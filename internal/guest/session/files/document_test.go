package files

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// PROTOCOL.md and ARCHITECTURE.md have the bounds of operations on files.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"9":   {fmt.Sprintf("At most %d operations are in the kernel at once, %d of one client; a request waits %s", maxCalls, maxClientCalls, doctest.Time(callDeadline))},
		"9.2": {fmt.Sprintf("next entries, %d by default", defaultPage)},
		"9.7": {fmt.Sprintf("%d for each slot", maxHandles)},
		"9.8": {fmt.Sprintf("one place of the %d", maxCalls)},
	} {
		doctest.Open(t, "docs/PROTOCOL.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "ARCHITECTURE.md", "What never happens").Says(t,
		fmt.Sprintf("At most %d of one client and %d of all are in the kernel at once; one that waits longer than %s", maxClientCalls, maxCalls, doctest.Time(callDeadline)),
		fmt.Sprintf("Answers of more than %s (listings): %d at a time", doctest.Size((smallAnswer+1023)/1024*1024), maxLarge),
		fmt.Sprintf("Handles: %s for each client", doctest.Count(maxHandles)),
	)
}
