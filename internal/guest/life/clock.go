package life

import (
	"errors"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A kernel can come up without a timer: under software emulation it measures the
// interrupt controller's timer against the time stamp counter, and turns the timer off if
// the host took the processor away in between. On such a machine no wait for a time ends.
// Its clock stands still, or goes on if the counter drives it.
const (
	// alarmAfter is shorter than the steps from the start to the port.
	alarmAfter = time.Millisecond

	// clockTimeout is how late the alarm may be. A host with hundreds of busy processes
	// serves QEMU's own timers within a second.
	clockTimeout = 3 * time.Second

	// clockStep is the most time that counts between two looks. The clock goes on while
	// the host does not let the machine run, and no alarm can be seen then.
	clockStep = 10 * time.Millisecond

	// standstillLooks is how many looks, with less progress than lookTime for each, show
	// that the clock stands still: 2 s of looks under software emulation. Under hardware virtualization they take a
	// tenth of that, but clocks need no timer there.
	standstillLooks = 1 << 19

	// lookTime is less than any processor needs for a look, which is two system calls. A
	// clock that has moved by less is moved by chance, as by an interrupt of a device.
	lookTime = 50 * time.Nanosecond
)

// errStandstill says that the clock does not move, or hardly; errNoTimer that it moves, but
// no timer ends.
var (
	errStandstill = errors.New(bootenv.DeadClock + ": it does not move, and timers do not go off")
	errNoTimer    = errors.New(bootenv.DeadClock + ": it moves, but timers do not go off")
)

// setAlarm starts the check of the machine's clock early, so that the result is there when
// proveClock needs it.
func (l *Life) setAlarm() error {
	alarm, err := sys.SetAlarm(alarmAfter)
	l.alarm = &alarm
	return err
}

// proveClock returns an error if the machine's clock is dead. In most cases it takes no
// time: the alarm has gone off. A second agent has no alarm, because the first one has
// checked the clock.
func (l *Life) proveClock() error {
	if l.alarm == nil {
		return nil
	}
	if err := awaitAlarm(l.alarm.WentOff, sys.BootTime); err != nil {
		return err
	}
	err := l.alarm.Close()
	l.alarm = nil
	return err
}

// awaitAlarm waits for an alarm without using a timer.
func awaitAlarm(wentOff func() (bool, error), now func() time.Duration) error {
	var passed time.Duration
	last := now()
	for looks := 0; ; looks++ {
		if rang, err := wentOff(); rang || err != nil {
			return err
		}
		at := now()
		passed += min(at-last, clockStep)
		last = at
		switch {
		case passed > clockTimeout:
			return errNoTimer
		case looks > standstillLooks && passed < time.Duration(looks)*lookTime:
			return errStandstill
		}
	}
}
