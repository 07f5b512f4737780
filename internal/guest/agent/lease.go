package agent

import (
	"sync"

	"github.com/agentd-go/agentd/internal/guest/session/exec"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// leases has the incarnation of each slot's client, as the host has said: 128 at most. The
// readers of both ports use it.
type leases struct {
	mu sync.Mutex
	of map[int][16]byte
}

func (l *leases) get(slot int) (which [16]byte, leased bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	which, leased = l.of[slot]
	return which, leased
}

func (l *leases) set(slot int, which [16]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[int][16]byte{}
	}
	l.of[slot] = which
}

func (l *leases) end(slot int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, slot)
}

func (l *leases) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.of)
}

// lease notes which incarnation of a client has a slot from now on. A fault in the message
// is only logged: without leases a host gets slots back later, and nothing else changes.
func (a *Agent) lease(body []byte) {
	l, err := wire.DecodeLease(body)
	slot, owned := frame.SlotOf(l.IDStart)
	if err == nil {
		start, end := frame.SlotRange(slot)
		if !owned || l.Event != wire.LeaseGranted || l.IDStart != start || l.IDEndExclusive != end {
			err = wire.ErrLease
		}
	}
	if err != nil {
		a.complain("%v: %.32x", err, body)
		return
	}
	if old, leased := a.leases.get(slot); leased && old != l.Incarnation {
		a.complain("slot %d was leased again before its client had gone", slot)
		a.depart(l.IDStart, l.IDEndExclusive)
	}
	a.leases.set(slot, l.Incarnation)
}

// left handles the end of a client. The end of its lease is acknowledged when no frame of
// that client can follow. A lease that is not in force any more ends nothing.
func (a *Agent) left(m *wire.ClientDisconnected) {
	if a.isNewHost(m) {
		a.forgetHost()
		return
	}
	slot := slotOf(m.IDStart)
	lease, leased := a.leases.get(slot)
	if m.Incarnation != nil && (!leased || lease != *m.Incarnation) {
		return
	}
	a.leases.end(slot)
	a.depart(m.IDStart, m.IDEndExclusive)
	if m.Incarnation == nil {
		return
	}
	b := wire.AppendLease(nil, wire.Lease{
		Event: wire.LeaseReleased, IDStart: m.IDStart, IDEndExclusive: m.IDEndExclusive, Incarnation: lease,
	})
	to := a.answers(0)
	if a.second == nil {
		acknowledge(to, b)
		return
	}
	if a.parting.Add(1) > frame.Slots { // More than a host can have.
		a.parting.Add(-1)
		a.complain("the host does not wait for the acknowledgements of leases")
		return
	}
	passed := a.host.Records.Passed() // A record of that client may still be queued there.
	go func() {
		defer a.parting.Add(-1)
		select {
		case <-passed:
			acknowledge(to, b)
		case <-a.host.Records.Done():
		}
	}()
}

// acknowledge tells the host that no frame of a client can follow.
func acknowledge(to *mux.Outbox, b []byte) {
	if !to.TrySend(b) {
		sys.Logf("the host has left no room for the acknowledgement of a lease's end")
	}
}

// depart ends a client. Hosts up to generation 7 end its commands by a signal; newer hosts
// leave that to the agent.
func (a *Agent) depart(start, end uint32) {
	if a.host.Generation >= wire.BulkSince {
		a.kill(start, end)
	}
	a.disconnect(start, end)
}

// kill ends the commands with ids in [start, end).
func (a *Agent) kill(start, end uint32) {
	const kill = 9
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, s := range a.sessions {
		if e, command := s.(*exec.Session); command && id >= start && id < end {
			e.Signal(kill)
		}
	}
}
