package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// buildProgram makes a static program of a package of ours in the directory for
// temporary files.
func buildProgram(name, pkg string) (string, error) { return buildFor(architecture(), name, pkg) }

func buildFor(architecture, name, pkg string) (string, error) {
	path := filepath.Join(os.TempDir(), name)
	cmd := exec.CommandContext(context.Background(),
		"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "github.com/agentd-go/agentd/"+pkg)
	cmd.Env = environment(architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

var server = sync.OnceValues(func() (string, error) { return buildProgram("server", "internal/contract/testdata/server") })

// ServerRoot is [Root] with the program that serves the contract's connections:
// the command "server", which says "ready" once it does.
func ServerRoot(t *testing.T) string {
	t.Helper()
	dir := Root(t)
	path, err := server()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err == nil {
		const executable = 0o755
		to := filepath.Join(dir, "bin", "server")
		err = os.WriteFile(to, b, executable) //nolint:gosec // A directory of the test.
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
