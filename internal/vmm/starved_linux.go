package vmm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Starved returns for how long the machine's processors have waited for one of the
// host's, since its start: the longest that one of QEMU's threads has (the second
// number of schedstat, Documentation/scheduler/sched-stats.rst). It is 0 where the host
// does not count.
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
