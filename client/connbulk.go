package client

import (
	"io"

	"github.com/agentd-go/agentd/wire"
)

// What a connection makes of raw records: a flow each way.

// receiveFlow takes a message about the flows.
func (n *Conn) receiveFlow(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.BulkAccepted:
		return n.accept(m)
	case *wire.BulkCredit:
		return n.to.credit(m)
	case *wire.BulkFinish:
		if err := n.from.finish(m); err != nil {
			return err
		}
		n.heardAll()
		return nil
	case *wire.BulkCancel:
		return nil // core.tcp.failed says it too.
	}
	return errUnexpected
}

func (n *Conn) accept(m *wire.BulkAccepted) error {
	if !n.isConnected() {
		return errUnexpected
	}
	if err := checkAccepted(m, n.to.offer, wire.BulkTCP, wire.FlowHostToGuest|wire.FlowGuestToHost); err != nil {
		return err
	}
	if err := n.from.accept(n.id, m.MaxRecordPayload); err != nil {
		return err
	}
	return n.to.accept(m.MaxRecordPayload, m.HostToGuestCreditLimit)
}

// record takes a piece of what the peer says.
func (n *Conn) record(r wire.Record) error {
	if err := n.from.take(n.id, r); err != nil {
		return err
	}
	if !n.in.push(r.Data) {
		n.from.consumed(len(r.Data)) // Nobody reads any more; the peer may still finish.
	}
	n.heardAll()
	return nil
}

func (n *Conn) behind() bool { return n.from.behind() }

// heardAll notes the end of what the peer says, when all of it has come.
func (n *Conn) heardAll() {
	if n.from.whole() {
		n.in.finish(io.EOF)
		n.half(&n.got)
	}
}

// finishWrites says how much was written, behind whoever is writing it and not before
// the agent knows the flow.
func (n *Conn) finishWrites() {
	n.to.wake()
	n.writing.Lock()
	defer n.writing.Unlock()
	if n.to.accepted(n.over) {
		n.tell(n.to.finish())
	}
}
