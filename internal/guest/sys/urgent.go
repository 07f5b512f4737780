package sys

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Urgent gives every thread of this process the largest share of a processor (nice -20,
// sched(7)): among thousands of busy processes a fair scheduler would run it every few
// seconds only. It does not preempt the running thread (SCHED_BATCH): otherwise each line
// of a command would wake it and be sent alone, at the price of two switches. Threads and
// processes started later are ordinary, so call it when all threads exist.
func Urgent() error {
	all, err := threads()
	if err != nil {
		return err
	}
	var errs []error
	for _, tid := range all {
		attr := &unix.SchedAttr{
			Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: -20,
		}
		err = unix.SchedSetAttr(tid, attr, 0)
		if err != nil && !errors.Is(err, syscall.ESRCH) { // A thread that has ended.
			errs = append(errs, os.NewSyscallError("sched_setattr", err))
		}
	}
	return errors.Join(errs...)
}

// How late the runtime's monitor thread may wake. It wakes every 20 us while anything
// runs. It also takes a processor back from a system call after 10 ms, which happens so
// much later then. During a boot nothing else needs the processor.
const (
	BootSlack    = 10 * time.Millisecond
	CommandSlack = time.Millisecond
)

// RestWatcher lets the runtime's monitor thread sleep longer: each wake-up interrupts the
// running thread, and a short command was interrupted sixteen times. The monitor is the
// first thread that the runtime makes. Commands are never started from it, so none
// inherits this.
func RestWatcher(slack time.Duration) error {
	tid, err := watcher()
	if err != nil {
		return err
	}
	return put("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", strconv.Itoa(int(slack)))
}

// watcher returns the first thread that the runtime has made: the one with the lowest
// number after the process's own. For PID 1 it comes after some hundred kernel threads; to
// try each number costs less than to list all threads. If the numbers have wrapped around
// it uses the list.
func watcher() (int, error) {
	const near = 512
	pid := os.Getpid()
	for tid := pid + 1; tid < pid+near; tid++ {
		if unix.Tgkill(pid, tid, 0) == nil {
			return tid, nil
		}
	}
	all, err := threads()
	if err != nil {
		return 0, err
	}
	first := math.MaxInt
	for _, tid := range all {
		if tid != pid {
			first = min(first, tid)
		}
	}
	return first, nil
}

// Yield starts a new time slice of the goroutine, before an operation that may take
// long. After a slice of 10 ms the runtime takes the processor away at the goroutine's
// next system call and wakes another thread for it. A boot with a root of layers lost the
// processor a hundred times, and waited to get it back.
func Yield() { runtime.Gosched() }

// threads returns the threads of this process.
func threads() (all []int, err error) {
	const tasks = "/proc/self/task"
	entries, err := list(tasks)
	if err != nil {
		return nil, err
	}
	for _, task := range entries {
		tid, err := strconv.Atoi(task)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tasks, err)
		}
		all = append(all, tid)
	}
	return all, nil
}
