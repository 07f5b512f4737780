package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// graceTime is how long a command has its grace: longer than a short one lives,
	// emulated on a busy host too, and shorter than anybody notices in a flood. What
	// is not over by then shares the processor with floods and with us who read them,
	// and gets so little of it that its last milliseconds take hundreds.
	graceTime = 100 * time.Millisecond

	// recently is how long after its last large frame a flood may go on.
	recently = 200 * time.Millisecond

	// leastPause is the shortest pause that is worth a timer.
	leastPause = time.Millisecond
)

// startGrace makes floods pause for commands that have just begun. A command with
// little to do shares the processor with those that flood us; while we do not
// read them their pipes fill, and they wait. Floods never pause for more than half
// of the time.
type startGrace struct {
	paused  atomic.Bool  // Whether there is a pause: all that a pump looks at in general.
	flooded atomic.Int64 // When there was a flood (UnixNano).

	mu     sync.Mutex
	number int
	credit time.Duration // How long the next pause may last.
	since  time.Time     // When the credit was counted.
	over   chan struct{} // Closed at the end of the pause.
}

// begin is for a command that begins; it has its grace until the returned function is
// called, or for its graceTime.
func (g *startGrace) begin() (endGrace func()) {
	if time.Now().UnixNano()-g.flooded.Load() > int64(recently) {
		return func() {}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.number++
	if g.number == 1 {
		g.pauseLocked(time.Now())
	}
	end := sync.OnceFunc(g.end)
	timer := time.AfterFunc(graceTime, end)
	return func() {
		timer.Stop()
		end()
	}
}

func (g *startGrace) pauseLocked(now time.Time) {
	if g.paused.Load() {
		return
	}
	g.credit = min(graceTime, g.credit+now.Sub(g.since)/2)
	g.since = now
	if g.credit < leastPause {
		return
	}
	over := make(chan struct{})
	g.over = over
	g.paused.Store(true)
	time.AfterFunc(g.credit, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.over == over {
			g.resumeLocked()
		}
	})
}

func (g *startGrace) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.number--
	if g.number == 0 && g.paused.Load() {
		g.resumeLocked()
	}
}

func (g *startGrace) resumeLocked() {
	now := time.Now()
	g.credit -= now.Sub(g.since)
	g.since = now
	g.paused.Store(false)
	close(g.over)
	g.over = nil
}

// flood says that a large frame was read.
func (g *startGrace) flood() { g.flooded.Store(time.Now().UnixNano()) }

// wait waits for the end of a pause, if there is one.
func (g *startGrace) wait() {
	if !g.paused.Load() {
		return
	}
	g.mu.Lock()
	over := g.over
	g.mu.Unlock()
	if over != nil {
		<-over
	}
}
