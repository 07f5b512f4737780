package agent

import (
	"slices"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/guest/session/files"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// isRaw reports whether a frame has no envelope. An agent that announces less than
// wire.BulkSince knows no such frames.
func (a *Agent) isRaw(f frame.Frame) bool {
	return a.host.Generation >= wire.BulkSince && (f.Flags&frame.Bulk != 0 || wire.IsLease(f))
}

// raw handles a frame without an envelope.
func (a *Agent) raw(f frame.Frame, c session.Charge) {
	if f.Flags&frame.Bulk != 0 {
		a.record(f, c)
		return
	}
	a.lease(f.Body)
	a.refund(c)
}

// record gives a raw record to its session. An invalid record ends the flow on its id, if
// there is one, and nothing else.
func (a *Agent) record(f frame.Frame, c session.Charge) {
	r, err := recordIn(f)
	if a.second != nil {
		err = errBound
	}
	carrier, ok := a.session(f.ID).(session.Carrier)
	if ok {
		a.carry(carrier, r, err, c)
		return
	}
	defer a.refund(c)
	switch {
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

// recordIn decodes the record that a frame must be.
func recordIn(f frame.Frame) (wire.Record, error) {
	r, err := wire.DecodeRecord(f.Body)
	if err == nil && f.Flags != frame.Bulk {
		err = wire.ErrRecord
	}
	return r, err
}

// carry gives a record to its session, or ends the flow if the record is invalid.
func (a *Agent) carry(to session.Carrier, r wire.Record, err error, c session.Charge) {
	if err != nil {
		c.Refund()
		to.Break(err.Error(), true)
		return
	}
	a.host.Activity.Received(dataType(r.Kind))
	to.Record(r, c)
}

func dataType(k wire.BulkKind) wire.Type {
	if k == wire.BulkTCP {
		return wire.TypeTCPData
	}
	return wire.TypeFSData
}

// strayRecord answers a record for an id without a session.
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

// flow handles a message about a flow. If the session has ended the two have crossed, and
// the message is ignored.
func (a *Agent) flow(id uint32, e wire.Envelope, m wire.Message) {
	if a.host.Generation < wire.BulkSince {
		a.tooNew(id, e)
		return
	}
	if s := a.session(id); s != nil {
		s.Message(m)
		return
	}
	if a.host.Generation >= wire.BarrierSince && slotOf(id) != nobody && !a.isLeaving(id) && !a.hasEnded(id) {
		a.strayFlow(id, m)
	}
}

// strayFlow answers a message about a flow on an id that has had no session, as the
// reference agents of generation 9 do.
func (a *Agent) strayFlow(id uint32, m wire.Message) {
	switch m := m.(type) {
	case *wire.BulkCredit:
		if m.Kind == wire.BulkFS {
			why := "unknown filesystem read session: " + number(id)
			a.reply(id, &wire.BulkCancel{Kind: m.Kind, Reason: wire.CancelProtocol, Message: why})
			a.reply(id, fileRefusal(why))
		}
	case *wire.BulkFinish:
		a.strayRecord(id, m.Kind)
	case *wire.BulkCancel:
		if m.Kind == wire.BulkFS {
			a.reply(id, fileRefusal(session.Repeated(m.Message)))
		} else {
			a.reply(id, &wire.TCPFailed{Error: session.Repeated(m.Message)})
		}
	}
}

// recentIDs is how many ids of ended sessions are remembered: a message about a flow that
// has crossed the session's end comes within the time of a few sessions.
const recentIDs = 256

// recent has the ids of the sessions that have ended last. Agent.mu guards it.
type recent struct {
	ids  [recentIDs]uint32
	next int
}

func (r *recent) add(id uint32) {
	r.ids[r.next] = id
	r.next = (r.next + 1) % recentIDs
}

// hasEnded reports whether a session on an id has ended lately.
func (a *Agent) hasEnded(id uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.ended.ids[:], id)
}

// offered checks a request's offer. An agent that announces less than wire.BulkSince
// removes it from the request.
func (a *Agent) offered(id uint32, e wire.Envelope, offer **wire.BulkOffer) (refusal string) {
	if a.host.Generation < wire.BulkSince {
		*offer = nil
	}
	if *offer != nil && e.Generation < wire.BulkSince {
		return "raw bulk offer requires protocol generation 8"
	}
	if _, leased := a.leases.get(slotOf(id)); *offer != nil && a.second != nil && !leased {
		return "raw bulk offer requires a lease of its id, as there is a second port"
	}
	return ""
}

// fileOffer is offered for operations on files: only those that move contents
// may have an offer.
func (a *Agent) fileOffer(id uint32, e wire.Envelope, req *wire.FSRequest) (refusal string) {
	if why := a.offered(id, e, &req.Bulk); why != "" || req.Bulk == nil {
		return why
	}
	if files.MovesContents(req.Op) {
		return ""
	}
	return "raw bulk is only valid for streaming reads and writes"
}
