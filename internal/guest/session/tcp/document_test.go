package tcp

import (
	"testing"

	"github.com/agentd-go/agentd/internal/doctest"
)

// PROTOCOL.md has the bounds of connections.
func TestDocumentBounds(t *testing.T) {
	t.Parallel()
	doctest.Open(t, "docs/PROTOCOL.md", "10").Says(t, doctest.Time(connectDeadline)+" for resolving and connecting")
	doctest.Open(t, "docs/PROTOCOL.md", "12.2").Says(t, "min(offer, "+doctest.Size(maxRecord)+")")
}
