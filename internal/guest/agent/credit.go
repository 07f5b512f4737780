package agent

import (
	"sync"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// maxUnheard bounds the unread bytes of the agent's own answers. Above it, requests give
// no credit back. It is a quarter of maxReplies, so that the answers to the frames that a
// host may still send find room.
const maxUnheard = maxReplies / 4

// openCredit begins to count the host's frames, if its generation has credit. With stored
// the credit for input comes back when that has been stored.
func (a *Agent) openCredit(ready *wire.Ready, stored bool) {
	if a.host.Generation < wire.BarrierSince {
		return
	}
	a.host.Credit = session.NewCredit(stored)
	v := uint8(wire.BarrierVersion)
	ready.WorkloadTransportBarrierVersion = &v
	go a.tellCredit()
}

// tellCredit sends the host its limits whenever that is due, one message after the other.
func (a *Agent) tellCredit() {
	express := a.writer.Express()
	for {
		select {
		case <-a.host.Credit.Due():
		case <-a.writer.Done():
			return
		}
		express.Drain() // Do not queue more for a host that does not read.
		a.host.Credit.Tell(a.sayCredit)
	}
}

func (a *Agent) sayCredit(limit wire.TransportCounters) {
	a.express(wire.WorkloadID, &wire.WorkloadTransportCredit{TransportCounters: limit})
}

// express sends a message that leaves also while the output is parked.
func (a *Agent) express(id uint32, m wire.Message) {
	b, err := wire.AppendFrame(nil, a.host.Generation, id, m)
	if err != nil {
		sys.Logf("send %s: %v", m.Type(), err)
		return
	}
	_ = a.writer.Express().Put(b) // Fails only with the link.
}

// charge charges a frame of the first port.
func (a *Agent) charge(f frame.Frame, data bool) session.Charge {
	return a.host.Credit.Receive(frame.HeaderSize+len(f.Body), data)
}

// lag has the charges that are refunded when the host has read more answers.
type lag struct {
	mu   sync.Mutex
	owed []session.Charge
}

// refund gives back the credit of a handled frame: at once, or when the host has read
// enough of the earlier answers.
func (a *Agent) refund(c session.Charge) {
	if a.host.Credit == nil {
		return
	}
	l := &a.lag
	l.mu.Lock()
	defer l.mu.Unlock()
	below := a.writer.Below(a.unheard, maxUnheard)
	if below == nil && len(l.owed) == 0 {
		c.Refund()
		return
	}
	if l.owed = append(l.owed, c); len(l.owed) == 1 {
		go a.refundLater(below)
	}
}

// refundLater gives back the owed credit when the host has caught up.
func (a *Agent) refundLater(below <-chan struct{}) {
	if below != nil {
		select {
		case <-below:
		case <-a.writer.Done():
		}
	}
	a.lag.mu.Lock()
	owed := a.lag.owed
	a.lag.owed = nil
	a.lag.mu.Unlock()
	for _, c := range owed {
		c.Refund()
	}
}
