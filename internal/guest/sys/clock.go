package sys

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since the machine started, suspends included
// (CLOCK_BOOTTIME, clock_gettime(2)).
func BootTime() time.Duration {
	var ts unix.Timespec
	// It fails only for a clock that the kernel does not know; 2.6.39 knows this one.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// SetTime sets the wall clock.
func SetTime(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set clock to %s: %w", t.UTC().Format(time.RFC3339Nano), err)
	}
	return nil
}
