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

// Urgent gives every thread of this process the largest share of a processor
// (nice -20, sched(7)): among thousands of busy processes a fair scheduler would
// give it a turn every few seconds. It does not take that from whoever runs before
// its time is over (SCHED_BATCH): woken by every line that a command says, it would
// send each by itself, at the price of two switches. What it starts from then on is ordinary, so
// threads that shall be urgent must exist.
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

// How late the runtime's watching thread may wake. It looks after the others every
// 20 us for as long as anything runs; a processor that a system call keeps, it takes
// back by itself after 10 ms, and that much later. A boot has nobody else to give it to.
const (
	BootSlack    = 10 * time.Millisecond
	CommandSlack = time.Millisecond
)

// RestWatcher lets the thread that watches the runtime's others sleep longer: each
// look interrupts what runs, and a short command was looked at sixteen times. The
// watcher is the thread that the runtime makes first; commands are never started from
// it, so none inherits this.
func RestWatcher(slack time.Duration) error {
	tid, err := watcher()
	if err != nil {
		return err
	}
	return put("/proc/"+strconv.Itoa(tid)+"/timerslack_ns", strconv.Itoa(int(slack)))
}

// watcher returns the thread that the runtime has made first: the one with the lowest
// number after the process's own. As PID 1 it is after the kernel's threads, some
// hundred, and asking for each is less than a list of all threads is; where numbers
// have begun again at the lowest there is the list.
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

// NewTurn gives the goroutine a new turn of its processor, before what may take long.
// From one whose turn is 10 ms old, whatever it did in it, the runtime takes the
// processor in its next call and wakes another thread for it: a boot with a root of
// layers lost it a hundred times, and waited to have it back.
func NewTurn() { runtime.Gosched() }

// threads are those of this process.
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
