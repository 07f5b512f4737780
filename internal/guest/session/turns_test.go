package session

import (
	"testing"
	"testing/synctest"
	"time"
)

// A flood with something to read whenever it is its turn.
func busy(o *turns, each time.Duration, over <-chan struct{}) (bytes *int) {
	bytes = new(int)
	go func() {
		t := turn{of: o}
		defer t.end()
		for {
			t.wait()
			select {
			case <-over:
				return
			default:
			}
			time.Sleep(each)
			t.moved(MaxRead)
			*bytes += MaxRead
		}
	}()
	return bytes
}

// Many floods get the same, and few of them move at a time.
func TestTurnsAreFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o turns
		over := make(chan struct{})
		var all []*int
		for range 50 {
			all = append(all, busy(&o, time.Millisecond, over))
		}
		time.Sleep(5 * time.Second)
		start, short := time.Now(), turn{of: &o}
		short.wait()
		short.end()
		if d := time.Since(start); d > 0 {
			t.Errorf("who says little waited %v for the floods", d)
		}
		synctest.Wait()
		o.mu.Lock()
		if n, w := len(o.held), len(o.waiting); n != maxTurns || w != len(all)-maxTurns {
			t.Errorf("%d have their turn and %d wait", n, w)
		}
		o.mu.Unlock()
		close(over)
		time.Sleep(time.Second)
		synctest.Wait()
		least, most := *all[0], *all[0]
		for _, n := range all {
			least, most = min(least, *n), max(most, *n)
		}
		if least == 0 || most-least > 2*(turnBytes+MaxRead) {
			t.Errorf("the least has %d bytes and the most %d", least, most)
		}
	})
}

// Who hangs, or reads too little, keeps the others waiting for a moment.
func TestTurnsLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o turns
		hang := make([]turn, maxTurns)
		for i := range hang {
			hang[i] = turn{of: &o, begun: turnBytes}
			if hang[i].wait() {
				t.Error("others wait, though nobody is there")
			}
		}
		start := time.Now()
		next := turn{of: &o, begun: turnBytes}
		next.wait()
		if d := time.Since(start); d != turnTime {
			t.Errorf("waited %v for those that hang, want %v", d, turnTime)
		}
		next.moved(turnBytes)
		next.wait() // Nobody waits: a turn without end.
		if d := time.Since(start); d != turnTime {
			t.Errorf("waited %v for nobody", d-turnTime)
		}
		for i := range hang {
			hang[i].end()
		}
		next.end()
		if len(o.held) > 0 || len(o.waiting) > 0 {
			t.Error("a turn is held by nobody")
		}
		time.Sleep(time.Second)
		if o.timed {
			t.Error("the clock runs for nobody")
		}
	})
}

// While floods pause for a command that begins, no turn is lost.
func TestTurnsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o turns
		time.Sleep(time.Second) // Credit for a pause.
		first := make([]turn, maxTurns)
		for i := range first {
			first[i] = turn{of: &o, begun: turnBytes}
			first[i].wait()
		}
		time.Sleep(turnTime / 2)
		o.grace.flood()
		endGrace := o.grace.begin()
		start := time.Now()
		time.AfterFunc(graceTime, endGrace)
		next := turn{of: &o, begun: turnBytes}
		next.wait()
		if d := time.Since(start); d < turnTime {
			t.Errorf("a turn lapsed after %v, in a pause", d)
		}
	})
}
