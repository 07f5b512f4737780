package vmtest

import (
	"testing"

	"github.com/agentd-go/agentd/internal/image"
)

// Root returns a directory with a small root, for a machine to share and the
// test to look into afterwards.
func Root(t *testing.T) string {
	t.Helper()
	Require(t)
	cache, err := image.Open("")
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := cache.FindBusybox(architecture())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := image.BusyboxRoot(dir, busybox); err != nil {
		t.Fatal(err)
	}
	return dir
}
