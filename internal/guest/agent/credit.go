package agent

import (
	"sync"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// maxUnheard is how much of the agent's own answers may be unread before what asks for
// more is not handed back: a quarter of what one client may leave, so that the frames
// which a host may still send find room for their answers.
const maxUnheard = maxReplies / 4

// openCredit begins to count what the host sends, if it is of a generation that has credit.
func (a *Agent) openCredit(ready *wire.Ready) {
	if a.host.Generation < wire.BarrierSince {
		return
	}
	a.host.Credit = session.NewCredit()
	const version = 2 // The only one.
	v := uint8(version)
	ready.WorkloadTransportBarrierVersion = &v
	go a.tellCredit()
}

// tellCredit tells the host its limits whenever that is due, one word after the other.
func (a *Agent) tellCredit() {
	express := a.writer.Express()
	for {
		select {
		case <-a.host.Credit.Due():
		case <-a.writer.Done():
			return
		}
		express.Drain() // What a host leaves unread does not pile up.
		a.host.Credit.Tell(a.sayCredit)
	}
}

func (a *Agent) sayCredit(limit wire.TransportCounters) {
	a.express(wire.WorkloadID, &wire.WorkloadTransportCredit{TransportCounters: limit})
}

// express sends what leaves while the output is parked, too.
func (a *Agent) express(id uint32, m wire.Message) {
	b, err := wire.AppendFrame(nil, a.host.Generation, id, m)
	if err != nil {
		sys.Logf("send %s: %v", m.Type(), err)
		return
	}
	_ = a.writer.Express().Put(b) // It fails only with the link.
}

// isData reports whether frames of a type are counted as data.
func isData(t wire.Type) bool {
	return t == wire.TypeExecStdin || t == wire.TypeFSData || t == wire.TypeTCPData || t == wire.TypeTCPEOF
}

// charge charges a frame of the first port.
func (a *Agent) charge(f frame.Frame, data bool) session.Charge {
	return a.host.Credit.Receive(frame.HeaderSize+len(f.Body), data)
}

// lag is what is handed back when the host has read more of the agent's answers.
type lag struct {
	mu   sync.Mutex
	owed []session.Charge
}

// refund hands back what a frame has cost that was handled: at once, or when the host
// has read enough of the answers to others.
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

// refundLater hands back what is owed once the host has caught up.
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
