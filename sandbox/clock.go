package sandbox

import (
	"errors"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// Periods for sending the time to the guest (protocol section 5.3).
const (
	// clockPeriod is the regular period, against drift of the guest's clock.
	clockPeriod = 60 * time.Second

	// clockCheck is how often the host's own clocks are compared. After a difference of
	// clockJump the time is sent at once: the host has slept, or its clock was set.
	clockCheck = 2 * time.Second
	clockJump  = 6 * time.Second
)

// A reading holds both clocks of the host at one time.
type reading struct {
	wall time.Time
	mono time.Duration
}

// jumped reports whether the wall clock has moved differently from the monotonic clock
// since an earlier reading.
func (r reading) jumped(since reading) bool {
	return (r.wall.Sub(since.wall) - (r.mono - since.mono)).Abs() >= clockJump
}

// due reports whether the time must be sent again; told is the reading of the last time
// sent.
func (r reading) due(told reading) bool {
	return r.jumped(told) || r.mono-told.mono >= clockPeriod
}

// hostClocks returns a function that reads both clocks; the monotonic one starts now.
func hostClocks() func() reading {
	start := time.Now()
	return func() reading {
		now := time.Now()
		return reading{wall: now.Round(0), mono: now.Sub(start)}
	}
}

// keepTime sends the time to the guest: at once, because the guest's hardware clock is
// only exact to the second, and then whenever it is due, until done. If the guest does
// not read, it tries again at the next check.
func keepTime(done <-chan struct{}, tell func(now time.Time) error) {
	clocks := hostClocks()
	told := clocks()
	ok := tell(told.wall) == nil
	tick := time.NewTicker(clockCheck)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if now := clocks(); !ok || now.due(told) {
			told, ok = now, tell(now.wall) == nil
		}
	}
}

// tellTime sends the time for machines whose clients cannot send it.
func (m *Machine) tellTime(now time.Time) error {
	if m.saving.frozen.Load() {
		return errFrozen // It would be old when the guest gets it.
	}
	if now.Unix() < 0 {
		return errClock
	}
	return m.relay.Send(clockSync(now))
}

// errFrozen says that the guest's commands are frozen. Its clock is set when they go on.
var errFrozen = errors.New("the machine is frozen")

// errClock says that the protocol cannot represent the wall clock's time.
var errClock = errors.New("the host's clock is before 1970")

func clockSync(now time.Time) []byte {
	return encode(0, &wire.ClockSync{UnixTimeNanos: uint64(now.UnixNano())})
}
