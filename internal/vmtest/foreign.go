package vmtest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// foreignVersion is the published package whose client is used, whatever the
// agent under test: the newest that the tests know.
const foreignVersion = "0.6.14"

// ForeignClient returns the words that run a script for node with the native
// client of a published package as its first argument. Where node is not there, or
// cannot load the module (it needs glibc 2.28), the test is skipped with the reason.
func ForeignClient(t *testing.T, script string) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("no client of the published package can run here: %v", err)
	}
	r, err := release(foreignVersion)
	if err != nil {
		t.Fatal(err)
	}
	native := filepath.Join(filepath.Dir(r.Program), "..", "microsandbox.linux-x64-gnu.node")
	if out, err := exec.CommandContext(t.Context(), node, "-e", "require(process.argv[1])", native).CombinedOutput(); err != nil {
		t.Skipf("no client of the published package can run here: %v\n%s", err, out)
	}
	return []string{node, script, native}
}

// CommandLine returns the host program of a published package, for a test that has it work
// on a machine of ours.
func CommandLine(t *testing.T, version string) string {
	t.Helper()
	r, err := release(version)
	if err != nil {
		t.Fatal(err)
	}
	return r.Program
}
