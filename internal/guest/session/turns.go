package session

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxTurns is how many floods move at a time: one fills its pipe while the agent reads
	// the other. More floods move no more bytes, but compete for the processor.
	maxTurns = 2

	// turnBytes is how much a flood moves in one turn: two full pipes, so that fifty floods
	// have their turn some ten times a second.
	turnBytes = 128 << 10

	// turnTime bounds a turn while others wait: the source may be slow, or hang. Two
	// floods under emulation need a quarter of it for their bytes.
	turnTime = 20 * time.Millisecond
)

// turns lets few floods move at a time, one after the other. The commands of the others
// wait on full pipes. So all floods get the same share, and other commands compete with
// few of them for the processor.
type turns struct {
	grace startGrace // No turn lapses while floods pause.

	mu      sync.Mutex
	held    []*turn // Never more than maxTurns.
	waiting []*turn // One for each pump at most.
	timed   bool    // lapse will be called.
}

// A turn is the place of one pump among the turns. Only the pump's goroutine calls its
// methods.
type turn struct {
	of    *turns
	begun int // Bytes moved before the first turn.
	left  int // Bytes left in this turn.

	// Guarded by of.mu:
	held  bool
	since time.Time
	given chan struct{} // Closed when the turn is given.
}

// wait waits until the pump may move. It reports whether others wait.
func (t *turn) wait() (crowded bool) {
	given := t.ask()
	if given != nil {
		<-given
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	return len(t.of.waiting) > 0
}

// ask asks for a turn. It returns the channel to wait on, or nil if the pump may move now.
func (t *turn) ask() chan struct{} {
	o := t.of
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.short() || t.held && t.left > 0 {
		return nil
	}
	o.takeLocked(t)
	t.given = make(chan struct{})
	o.waiting = append(o.waiting, t)
	o.giveLocked(time.Now())
	if t.held {
		return nil
	}
	return t.given
}

// short reports whether the output is still too short to be a flood: it needs no turn then.
func (t *turn) short() bool { return t.begun < turnBytes }

// moved counts n bytes that were moved.
func (t *turn) moved(n int) {
	if t.short() {
		t.begun += n
	} else {
		t.left -= n
	}
}

// end gives the turn to another.
func (t *turn) end() {
	o := t.of
	o.mu.Lock()
	defer o.mu.Unlock()
	if t.held {
		o.takeLocked(t)
		o.giveLocked(time.Now())
	}
}

// takeLocked takes the turn from t, if it has one.
func (o *turns) takeLocked(t *turn) {
	t.held = false
	o.held = slices.DeleteFunc(o.held, func(h *turn) bool { return h == t })
}

// giveLocked gives the free turns to the pumps that have waited longest.
func (o *turns) giveLocked(now time.Time) {
	for len(o.held) < maxTurns && len(o.waiting) > 0 {
		t := o.waiting[0]
		o.waiting = slices.Delete(o.waiting, 0, 1)
		o.held = append(o.held, t)
		t.held, t.since = true, now
		t.left = turnBytes + min(t.left, 0) // Less the excess of the last turn.
		close(t.given)
	}
	if len(o.waiting) > 0 && !o.timed {
		o.timed = true
		time.AfterFunc(turnTime-now.Sub(o.held[0].since), o.lapse)
	}
}

// lapse ends the turns that have lasted too long.
func (o *turns) lapse() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.timed = false
	now := time.Now()
	if o.grace.paused.Load() {
		for _, t := range o.held {
			t.since = now
		}
	}
	for len(o.waiting) > 0 && len(o.held) > 0 && now.Sub(o.held[0].since) >= turnTime {
		o.takeLocked(o.held[0])
		o.giveLocked(now)
	}
	o.giveLocked(now)
}
