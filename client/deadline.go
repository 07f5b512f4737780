package client

import (
	"sync"
	"time"
)

// A deadline is a moment that can be moved. It calls apply, in order, with whether the
// moment has passed.
type deadline struct {
	apply func(passed bool)

	mu    sync.Mutex
	timer *time.Timer
	moved int // Counts moves: a timer that was stopped too late finds another number.
}

// set moves the deadline; the zero time is never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.moved++
	left := time.Until(t)
	d.apply(!t.IsZero() && left <= 0)
	if left > 0 {
		mine := d.moved
		d.timer = time.AfterFunc(left, func() { d.pass(mine) })
	}
}

func (d *deadline) pass(mine int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moved == mine {
		d.apply(true)
	}
}

// A stopChan is a channel that is closed while something is shut.
type stopChan struct {
	mu   sync.Mutex
	ch   chan struct{}
	shut bool
}

func newStopChan() *stopChan { return &stopChan{ch: make(chan struct{})} }

func (s *stopChan) set(shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case shut && !s.shut:
		close(s.ch)
	case !shut && s.shut:
		s.ch = make(chan struct{})
	}
	s.shut = shut
}

// wait returns the current channel, and whether it is closed.
func (s *stopChan) wait() (ch <-chan struct{}, shut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ch, s.shut
}
