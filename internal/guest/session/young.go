package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// youth is how long a command counts as young: longer than a short one lives,
	// emulated on a busy host too, and shorter than anybody notices in a flood. What
	// is not over by then shares the processor with floods and with us who read them,
	// and gets so little of it that its last milliseconds take hundreds.
	youth = 100 * time.Millisecond

	// recently is how long after its last large frame a flood may go on.
	recently = 200 * time.Millisecond

	// leastPause is the shortest pause that is worth a timer.
	leastPause = time.Millisecond
)

// young makes floods pause for commands that have just begun. A command with
// little to do shares the processor with those that flood us; while we do not
// read them their pipes fill, and they wait. Floods never pause for more than half
// of the time.
type young struct {
	paused  atomic.Bool  // Whether there is a pause: all that a pump looks at in general.
	flooded atomic.Int64 // When there was a flood (UnixNano).

	mu     sync.Mutex
	number int
	credit time.Duration // How long the next pause may last.
	since  time.Time     // When the credit was counted.
	over   chan struct{} // Closed at the end of the pause.
}

// begin is for a command that begins; it is young until the returned function is
// called, or for its youth.
func (y *young) begin() (grown func()) {
	if time.Now().UnixNano()-y.flooded.Load() > int64(recently) {
		return func() {}
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.number++
	if y.number == 1 {
		y.pauseLocked(time.Now())
	}
	end := sync.OnceFunc(y.end)
	timer := time.AfterFunc(youth, end)
	return func() {
		timer.Stop()
		end()
	}
}

func (y *young) pauseLocked(now time.Time) {
	if y.paused.Load() {
		return
	}
	y.credit = min(youth, y.credit+now.Sub(y.since)/2)
	y.since = now
	if y.credit < leastPause {
		return
	}
	over := make(chan struct{})
	y.over = over
	y.paused.Store(true)
	time.AfterFunc(y.credit, func() {
		y.mu.Lock()
		defer y.mu.Unlock()
		if y.over == over {
			y.resumeLocked()
		}
	})
}

func (y *young) end() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.number--
	if y.number == 0 && y.paused.Load() {
		y.resumeLocked()
	}
}

func (y *young) resumeLocked() {
	now := time.Now()
	y.credit -= now.Sub(y.since)
	y.since = now
	y.paused.Store(false)
	close(y.over)
	y.over = nil
}

// flood says that a large frame was read.
func (y *young) flood() { y.flooded.Store(time.Now().UnixNano()) }

// wait waits for the end of a pause, if there is one.
func (y *young) wait() {
	if !y.paused.Load() {
		return
	}
	y.mu.Lock()
	over := y.over
	y.mu.Unlock()
	if over != nil {
		<-over
	}
}
