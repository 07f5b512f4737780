package agent

import (
	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// bulkSince is the first generation that has raw records and leases.
const bulkSince wire.Generation = 8

// raw acts on a frame without an envelope, and reports whether it was one. An
// agent that announces less than bulkSince knows no such frames.
func (a *Agent) raw(f frame.Frame) bool {
	switch {
	case a.host.Generation < bulkSince:
		return false
	case f.Flags&frame.Bulk != 0:
		a.record(f)
	case wire.IsLease(f):
		a.lease(f.Body)
	default:
		return false
	}
	return true
}

// record gives a raw record to its session. One that is none ends the flow that it
// is for, if there is one, and nothing else.
func (a *Agent) record(f frame.Frame) {
	r, err := wire.DecodeRecord(f.Body)
	if err == nil && f.Flags != frame.Bulk {
		err = wire.ErrRecord
	}
	carrier, ok := a.session(f.ID).(session.Carrier)
	switch {
	case ok && err != nil:
		carrier.Break(err.Error(), true)
	case ok:
		a.host.Activity.Received(dataType(r.Kind))
		carrier.Record(r)
	case err != nil:
		a.reply(f.ID, &wire.ProtocolError{Kind: wire.ErrorMalformed, Message: err.Error()})
	case slotOf(f.ID) == nobody:
		a.reply(f.ID, &wire.ProtocolError{Kind: wire.ErrorInvalidSession, Message: unowned(f.ID)})
	case a.session(f.ID) != nil:
		a.reply(f.ID, &wire.ProtocolError{Kind: wire.ErrorInvalidSession, Message: "id " + number(f.ID) + " moves no raw records"})
	case !a.isLeaving(f.ID):
		a.strayRecord(f.ID, r.Kind)
	}
}

func dataType(k wire.BulkKind) wire.Type {
	if k == wire.BulkTCP {
		return wire.TypeTCPData
	}
	return wire.TypeFSData
}

// strayRecord answers a record for a session that is not there.
func (a *Agent) strayRecord(id uint32, kind wire.BulkKind) {
	why := "unknown filesystem write session: " + number(id)
	var last wire.Message = fileRefusal(why)
	if kind == wire.BulkTCP {
		why = "unknown TCP session: " + number(id)
		last = &wire.TCPFailed{Error: why}
	}
	a.reply(id, &wire.BulkCancel{Kind: kind, Reason: wire.CancelProtocol, Message: why})
	a.reply(id, last)
}

// flow acts on a message about a flow. For a session that has ended it comes too
// late, as it may when the two cross, and is passed over.
func (a *Agent) flow(id uint32, e wire.Envelope, m wire.Message) {
	if a.host.Generation < bulkSince {
		a.tooNew(id, e)
		return
	}
	carrier, ok := a.session(id).(session.Carrier)
	if !ok {
		return
	}
	switch m := m.(type) {
	case *wire.BulkCredit:
		carrier.Credit(m)
	case *wire.BulkFinish:
		carrier.FinishFlow(m)
	case *wire.BulkCancel:
		carrier.Break(m.Message, false)
	}
}

// offered decides what becomes of a request's offer: an agent that announces less
// than bulkSince does not see it.
func (a *Agent) offered(e wire.Envelope, offer **wire.BulkOffer) (refusal string) {
	if a.host.Generation < bulkSince {
		*offer = nil
	}
	if *offer != nil && e.Generation < bulkSince {
		return "raw bulk offer requires protocol generation 8"
	}
	return ""
}

// fileOffer is offered for operations on files, of which two can take one up.
func (a *Agent) fileOffer(e wire.Envelope, req *wire.FSRequest) (refusal string) {
	if why := a.offered(e, &req.Bulk); why != "" || req.Bulk == nil {
		return why
	}
	switch req.Op.(type) {
	case *wire.OpRead, *wire.OpWrite:
		return ""
	}
	return "raw bulk is only valid for streaming reads and writes"
}

// lease notes which connection of which client has a slot from now on. What is
// wrong with one is logged: a host that goes on without it only does not get slots
// back early.
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
	if old, leased := a.leases[slot]; leased && old != l.Incarnation {
		a.complain("slot %d was leased again before its client had gone", slot)
		a.depart(l.IDStart, l.IDEndExclusive)
	}
	a.leases[slot] = l.Incarnation
}

// left is a client's end. Its lease's acknowledgement is queued when nothing of
// that client can be any more; one that is not in force any more ends nothing.
func (a *Agent) left(m *wire.ClientDisconnected) {
	slot := slotOf(m.IDStart)
	lease, leased := a.leases[slot]
	if m.Incarnation != nil && (!leased || lease != *m.Incarnation) {
		return
	}
	delete(a.leases, slot)
	a.depart(m.IDStart, m.IDEndExclusive)
	if m.Incarnation == nil {
		return
	}
	b := wire.AppendLease(nil, wire.Lease{
		Event: wire.LeaseReleased, IDStart: m.IDStart, IDEndExclusive: m.IDEndExclusive, Incarnation: lease,
	})
	if !a.answers(0).Offer(b) {
		logf("the host has left the acknowledgement for slot %d no room", slot)
	}
}

// depart ends a client. Hosts up to generation 7 end its commands by a signal of
// their own; newer ones leave that to us.
func (a *Agent) depart(start, end uint32) {
	if a.host.Generation >= bulkSince {
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
		if e, command := s.(*session.Exec); command && id >= start && id < end {
			e.Signal(kill)
		}
	}
}
