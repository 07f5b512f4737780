package session

import (
	"fmt"

	"github.com/agentd-go/agentd/internal/bulk"
	"github.com/agentd-go/agentd/internal/guest/sys"
	"github.com/agentd-go/agentd/wire"
)

// What each kind of session makes of raw records. The texts are the reference
// agents', where they have one (protocol section 12.5).

// take notes an offer for the sending of a file.
func (r *Read) take(o *wire.BulkOffer) error {
	if err := checkOffer("filesystem read", o, true); err != nil {
		return err
	}
	r.flow = r.outflow(wire.BulkFS, int(min(o.MaxRecordPayload, bulk.MaxRecord)), o.GuestToHostCreditLimit)
	return nil
}

// accept begins the flow, behind the host's word that it does.
func (r *Read) accept(from source) source {
	r.flow.from = from
	r.put(&wire.BulkAccepted{
		Kind: wire.BulkFS, Flows: wire.FlowGuestToHost, Format: bulk.Format,
		MaxRecordPayload: uint32(r.flow.record), GuestToHostCreditLimit: r.flow.granted,
	})
	return r.flow
}

// Record is for a writer, which this is not.
func (r *Read) Record(wire.Record) { r.noWriter() }

// FinishFlow is for a writer, which this is not.
func (r *Read) FinishFlow(*wire.BulkFinish) { r.noWriter() }

func (r *Read) noWriter() { r.Break(fmt.Sprintf("unknown filesystem write session: %d", r.id), true) }

// Credit lets the flow go on.
func (r *Read) Credit(m *wire.BulkCredit) {
	if r.flow == nil || !r.flow.isFor(m) {
		r.Break("filesystem read received credit for another kind or flow", true)
		return
	}
	r.flow.credit(m, r)
}

// Break ends the sending with a text. One without records goes on: its host has no
// word that ends it.
func (r *Read) Break(why string, tell bool) {
	if r.flow != nil {
		r.flow.fail(brokenBy(why, tell))
	}
}

// take notes an offer for the receiving of a file.
func (w *Write) take(o *wire.BulkOffer) error {
	if err := checkOffer("filesystem write", o, false); err != nil {
		return err
	}
	w.flow = w.inflow(wire.BulkFS, int(min(o.MaxRecordPayload, bulk.MaxRecord)))
	w.in = w.flow.in
	return nil
}

// accept opens the flow.
func (w *Write) accept() {
	w.put(&wire.BulkAccepted{
		Kind: wire.BulkFS, Flows: wire.FlowHostToGuest, Format: bulk.Format,
		MaxRecordPayload: uint32(w.flow.record), HostToGuestCreditLimit: w.flow.accept(),
	})
}

// Record takes a piece of the file.
func (w *Write) Record(r wire.Record) {
	w.flow.take(r, w, func(received uint64) {
		if received > w.want {
			w.Break(fmt.Sprintf("write length mismatch: expected %d, received at least %d", w.want, received), false)
		} else {
			w.keep(r.Data)
		}
	})
}

// FinishFlow says how long the file is.
func (w *Write) FinishFlow(m *wire.BulkFinish) { w.flow.finish(m, w) }

// Credit is for a reader, which this is not.
func (w *Write) Credit(*wire.BulkCredit) {
	w.Break("filesystem write received credit for another kind or flow", true)
}

// Break ends the receiving with a text.
func (w *Write) Break(why string, tell bool) { w.stop(brokenBy(why, tell)) }

// take notes an offer for a connection.
func (t *TCP) take(o *wire.BulkOffer) error {
	if err := checkOffer("TCP", o, true); err != nil {
		return err
	}
	record := int(min(o.MaxRecordPayload, maxTCPRecord))
	t.into = t.inflow(wire.BulkTCP, record)
	t.in = t.into.in
	t.outOf = t.outflow(wire.BulkTCP, t.into.record, o.GuestToHostCreditLimit)
	return nil
}

// accept opens both flows.
func (t *TCP) accept() {
	t.put(&wire.BulkAccepted{
		Kind: wire.BulkTCP, Flows: wire.FlowHostToGuest | wire.FlowGuestToHost, Format: bulk.Format,
		MaxRecordPayload: uint32(t.into.record), HostToGuestCreditLimit: t.into.accept(),
		GuestToHostCreditLimit: t.outOf.granted,
	})
}

// pump is what sends the peer's bytes.
func (t *TCP) pump(from *sys.Reader) *pump {
	p := &pump{line: t.line, kind: wire.TypeTCPData, from: from, count: &t.host.Activity.tcp}
	if t.outOf != nil {
		t.outOf.from = from
		p.from, p.flow = t.outOf, t.outOf
	}
	return p
}

// lastWord says that the peer has ended its half.
func (t *TCP) lastWord() wire.Message {
	if t.outOf != nil {
		return t.outOf.finish()
	}
	return &wire.TCPEOF{}
}

// Record takes bytes for the peer.
func (t *TCP) Record(r wire.Record) {
	t.into.take(r, t, func(uint64) { t.keep(r.Data) })
}

// FinishFlow says how much the peer is to get.
func (t *TCP) FinishFlow(m *wire.BulkFinish) { t.into.finish(m, t) }

// Credit lets the flow from the peer go on.
func (t *TCP) Credit(m *wire.BulkCredit) {
	if t.outOf == nil || !t.outOf.isFor(m) {
		t.Break("TCP session received credit for another kind or flow", true)
		return
	}
	t.outOf.credit(m, t)
}

// Break ends the connection with a text.
func (t *TCP) Break(why string, tell bool) { t.breaks("", brokenBy(why, tell)) }
