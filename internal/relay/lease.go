package relay

import (
	"crypto/rand"

	"github.com/agentd-go/agentd/wire/frame"
)

// An Incarnation identifies one client's connection among all that have had its range
// of ids: 16 random bytes, never all zero.
type Incarnation [16]byte

func newIncarnation() (i Incarnation) {
	_, _ = rand.Read(i[:]) // Never fails.
	i[0] |= 1              // Never zero.
	return i
}

// leases reports whether the guest acknowledges the ends of clients.
func (r *Relay) leases() bool { return r.cfg.Words.Lease != nil }

// leaseLocked leases a slot to the connection that has just taken it. The guest learns
// of the lease before any frame of the client.
func (r *Relay) leaseLocked(s *slot) {
	if !r.leases() {
		return
	}
	s.lease = newIncarnation()
	r.sayLocked(s, r.cfg.Words.Lease(s.start, s.end, s.lease))
}

// acknowledged frees the slot whose lease has ended according to the machine's frame f.
// It ignores other frames, and leases that are not about to end.
func (r *Relay) acknowledged(f frame.Frame) {
	if !r.leases() || f.ID != 0 || f.Flags != 0 {
		return
	}
	which, ok := r.cfg.Words.Released(f)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := range r.slots {
		if s := &r.slots[n]; s.lease == which && s.phase > ending {
			s.answered = true
			r.advanceLocked(s)
		}
	}
}
