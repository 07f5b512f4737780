package suite

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/vmtest"
	"github.com/agentd-go/agentd/sandbox"
)

const (
	// The budgets of the guest's binary and of its memory once it serves.
	binaryBudget = 49 * (1 << 20) / 10 // 4.9 MiB.
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
		least := math.MaxInt
		for try := 0; try < 3 && least > memoryBudget; try++ { // What a boot does at the same time may add to it.
			resident, err := in(t, vmtest.Start(t, sandbox.Config{Kernel: kernel})).resident()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("resident after boot: %d KiB", resident>>10)
			least = min(least, resident)
		}
		if least > memoryBudget {
			t.Errorf("%d KiB are resident, want at most %d", least>>10, memoryBudget>>10)
		}
	})
}

// resident is what the first process has in memory, in bytes: the sum over its mappings,
// because each thread holds back up to 64 pages from VmRSS on Linux 6.1.
func (g *guest) resident() (int, error) {
	rollup, err := g.say("cat /proc/1/smaps_rollup")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(rollup, "\nRss:")
	var kib int
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("%w in %q", err, rollup)
	}
	return kib << 10, nil
}
