// The race detector makes calls and takes memory of its own.
//go:build !race

package agent_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/agentd-go/agentd/internal/calls"
	"github.com/agentd-go/agentd/internal/nstest"
)

// scheduling are the calls of the runtime's scheduler and of its signals. Their number
// depends on what else the host does, so they are not held.
var scheduling = []string{
	"epoll_pwait", "futex", "getpid", "madvise", "mmap", "munmap", "nanosleep", "restart_syscall", "rt_sigreturn", "sched_getaffinity", "sched_yield", "tgkill",
}

// countedCalls are the most calls of one operation, without those of the scheduler. A command has
// up to four more where its end comes while its outputs are read.
var countedCalls = map[string]float64{"ping": 3, "stat": 4, "read": 4, "write": 4, "true": 114, "echo": 116}

// TestCalls holds the system calls of the operations that are done most. The fewest of some
// batches count, because a busy host adds some and takes none away.
func TestCalls(t *testing.T) {
	nstest.Run(t, func() {
		nstest.Root(t)
		port, ours := link(t)
		counter, err := calls.Start("/proc/self/exe", []string{countedName}, []string{"GODEBUG="}, []uintptr{0, 1, 2, port.Fd()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = ours.Close()
			_ = counter.Wait()
		})
		_ = port.Close()
		b := newBareHost(t, ours)
		for _, c := range costs(t, b, "/tmp") {
			for range 4 { // Until pools and caches are full.
				b.repeat(c.frames)
			}
			holdCalls(t, c.name, func() map[string]int {
				before := counter.Counts()
				b.repeat(c.frames)
				after := counter.Counts()
				maps.DeleteFunc(after, func(name string, n int) bool { return n == before[name] })
				for name := range after {
					after[name] -= before[name]
				}
				return after
			})
		}
	})
}

// batchSize is how many operations make a batch: few, so that some batches have no heartbeat
// in them, also on a busy host.
const batchSize = 5

// repeat does one batch.
func (b *bareHost) repeat(frames []byte) {
	for range batchSize {
		b.do(frames)
	}
}

// holdCalls takes batches until one is within the bound.
func holdCalls(t *testing.T, name string, batch func() map[string]int) {
	t.Helper()
	least, most := math.Inf(1), countedCalls[name]
	var cheapest map[string]int
	for n := 0; n < batches && least > most; n++ {
		calls := batch()
		fixed := 0
		for call, n := range calls {
			if !slices.Contains(scheduling, call) {
				fixed += n
			}
		}
		if each := float64(fixed) / batchSize; each < least {
			least, cheapest = each, calls
		}
	}
	t.Logf("%s: %.2f calls without the scheduler's: %s", name, least, callList(cheapest))
	if least > most {
		t.Errorf("%s: %.2f calls without the scheduler's, want at most %.2f", name, least, most)
	}
}

// callList lists calls with their number for each operation.
func callList(calls map[string]int) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		words = append(words, fmt.Sprintf("%s %.2f", name, float64(calls[name])/batchSize))
	}
	return strings.Join(words, ", ")
}
