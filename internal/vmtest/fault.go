package vmtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// FaultyAgent returns the path of an agent of which one system call fails: the
// agent under test, unchanged, behind a first process that has the kernel say no
// (package fault). The word AGENTD_FAULT=openat2:3 on the kernel command line says
// which call it is.
func FaultyAgent(t *testing.T) string {
	t.Helper()
	path, err := faultyAgent()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var faultyAgent = sync.OnceValues(func() (string, error) {
	inner, err := agent()
	if err != nil {
		return "", err
	}
	path := filepath.Join(os.TempDir(), "faulty")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", path, "github.com/agentd-go/agentd/internal/fault/init")
	cmd.Env = GoEnvironment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the first process: %w\n%s", err, out)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(inner)
	if err != nil {
		return "", err
	}
	whole := binary.BigEndian.AppendUint64(append(first, b...), uint64(len(b)))
	const executable = 0o755
	return path, os.WriteFile(path, whole, executable)
})
