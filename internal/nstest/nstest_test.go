package nstest_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/nstest"
)

// What Run and Root promise: PID 1, a root of its own, and no power over the
// clock of the machine that the tests run on.
func TestRun(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		if os.Getpid() != 1 {
			t.Errorf("process id %d, want 1", os.Getpid())
		}
		for _, name := range []string{"/usr/bin", "/boot", "/dev/kmsg"} {
			if _, err := os.Lstat(name); err == nil {
				t.Errorf("%s of the host is in reach", name)
			}
		}
		maps, err := os.ReadFile("/proc/self/uid_map")
		if err != nil {
			t.Fatal(err)
		}
		const sysTime = 25 // CAP_SYS_TIME, capabilities(7).
		whole := strings.Contains(string(maps), "4294967295")
		if caps := effective(t); whole && caps&(1<<sysTime) != 0 {
			t.Errorf("effective capabilities %#x hold CAP_SYS_TIME", caps)
		}
	})
}

func effective(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "CapEff:\t")
	hex, _, _ := strings.Cut(after, "\n")
	caps, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return caps
}
