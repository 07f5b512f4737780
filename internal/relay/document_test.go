package relay

import (
	"fmt"
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

// PROTOCOL.md and ARCHITECTURE.md have the bounds of a relay.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	memory, all := doctest.Size(frame.MaxLength), doctest.Size(allMemory/clientMemory*frame.MaxLength)
	doctest.Open(t, "docs/PROTOCOL.md", "5.3").Says(t,
		fmt.Sprintf("| client %d |", frame.Slots+1), doctest.Time(entryWait)+" at most",
		doctest.Size(mux.DefaultOutbox)+" and a frame for each client", doctest.Size(mux.Quantum)+" each",
		fmt.Sprintf("while more than %s waits for it, or %s and one write to it has lasted %s; they go on below %s",
			doctest.Size(slowAbove), doctest.Size(stuckAbove), doctest.Time(stuckAfter), doctest.Size(quickBelow)),
		fmt.Sprintf("%s in memory (%s for all), then %s in an unlinked file (%s for all)", memory, all, doctest.Size(clientStored), doctest.Size(allStored)),
		fmt.Sprintf("mode %#o; at most %d bytes of path", socketMode, maxPath),
		"or "+doctest.Time(killGrace), doctest.Time(settleTime)+": stale",
	)
	doctest.Open(t, "ARCHITECTURE.md", "What never happens").Says(t,
		fmt.Sprintf("in memory (%s, %s for all clients), then on disk (%s, %s for all)", memory, all, doctest.Size(clientStored), doctest.Size(allStored)))
}
