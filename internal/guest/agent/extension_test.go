package agent_test

import (
	"slices"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/agent"
	"github.com/agentd-go/agentd/wire"
)

// core.ready has the names of the extensions, sorted, each once.
func TestReadyAnnouncesExtensions(t *testing.T) {
	port, ours := link(t)
	h := attach(t, ours)
	h.serve(agent.Open(port), port, config{})
	ready, ok := h.next(0).Message.(*wire.Ready)
	if !ok {
		t.Fatal("the first frame is not core.ready")
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(ready.Extensions)))
	if !slices.Equal(sorted, ready.Extensions) || len(sorted) > wire.MaxExtensions {
		t.Errorf("extensions %q", ready.Extensions)
	}
}
