package suite

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// The budgets of the guest's binary and of its memory once it serves.
	binaryBudget = 4 << 20
	memoryBudget = 6 << 20
)

func TestBudgets(t *testing.T) {
	ownOnly(t, "the budgets are ours")
	info, err := os.Stat(vmtest.Agent(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("binary: %d KiB", info.Size()>>10)
	if info.Size() > binaryBudget {
		t.Errorf("the binary has %d bytes, want at most %d", info.Size(), binaryBudget)
	}
	eachKernel(t, func(t *testing.T, kernel string) {
		t.Helper()
		g := in(t, vmtest.Start(t, sandbox.Config{Kernel: kernel}))
		status, err := g.say("cat /proc/1/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(status, "VmRSS:")
		var resident int
		if _, err := fmt.Sscanf(rest, "%d kB", &resident); err != nil {
			t.Fatalf("%v in %q", err, status)
		}
		t.Logf("resident after boot: %d KiB", resident)
		if resident<<10 > memoryBudget {
			t.Errorf("%d KiB are resident, want at most %d", resident, memoryBudget>>10)
		}
	})
}
