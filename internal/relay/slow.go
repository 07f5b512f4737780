package relay

import (
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

const (
	// slowAbove is what a client that reads may leave unread before the guest is
	// asked to keep the outputs of its commands back: more than comes while it is not
	// scheduled, and little enough for what is still on its way to fit memory.
	slowAbove = 1 << 20

	// quickBelow is when they go on: some 10 ms before the client would run dry.
	quickBelow = slowAbove / 4

	// stuckAfter is how long one write to a client that reads takes at most, on a
	// host that is not overloaded: the socket's buffer is full, and nobody empties
	// it. What may wait then is stuckAbove, for every ms of a flood delays the others.
	stuckAfter = 5 * time.Millisecond
	stuckAbove = 32 << 10
)

// isSlow reports whether what comes for the client is too much for it.
func (c *client) isSlow() bool {
	waiting := c.in.Waiting()
	if waiting <= stuckAbove {
		return false
	}
	since := c.since.Load()
	return waiting > slowAbove || since != 0 && time.Now().UnixNano()-since > int64(stuckAfter)
}

// slow has the commands of a client that does not read wait for it, as they would
// on a pipe. Guests that do not know the word go on, and what they say is stored.
// So is what files and connections bring: they have no such word.
func (r *Relay) slow(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.slot
	if r.err != nil || s.client != c || len(s.commands) == 0 {
		return
	}
	if s.out.Queued() > mux.DefaultOutbox {
		return // A guest that does not hear what it was told is told nothing more.
	}
	c.slow.Store(true)
	if c.in.Waiting() <= quickBelow && c.since.Load() == 0 {
		c.slow.Store(false) // It has been taken meanwhile, and nobody would say so again.
		return
	}
	for id := range s.commands {
		r.sayLocked(s, r.cfg.Words.Hold(id))
	}
}

// quick lets the commands of a client go on that has read.
func (r *Relay) quick(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.slot
	if r.err != nil || s.client != c || !c.slow.Load() {
		return
	}
	c.slow.Store(false)
	for id := range s.commands {
		r.sayLocked(s, r.cfg.Words.Go(id))
	}
}

// holdNew is slow for a session whose request has just been queued: the word for it
// may have been ahead of that. What is no command does not understand it.
func (r *Relay) holdNew(c *client, id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && c.slow.Load() && c.slot.commands[id] > 0 {
		r.sayLocked(c.slot, r.cfg.Words.Hold(id))
	}
}
