package client

import (
	"testing"

	"github.com/agentd-go/agentd/wire/frame"
)

// Whoever has heard the end of its id after somebody else took it leaves it to
// them.
func TestRemoveIsForTheOwner(t *testing.T) {
	table := newTable(IDs{Start: 1, End: 2})
	take := func(r receiver) {
		t.Helper()
		if err := table.add(func(uint32) receiver { return r }); err != nil {
			t.Fatal(err)
		}
	}
	first, second := new(answer), new(answer)
	take(first)
	if got := table.find(frame.Frame{ID: 1, Flags: frame.Terminal}); got != first {
		t.Fatalf("found %v", got)
	}
	take(second)
	table.remove(1, first)
	if got := table.find(frame.Frame{ID: 1}); got != second {
		t.Errorf("found %v after its predecessor's remove", got)
	}
	table.remove(1, second)
	if got := table.find(frame.Frame{ID: 1}); got != nil {
		t.Errorf("found %v after its remove", got)
	}
}
