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

	// clockStarved is how long an emulated machine may have waited for a processor of the
	// host until the time is sent at once. A guest that counts timer interrupts (refined-jiffies)
	// loses as much at most.
	clockStarved = 50 * time.Millisecond
)

// A reading holds both clocks of the host at one time, and how long the machine had waited
// for a processor of the host by then.
type reading struct {
	wall          time.Time
	mono, starved time.Duration
}

// jumped reports whether the wall clock has moved differently from the monotonic clock
// since an earlier reading.
func (r reading) jumped(since reading) bool {
	return (r.wall.Sub(since.wall) - (r.mono - since.mono)).Abs() >= clockJump
}

// due reports whether the time must be sent again; told is the reading of the last time
// sent.
func (r reading) due(told reading) bool {
	return r.jumped(told) || r.mono-told.mono >= clockPeriod || (r.starved-told.starved).Abs() >= clockStarved
}

// hostClocks returns a function that reads both clocks and starved; the monotonic clock
// starts now.
func hostClocks(starved func() time.Duration) func() reading {
	start := time.Now()
	return func() reading {
		waited, now := starved(), time.Now()
		return reading{now.Round(0), now.Sub(start), waited}
	}
}

// starved returns how long the machine has waited for a processor of the host, if its
// guest's clock depends on that. It is less than before after a pause.
func (m *Machine) starved() time.Duration {
	if !m.Emulated() {
		return 0
	}
	return m.vm.Starved()
}

// keepTime sends the time to the guest: at once, because the guest's hardware clock is
// only exact to the second, and then whenever it is due, until done. If the guest does
// not read, it tries again at the next check.
func keepTime(done <-chan struct{}, starved func() time.Duration, tell func(now time.Time) error) {
	clocks := hostClocks(starved)
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
