package relay

import (
	"errors"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// killGrace is how long the guest may take to report the ends of killed commands
	// before the relay reports that their client has left: a round trip on a busy
	// emulated machine.
	killGrace = 2 * time.Second

	// settleTime is how long the guest may then take to answer the probe. Megabytes of
	// older frames may come before the answer.
	settleTime = 10 * time.Second

	// maxCommands bounds the unfinished commands of one client: four times the commands
	// that our agent runs for all clients. The agent refuses more, but drops refusals
	// that nobody reads, so the relay needs its own bound.
	maxCommands = 4096
)

// A phase is a phase of a slot's life; see the package comment.
type phase uint8

const (
	free phase = iota
	taken
	ending
	closing
	stale
)

// A slot is a range of ids. Relay.mu guards its changing fields.
type slot struct {
	start, end uint32
	out        *mux.Outbox
	records    *mux.Outbox // Towards the second port; nil without one.

	phase    phase
	client   *client
	commands map[uint32]int // Number of ends that an id still needs.
	lastUsed bool           // The client has used the range's last id.
	answered bool           // The guest has answered the probe or acknowledged the lease's end.
	lease    Incarnation    // Zero without one.
	timer    *time.Timer    // Bounds ending and closing.
	since    time.Time      // When it became stale.
}

var (
	errFull     = errors.New("all slots are taken")
	errLeaving  = errors.New("all slots are taken, some by clients that have left")
	errCommands = errors.New("too many of its commands have not ended")
)

// takeLocked chooses a slot for a new client: the lowest free one, else the one that
// has been stale for the longest time.
func (r *Relay) takeLocked() (*slot, error) {
	var oldest *slot
	full := errFull
	for n := range r.slots {
		s := &r.slots[n]
		switch s.phase {
		case free:
			s.reset(taken)
			return s, nil
		case ending, closing:
			full = errLeaving
		case stale:
			if r.leases() {
				continue // The guest would take two clients for one.
			}
			if oldest == nil || s.since.Before(oldest.since) {
				oldest = s
			}
		case taken:
		}
	}
	if oldest == nil {
		return nil, full
	}
	r.log("ids from %d on are used again, although the guest has not closed what was there", oldest.start)
	oldest.reset(taken)
	return oldest, nil
}

func (s *slot) reset(p phase) {
	s.phase, s.client, s.commands = p, nil, nil
	s.lastUsed, s.answered = false, false
	s.lease = Incarnation{}
}

// begin counts a command that a client starts.
func (r *Relay) begin(s *slot, id uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(s.commands) >= maxCommands {
		return errCommands
	}
	if s.commands == nil {
		s.commands = make(map[uint32]int)
	}
	// A counter, not a flag: a second request on a used id gets its own terminal frame,
	// and the first command runs on.
	s.commands[id]++
	return nil
}

// observe notes the command that a guest's frame ends, and returns the frame's client,
// or nil.
func (r *Relay) observe(s *slot, f frame.Frame) *client {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Flags&frame.Terminal != 0 && r.err == nil {
		s.ended(f.ID)
		r.advanceLocked(s)
	}
	return s.client
}

func (s *slot) ended(id uint32) {
	if n := s.commands[id]; n > 1 {
		s.commands[id] = n - 1
	} else {
		delete(s.commands, id)
	}
	if s.phase > ending && id == s.end-1 && !s.lastUsed && s.lease == (Incarnation{}) {
		s.answered = true
	}
}

// speak notes that a client has sent something for the first time.
func (r *Relay) speak(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.spoke = true
	r.speakers++
	r.changed.Broadcast()
}

// leave begins to free the slot of a client that has left.
func (r *Relay) leave(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.spoke {
		r.speakers--
	}
	r.changed.Broadcast()
	s := c.slot
	s.phase, s.client = ending, nil
	s.out.DropData() // What ends the client may overtake it, and must not be followed by it.
	if s.records != nil {
		s.records.DropData()
	}
	if r.err != nil {
		return // The guest is gone.
	}
	if r.leases() {
		s.commands = nil // The guest ends them itself and acknowledges it.
	}
	for id := range s.commands {
		if c.slow.Load() { // Otherwise its end would wait for its output, and the output for a reader.
			r.sayLocked(s, r.cfg.Words.Go(id))
		}
		r.sayLocked(s, r.cfg.Words.Kill(id))
	}
	r.limitLocked(s, killGrace)
	r.advanceLocked(s)
}

// advanceLocked moves a slot to its next phase if the condition for it holds.
func (r *Relay) advanceLocked(s *slot) {
	switch {
	case len(s.commands) > 0:
	case s.phase == ending:
		r.closeLocked(s)
	case s.phase > ending && s.answered:
		s.timer.Stop()
		s.reset(free)
		r.announce()
	}
}

// announce signals waiting clients that a slot may be free.
func (r *Relay) announce() {
	select {
	case r.freed <- struct{}{}:
	default:
	}
}

// closeLocked tells the guest that the client has left.
func (r *Relay) closeLocked(s *slot) {
	s.phase = closing
	if r.leases() {
		r.sayLocked(s, r.cfg.Words.Left(s.start, s.end, &s.lease))
	} else {
		r.sayLocked(s, r.cfg.Words.Left(s.start, s.end, nil))
		if !s.lastUsed {
			r.sayLocked(s, r.cfg.Words.Probe(s.end-1))
		}
	}
	r.limitLocked(s, settleTime)
}

// sayLocked queues a frame of the relay after all frames of the slot's clients. The
// number of commands bounds the number of such frames.
func (r *Relay) sayLocked(s *slot, b []byte) {
	_ = s.out.Put(b) // Fails only when the link has ended.
}

// limitLocked bounds the phase that has just begun.
func (r *Relay) limitLocked(s *slot, d time.Duration) {
	if s.timer != nil {
		s.timer.Stop()
	}
	var timer *time.Timer
	timer = time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err == nil && s.timer == timer {
			r.expireLocked(s)
		}
	})
	s.timer = timer
}

func (r *Relay) expireLocked(s *slot) {
	switch s.phase {
	case ending:
		r.closeLocked(s)
	case closing:
		s.phase, s.since = stale, time.Now()
		if r.leases() {
			r.log("ids from %d on are not used until the guest acknowledges that their client has left", s.start)
		}
		r.announce()
	case free, taken, stale: // The timer fired before it was stopped.
	}
}

// useLast notes that a client has used the range's last id, which the probe needs.
func (r *Relay) useLast(s *slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.lastUsed = true
}
