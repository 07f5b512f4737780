package sys

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime is the time since the machine started, suspends included
// (CLOCK_BOOTTIME, clock_gettime(2)).
func BootTime() time.Duration {
	var ts unix.Timespec
	// It fails only for an unknown clock; kernels have this one since 2.6.39.
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

// An Alarm is a timer of the kernel that goes off once (timerfd_create(2)). Unlike the
// timers of package time, which the Go scheduler also ends by looking at the clock, it
// goes off only if the machine's timer interrupt arrives.
type Alarm struct{ fd int }

// SetAlarm starts an alarm that goes off after a time of the monotonic clock. The caller
// closes it.
func SetAlarm(after time.Duration) (Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return Alarm{}, fmt.Errorf("make a timer: %w", err)
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(after))}
	if err := unix.TimerfdSettime(fd, 0, &at, nil); err != nil {
		_ = unix.Close(fd)
		return Alarm{}, fmt.Errorf("start a timer of %v: %w", after, err)
	}
	return Alarm{fd: fd}, nil
}

// WentOff reports whether the alarm went off since the last call. It never waits.
func (a Alarm) WentOff() (bool, error) {
	var count [8]byte
	_, err := retry(func() (int, error) { return unix.Read(a.fd, count[:]) })
	if errors.Is(err, unix.EAGAIN) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask a timer: %w", err)
	}
	return true, nil
}

// Close forgets the alarm.
func (a Alarm) Close() error { return unix.Close(a.fd) }
