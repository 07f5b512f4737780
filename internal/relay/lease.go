package relay

import (
	"crypto/rand"

	"github.com/agentd-go/agentd/wire/frame"
)

// An Incarnation is one connection of one client, among all that have had its range
// of ids: 16 bytes by chance, never all zero.
type Incarnation [16]byte

func newIncarnation() (i Incarnation) {
	_, _ = rand.Read(i[:]) // It never fails.
	i[0] |= 1              // Nor is it zero.
	return i
}

// leases reports whether the guest acknowledges the ends of clients.
func (r *Relay) leases() bool { return r.cfg.Words.Lease != nil }

// leaseLocked gives a slot to the connection that has just taken it: the guest hears
// of that before anything of the client.
func (r *Relay) leaseLocked(s *slot) {
	if !r.leases() {
		return
	}
	s.lease = newIncarnation()
	r.sayLocked(s, r.cfg.Words.Lease(s.start, s.end, s.lease))
}

// acknowledged frees the slot whose lease a frame of the machine's says has ended.
// What is none, or of no lease that is about to end, means nothing.
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
