package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

// Machines live at once, each does what it is told, and all are gone at the end:
// twenty with AGENTD_LONG=1.
func TestMachinesAtOnce(t *testing.T) {
	vmtest.Require(t)
	t.Setenv(sandbox.AgentVariable, vmtest.Agent(t))
	n := 3
	if os.Getenv("AGENTD_LONG") == "1" {
		n = 20
	}
	p := newScene(t)
	atOnce(t, n, "run -d --name m%d")
	for i, said := range atOnce(t, n, "exec m%d hostname") {
		if want := fmt.Sprintf("m%d\n", i); said != want {
			t.Errorf("machine %d says %q, want %q", i, said, want)
		}
	}
	if got := strings.Fields(p.agentctl(t, "ps -q")); len(got) != n {
		t.Errorf("ps shows %q, want %d machines", got, n)
	}
	atOnce(t, n, "rm -f m%d")
	p.empty(t)
}

// atOnce runs a command for each of n machines, and returns what they have printed.
func atOnce(t *testing.T, n int, command string) []string {
	t.Helper()
	said := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			args := strings.Fields(fmt.Sprintf(command, i))
			out, err := exec.Command("agentctl", args...).Output()
			if err != nil {
				t.Errorf("agentctl %v: %v", args, err)
			}
			said[i] = string(out)
		})
	}
	all.Wait()
	return said
}
