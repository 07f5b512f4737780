package relay

import (
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

// Limits are how much a guest takes from its host in total: data, and all the rest.
type Limits struct {
	ControlBytes, ControlFrames uint64
	DataBytes, DataFrames       uint64
}

func (l Limits) totals() (control, data mux.Totals) {
	return mux.Totals{Bytes: l.ControlBytes, Frames: l.ControlFrames}, mux.Totals{Bytes: l.DataBytes, Frames: l.DataFrames}
}

// count keeps what leaves for the guest, by both ports, to its credit. What there is no
// credit for waits, and with it the client that it is of.
func (r *Relay) count() {
	if r.cfg.Words.Credit == nil {
		return
	}
	r.credit = mux.NewCredit(r.cfg.Words.First.totals())
	r.credit.Share(r.writer, func(b []byte) mux.Class {
		const flags = frame.HeaderSize - 1 // The header's last byte.
		f := frame.Frame{Flags: frame.Flags(b[flags]), Body: b[frame.HeaderSize:]}
		if f.Flags == frame.Bulk || r.cfg.Words.IsData(f) {
			return mux.Data
		}
		return mux.Control
	})
	if r.records != nil {
		r.credit.Share(r.records.writer, func([]byte) mux.Class { return mux.Data })
	}
}

// granted takes the guest's word on how much it takes.
func (r *Relay) granted(f frame.Frame) {
	if r.credit == nil {
		return
	}
	if l, ok := r.cfg.Words.Credit(f); ok {
		r.credit.Grant(l.totals())
	}
}
