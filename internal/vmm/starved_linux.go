package vmm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Starved returns how long the machine's processors have waited for a processor of the
// host since its start: the longest wait of a QEMU thread (the second number of
// schedstat, Documentation/scheduler/sched-stats.rst). It is 0 if the host does not
// count.
func (v *VM) Starved() (longest time.Duration) {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(v.Pid()), "task", "*", "schedstat"))
	if err != nil {
		return 0
	}
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // The thread has ended.
		}
		var ran, waited int64
		if n, _ := fmt.Sscan(string(b), &ran, &waited); n > 1 {
			longest = max(longest, time.Duration(waited))
		}
	}
	return longest
}
