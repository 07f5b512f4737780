package life

import (
	"errors"
	"time"

	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire/bootenv"
)

// A kernel can come up without a timer: under software emulation it measures the
// interrupt controller's timer against the time stamp counter, and turns it off where
// the host took the processor away in between. Nothing that waits for a time ends on
// such a machine. Its clock stands still, or goes on alone where it is the counter's.
const (
	// alarmAfter is shorter than the steps from the start to the port.
	alarmAfter = time.Millisecond

	// clockPatience is how late the alarm may be: a host with hundreds of busy
	// processes gives QEMU's own timers their turn within a second.
	clockPatience = 3 * time.Second

	// clockStep is the most that counts between two looks: the clock goes on while
	// the host does not let the machine run, and an alarm cannot be seen then.
	clockStep = 10 * time.Millisecond

	// standstillLooks is when a clock that has not moved between them stands still:
	// 2 s of looks under software emulation. Under hardware virtualization, where
	// they take a tenth of that, clocks do not need a timer to move.
	standstillLooks = 1 << 19
)

// errStandstill is a clock that does not move, and errNoTimer one that moves without
// a timer.
var (
	errStandstill = errors.New(bootenv.DeadClock + ": it does not move, and timers do not go off")
	errNoTimer    = errors.New(bootenv.DeadClock + ": it moves, but timers do not go off")
)

// setAlarm starts the proof of the machine's clock, so that it is over when it is
// needed.
func (l *Life) setAlarm() error {
	alarm, err := sys.SetAlarm(alarmAfter)
	l.alarm = &alarm
	return err
}

// proveClock returns an error if the machine's clock is dead. It mostly takes no time:
// the alarm has gone off. A second agent, which has none, goes on after the first's.
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

// awaitAlarm looks for an alarm without waiting for anything that a timer ends.
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
		case passed > clockPatience:
			return errNoTimer
		case passed == 0 && looks > standstillLooks:
			return errStandstill
		}
	}
}
