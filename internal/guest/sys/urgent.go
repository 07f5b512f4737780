package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Urgent gives every thread of this process the largest share of a processor
// (nice -20, sched(7)): among thousands of busy processes a fair scheduler would
// give it a turn every few seconds. It does not take that from whoever runs before
// its time is over (SCHED_BATCH): woken by every line that a command says, it would
// send each by itself, at the price of two switches. What it starts from then on is ordinary, so
// threads that shall be urgent must exist.
func Urgent() error {
	const tasks = "/proc/self/task"
	all, err := os.ReadDir(tasks)
	if err != nil {
		return err
	}
	var errs []error
	for _, task := range all {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", tasks, err)
		}
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
