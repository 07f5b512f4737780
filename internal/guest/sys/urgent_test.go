package sys_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/nstest"
)

func TestUrgent(t *testing.T) {
	nstest.Run(t, func() {
		if err := sys.Urgent(); errors.Is(err, syscall.EPERM) {
			t.Skip("a higher priority is refused here")
		} else if err != nil {
			t.Fatal(err)
		}
		const nice, ordinary, urgent = 18, "0", "-20" // proc_pid_stat(5), after the name.
		field := func(stat string) string {
			return strings.Fields(stat[strings.LastIndex(stat, ")"):])[nice-1]
		}
		ours, err := os.ReadFile("/proc/self/stat")
		if err != nil || field(string(ours)) != urgent {
			t.Errorf("our nice value is in %s, %v", ours, err)
		}
		child, err := exec.CommandContext(t.Context(), "cat", "/proc/self/stat").Output()
		if err != nil || field(string(child)) != ordinary {
			t.Errorf("the child's nice value is in %s, %v", child, err)
		}
	})
}

// One thread may sleep longer, and no child does.
func TestRestWatcher(t *testing.T) {
	nstest.Run(t, func() {
		if err := sys.RestWatcher(sys.CommandSlack); err != nil {
			t.Fatal(err)
		}
		slack := func(tid string) string {
			b, err := os.ReadFile("/proc/" + tid + "/timerslack_ns")
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(b))
		}
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		resting := 0
		for _, task := range tasks {
			if slack(task.Name()) == "1000000" {
				resting++
			}
		}
		if resting != 1 || slack("self") == "1000000" {
			t.Errorf("%d of %d threads rest", resting, len(tasks))
		}
		child, err := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns").Output()
		if err != nil || strings.TrimSpace(string(child)) == "1000000" {
			t.Errorf("a child may be late by %s ns, %v", child, err)
		}
	})
}
