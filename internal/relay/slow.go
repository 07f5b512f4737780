package relay

import (
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

const (
	// slowAbove is how much a client may leave unread before the guest is asked to hold
	// its commands' output back. It is more than arrives while a reading client is not
	// scheduled, and small enough that the frames still on their way fit into memory.
	slowAbove = 1 << 20

	// quickBelow is the amount below which the commands go on: some 10 ms before the
	// client would have nothing to read.
	quickBelow = slowAbove / 4

	// A write to a client that reads takes at most stuckAfter on a host that is not
	// overloaded. A longer write means that the socket's buffer is full and the client
	// does not read. Then only stuckAbove bytes may wait, because a flood delays the
	// other clients.
	stuckAfter = 5 * time.Millisecond
	stuckAbove = 32 << 10
)

// isSlow reports whether more comes for the client than it reads.
func (c *client) isSlow() bool {
	waiting := c.in.Waiting()
	if waiting <= stuckAbove {
		return false
	}
	since := c.since.Load()
	return waiting > slowAbove || since != 0 && time.Now().UnixNano()-since > int64(stuckAfter)
}

// slow asks the guest to block the output of the commands of a client that does not
// read, as a full pipe would. Guests that do not know the message send on, and the
// relay stores their frames. It also stores the data of files and connections, which
// have no such message.
func (r *Relay) slow(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := c.slot
	if r.err != nil || s.client != c || len(s.commands) == 0 {
		return
	}
	if s.out.Queued() > mux.DefaultOutbox {
		return // The guest does not read, so do not queue more for it.
	}
	c.slow.Store(true)
	if c.in.Waiting() <= quickBelow && c.since.Load() == 0 {
		c.slow.Store(false) // The client has read meanwhile, and nothing would call quick later.
		return
	}
	for id := range s.commands {
		r.sayLocked(s, r.cfg.Words.Hold(id))
	}
}

// quick lets the commands of a client that has read go on.
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

// holdNew holds back a session whose request has just been queued, because slow may
// have run before the request was queued. It does so only for commands; other sessions
// do not know the message.
func (r *Relay) holdNew(c *client, id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && c.slow.Load() && c.slot.commands[id] > 0 {
		r.sayLocked(c.slot, r.cfg.Words.Hold(id))
	}
}
