package sandbox

import (
	"errors"
	"time"

	"github.com/agentd-go/agentd/wire"
)

// How often the guest is told the time (protocol section 5.3).
const (
	// clockPeriod corrects what the guest's clock drifts.
	clockPeriod = 60 * time.Second

	// clockCheck is how often the host's own clocks are compared, and clockJump
	// the difference after which the guest must hear: the host has slept, or its
	// clock was set.
	clockCheck = 2 * time.Second
	clockJump  = 6 * time.Second
)

// A reading is both clocks of the host at one time.
type reading struct {
	wall time.Time
	mono time.Duration
}

// jumped reports whether the wall clock has moved otherwise than the monotonic
// one since an earlier reading.
func (r reading) jumped(since reading) bool {
	return (r.wall.Sub(since.wall) - (r.mono - since.mono)).Abs() >= clockJump
}

// due reports whether the guest, told at the time of another reading, must be
// told again.
func (r reading) due(told reading) bool {
	return r.jumped(told) || r.mono-told.mono >= clockPeriod
}

// hostClocks returns what reads both clocks, the monotonic from now on.
func hostClocks() func() reading {
	start := time.Now()
	return func() reading {
		now := time.Now()
		return reading{wall: now.Round(0), mono: now.Sub(start)}
	}
}

// keepTime tells the guest the time: now, because its clock is its hardware's, to
// the second; then whenever it is due, until done. A guest that does not read is
// told at the next check.
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

// tellTime is for a machine whose clients cannot.
func (m *Machine) tellTime(now time.Time) error {
	if now.Unix() < 0 {
		return errClock
	}
	return m.relay.Send(clockSync(now))
}

// errClock is a wall clock that the protocol cannot tell.
var errClock = errors.New("the host's clock is before 1970")

func clockSync(now time.Time) []byte {
	return encode(0, &wire.ClockSync{UnixTimeNanos: uint64(now.UnixNano())})
}
