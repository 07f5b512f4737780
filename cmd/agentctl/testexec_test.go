package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// The tests of a package pass in a machine, and see its directory there.
func TestTestExec(t *testing.T) {
	vmtest.Require(t)
	cmd := exec.Command("go", "test", "-count=1", "-exec", "agentctl testexec", "../../internal/transfer", "-run", "TestTree", "-v")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", sandbox.AgentVariable+"="+vmtest.Agent(t), "AGENTCTL_STATE="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestTree") {
		t.Errorf("%v\n%s", err, out)
	}
}
