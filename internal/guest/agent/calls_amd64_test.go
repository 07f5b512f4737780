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
// depends on what else the host does, so only all calls together are held for them.
var scheduling = []string{
	"epoll_pwait", "futex", "getpid", "madvise", "mmap", "munmap", "nanosleep", "rt_sigreturn", "sched_getaffinity", "sched_yield", "tgkill",
}

// countedCalls are the most calls of one operation: without those of the scheduler, and all.
var countedCalls = map[string]struct{ fixed, all float64 }{
	"ping":  {3, 4.1},
	"stat":  {4, 5.5},
	"read":  {4, 5.5},
	"write": {4, 5.5},
	"true":  {118, 130},
	"echo":  {119, 131},
}

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
			b.repeat(c.frames)
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

// batchSize is how many operations make a batch.
const batchSize = 20

// repeat does one batch.
func (b *bareHost) repeat(frames []byte) {
	for range batchSize {
		b.do(frames)
	}
}

// holdCalls takes batches until one is within the bounds.
func holdCalls(t *testing.T, name string, batch func() map[string]int) {
	t.Helper()
	const batches = 40
	least := struct{ fixed, all float64 }{math.Inf(1), math.Inf(1)}
	most := countedCalls[name]
	var cheapest map[string]int
	for n := 0; n < batches && (least.fixed > most.fixed || least.all > most.all); n++ {
		calls := batch()
		fixed, all := 0, 0
		for call, n := range calls {
			if all += n; !slices.Contains(scheduling, call) {
				fixed += n
			}
		}
		least.fixed = min(least.fixed, float64(fixed)/batchSize)
		if a := float64(all) / batchSize; a < least.all {
			least.all, cheapest = a, calls
		}
	}
	t.Logf("%s: %.2f calls, %.2f with the scheduler's: %s", name, least.fixed, least.all, callList(cheapest))
	if least.fixed > most.fixed || least.all > most.all {
		t.Errorf("%s: %.2f calls, with the scheduler's %.2f; want at most %.2f and %.2f", name, least.fixed, least.all, most.fixed, most.all)
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
