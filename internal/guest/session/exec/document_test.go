package exec

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// PROTOCOL.md has the bounds of commands.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	for section, sentences := range map[string][]string{
		"8.1":  {fmt.Sprintf("requests of more than %s whose commands have not started hold %s", doctest.Size(longRequest), doctest.Size(maxWaiting))},
		"8.6":  {fmt.Sprintf("until nothing has come for %s, or %s after the end", doctest.Time(tailSilence), doctest.Time(tailMost)), fmt.Sprintf("for up to %d outputs", maxLeft)},
		"8.11": {fmt.Sprintf("%d at most", maxDisks)},
		"8.12": {
			doctest.Size(usualKeptMemory) + " | bytes of each output in memory", doctest.Size(usualKeptDisk) + " | bytes of each output that follow",
			fmt.Sprintf("%d kept commands run; of all together %s of output are in memory", maxKeptRunning, doctest.Size(keptMemory)),
			doctest.Size(keptDisk) + " on disk", fmt.Sprintf("`args` (%s of them)", doctest.Size(keptArgs)),
			fmt.Sprintf("or %d others have ended later", maxKeptEnded), "comes after every " + doctest.Size(ackEvery),
		},
	} {
		doctest.Open(t, "docs/PROTOCOL.md", section).Says(t, sentences...)
	}
	doctest.Open(t, "docs/AGENTCTL.md", "Machines that stay").Says(t,
		fmt.Sprintf("the last %s of each stream on the machine's disk and %s in memory", doctest.Size(usualKeptDisk), doctest.Size(usualKeptMemory)),
		fmt.Sprintf("or when %d others have ended", maxKeptEnded))
	doctest.Open(t, "ARCHITECTURE.md", "What never happens").Says(t,
		fmt.Sprintf("Requests of more than %s whose commands have not started: %s", doctest.Size(longRequest), doctest.Size(maxWaiting)),
		fmt.Sprintf("Kept commands: %d that run, %d that have ended; their output: %s", maxKeptRunning, maxKeptEnded, doctest.Size(keptMemory)),
	)
}
