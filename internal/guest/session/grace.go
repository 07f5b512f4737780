package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// graceTime is how long floods pause for a new command. It is longer than a short
	// command runs, also under emulation on a busy host, and too short to notice in a
	// flood. A command that still runs afterwards shares the processor with the floods
	// and with the agent that reads them; its last milliseconds then take hundreds.
	graceTime = 100 * time.Millisecond

	// recently is how long a flood counts as active after its last large frame.
	recently = 200 * time.Millisecond

	// leastPause is the shortest pause that is worth a timer.
	leastPause = time.Millisecond
)

// startGrace makes floods pause for commands that have just begun. A short command
// shares the processor with the commands that flood the agent. While the agent does not
// read their pipes these fill, and the flooding commands wait. Floods never pause for
// more than half of the time.
type startGrace struct {
	paused  atomic.Bool  // Whether there is a pause. A pump looks at nothing else in most cases.
	flooded atomic.Int64 // Time of the last large frame (UnixNano).

	mu     sync.Mutex
	number int
	credit time.Duration // How long the next pause may last.
	since  time.Time     // When the credit was counted.
	over   chan struct{} // Closed at the end of the pause.
}

// begin starts the grace of a new command. It lasts until the returned function is
// called, and graceTime at most.
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

// flood records that a large frame was read.
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
