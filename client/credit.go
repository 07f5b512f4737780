package client

import (
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// newCredit keeps a writer to an agent's transport credit (protocol section 15.1).
func newCredit(w *mux.Writer) *mux.Credit {
	control, data := totals(wire.FirstCredit())
	c := mux.NewCredit(control, data)
	c.Share(w, classOf)
	return c
}

// classOf is what a frame of ours counts as.
func classOf(b []byte) mux.Class {
	const flags = frame.HeaderSize - 1 // The header's last byte.
	if frame.Flags(b[flags]) == frame.Bulk {
		return mux.Data
	}
	if e, err := wire.DecodeEnvelope(b[frame.HeaderSize:]); err == nil && wire.CountsAsData(e.Type) {
		return mux.Data
	}
	return mux.Control
}

// grant takes the agent's word on how much it takes from us, or on freezing.
func (c *Client) grant(f frame.Frame) {
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return
	}
	m, err := wire.Decode(e)
	if err != nil {
		return
	}
	if credit, ok := m.(*wire.WorkloadTransportCredit); ok {
		c.credit.Grant(totals(credit.TransportCounters))
		return
	}
	c.heard(m)
}
