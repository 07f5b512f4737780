package client

import (
	"errors"
	"fmt"
	"sync"

	"github.com/agentd-go/agentd/internal/bulk"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

const (
	// bulkFrom is the least that is worth a flow of its own: opening and ending one
	// takes two messages more, and writes wait for the agent's consent.
	bulkFrom = 256 << 10

	// bulkRecord is how long our records are: nothing can pass one that has begun
	// to leave, as with fileChunk.
	bulkRecord = 128 << 10

	// bulkWindow is what the agent may send beyond what was read, as much as reference
	// hosts grant. An emulated machine with one processor may need 20 ms to hear of a
	// grant beside what it sends, 4 MiB at its speed; that is the half which is left
	// when we grant.
	bulkWindow = bulk.DefaultWindow

	// bulkPiece is the most of a file that one flow moves. A flow costs a round
	// trip, which is nothing beside that many bytes; and it ends for who reads and
	// writes by turns.
	bulkPiece = 64 << 20
)

// Bulk says how the contents of large files and of connections are moved. The zero
// value suits most.
//
// Agents of generation 8 can send and take raw records, with credit for each file
// and connection: what one reader leaves unread then waits in the guest, and holds
// up nothing else.
type Bulk struct {
	Off    bool // Use data messages, as with older agents.
	Record int  // The longest record in bytes, 16 KiB to 3 MiB; 0 is 128 KiB.
	Window int  // What an agent may send before it is read, up to 32 MiB; 0 is 8 MiB.
}

// SetBulk says how transfers that begin from now on move their data. Values outside
// their range are moved into it.
func (c *Client) SetBulk(b Bulk) { c.bulk.Store(&b) }

// offer is the part of a request that offers raw records: for size bytes towards
// us, or 0 for bytes the other way. It is nil if there are to be none.
func (c *Client) offer(size int64) *wire.BulkOffer {
	b := Bulk{}
	if set := c.bulk.Load(); set != nil {
		b = *set
	}
	if b.Off || c.generation < wire.BulkSince {
		return nil
	}
	o := &wire.BulkOffer{Format: bulk.Format, MaxRecordPayload: uint32(within(b.Record, bulkRecord, bulk.MinRecord, bulk.MaxRecord))}
	if size > 0 {
		o.GuestToHostCreditLimit = uint64(min(size, int64(within(b.Window, bulkWindow, 1, bulk.MaxWindow))))
	}
	return o
}

func within(n, usual, least, most int) int {
	if n == 0 {
		return usual
	}
	return max(least, min(n, most))
}

// isFlow reports whether a message is about a raw flow.
func isFlow(t wire.Type) bool {
	return t == wire.TypeBulkAccepted || t == wire.TypeBulkCredit || t == wire.TypeBulkFinish || t == wire.TypeBulkCancel
}

// A carrier is a receiver whose data may come as raw records.
type carrier interface {
	receiver
	record(r wire.Record) error
	behind() bool // See inflow.behind.
}

// deliverRecord gives a raw record to whom it is for.
func deliverRecord(r receiver, f frame.Frame) error {
	to, ok := r.(carrier)
	if !ok {
		return &FrameError{Err: errUnexpected}
	}
	record, err := wire.DecodeRecord(f.Body)
	if err == nil {
		err = to.record(record)
	}
	if err != nil {
		return &FrameError{Err: err}
	}
	return nil
}

// checkAccepted holds an agent's consent against the offer.
func checkAccepted(m *wire.BulkAccepted, o *wire.BulkOffer, kind wire.BulkKind, flows wire.BulkFlow) error {
	if m.Kind != kind || m.Flows != flows || m.Format != o.Format || m.MaxRecordPayload == 0 ||
		m.MaxRecordPayload > o.MaxRecordPayload || m.GuestToHostCreditLimit != o.GuestToHostCreditLimit {
		return fmt.Errorf("bulk offer %+v was accepted as %+v", *o, *m)
	}
	return nil
}

// An inflow is the end of a flow that comes from the guest. The reading goroutine
// receives, others consume.
type inflow struct {
	c     *Client
	kind  wire.BulkKind
	offer *wire.BulkOffer

	mu       sync.Mutex
	id       uint32
	open     bool // Something may come.
	accepted bool // The agent has said so.
	over     bool // Nobody is to be told anything any more.
	flow     bulk.Receiver
}

// inflow returns the end for an offer, nil for none.
func (c *Client) inflow(kind wire.BulkKind, o *wire.BulkOffer) *inflow {
	if o == nil {
		return nil
	}
	return &inflow{c: c, kind: kind, offer: o}
}

// accept opens the flow, once: to do it again would grant the whole window anew.
func (f *inflow) accept(id uint32, record uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.accepted {
		return errUnexpected
	}
	f.accepted = true
	f.openLocked(id, record)
	return nil
}

// openLocked is accept, or what stands for it if a record comes first: one that has a
// port of its own can overtake the agent's consent. What is offered is the bound then.
func (f *inflow) openLocked(id uint32, record uint32) {
	if !f.open {
		f.id, f.open = id, true
		f.flow = bulk.NewReceiver(int(record), f.offer.GuestToHostCreditLimit)
	}
}

// receive takes a message about the flow of a file that is read.
func (f *inflow) receive(id uint32, e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.BulkAccepted:
		if err := checkAccepted(m, f.offer, f.kind, wire.FlowGuestToHost); err != nil {
			return err
		}
		return f.accept(id, m.MaxRecordPayload)
	case *wire.BulkFinish:
		return f.finish(m)
	case *wire.BulkCancel:
		return nil // The response says it too.
	}
	return errUnexpected
}

func (f *inflow) finish(m *wire.BulkFinish) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.accepted || m.Kind != f.kind || m.Flow != wire.FlowGuestToHost {
		return errUnexpected
	}
	return f.flow.Finish(m.FinalOffset)
}

// take judges a record.
func (f *inflow) take(id uint32, r wire.Record) error {
	if f == nil {
		return errUnexpected
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.c.twoPorts() {
		f.openLocked(id, f.offer.MaxRecordPayload)
	}
	if !f.open || r.Kind != f.kind || r.Flow != wire.FlowGuestToHost {
		return errUnexpected
	}
	return f.flow.Record(r.Offset, len(r.Data))
}

// whole reports whether all has come, or nothing comes this way.
func (f *inflow) whole() bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.open || f.flow.Whole()
}

// behind reports whether the flow has been said to end and has not: the rest comes by
// another port than its end.
func (f *inflow) behind() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accepted && f.flow.Behind()
}

// consumed grants more when n bytes were read, if it is time to. Grants are as few
// as windows that the agent has filled.
func (f *inflow) consumed(n int) {
	if f == nil || n == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open || f.over || !f.flow.Consume(n) {
		return
	}
	consumed, limit := f.flow.Grant()
	f.c.farewell(f.id, &wire.BulkCredit{Kind: f.kind, Flow: wire.FlowGuestToHost, ConsumedOffset: consumed, CreditLimit: limit})
}

// end notes that the agent has ended the flow.
func (f *inflow) end() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
}

// cancel has the agent end a flow that nobody reads, once.
func (f *inflow) cancel(id uint32) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	f.over = true
	f.c.farewell(id, given(f.kind))
}

// given is what gives a flow up.
func given(kind wire.BulkKind) *wire.BulkCancel {
	return &wire.BulkCancel{Kind: kind, Reason: wire.CancelCaller, Message: "given up by the caller"}
}

// An outflow is the end of a flow to the guest.
type outflow struct {
	kind  wire.BulkKind
	offer *wire.BulkOffer

	mu      sync.Mutex
	open    bool
	flow    bulk.Sender
	changed chan struct{} // Closed, and replaced, when there may be more room.
}

func newOutflow(kind wire.BulkKind, o *wire.BulkOffer) *outflow {
	if o == nil {
		return nil
	}
	return &outflow{kind: kind, offer: o, changed: make(chan struct{})}
}

func (o *outflow) accept(record uint32, limit uint64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open {
		return errUnexpected
	}
	o.open, o.flow = true, bulk.NewSender(int(record), limit)
	o.wakeLocked()
	return nil
}

func (o *outflow) wakeLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// wake has whoever waits for room look again.
func (o *outflow) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wakeLocked()
}

// receive takes a message about the flow of a file that is written.
func (o *outflow) receive(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.BulkAccepted:
		if err := checkAccepted(m, o.offer, o.kind, wire.FlowHostToGuest); err != nil {
			return err
		}
		return o.accept(m.MaxRecordPayload, m.HostToGuestCreditLimit)
	case *wire.BulkCredit:
		return o.credit(m)
	case *wire.BulkCancel:
		return nil // The response says it too.
	}
	return errUnexpected
}

func (o *outflow) credit(m *wire.BulkCredit) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open || m.Kind != o.kind || m.Flow != wire.FlowHostToGuest {
		return errUnexpected
	}
	if err := o.flow.Credit(m.ConsumedOffset, m.CreditLimit); err != nil {
		return err
	}
	o.wakeLocked()
	return nil
}

// room is how many of n bytes the next record may have. Where that is none, changed
// says when to look again.
func (o *outflow) room(n int) (room int, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return min(n, o.flow.Room()), o.changed
}

// accepted waits for the agent's consent, or for one of the ends.
func (o *outflow) accepted(over <-chan struct{}) bool {
	for {
		o.mu.Lock()
		open, changed := o.open, o.changed
		o.mu.Unlock()
		if open {
			return true
		}
		select {
		case <-changed:
		case <-over:
			return false
		}
	}
}

// record makes a frame of data that lies behind the room for a head, which Room has
// allowed, and counts it as sent: credit for it may come as soon as it is queued.
func (o *outflow) record(buf []byte, id uint32, n int) []byte {
	const head = frame.HeaderSize + wire.RecordHead
	b := buf[wire.DataHead-head : wire.DataHead+n]
	frame.PutHeader(b, id, frame.Bulk, wire.RecordHead+n)
	o.mu.Lock()
	defer o.mu.Unlock()
	wire.PutRecordHead(b[frame.HeaderSize:], o.kind, wire.FlowHostToGuest, o.flow.Sent())
	o.flow.Take(n)
	return b
}

// unsent takes the last record of n bytes back: it was not queued.
func (o *outflow) unsent(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flow.Untake(n)
}

// finish is the message that ends the flow.
func (o *outflow) finish() *wire.BulkFinish {
	o.mu.Lock()
	defer o.mu.Unlock()
	return &wire.BulkFinish{Kind: o.kind, Flow: wire.FlowHostToGuest, FinalOffset: o.flow.Sent()}
}

// errOver is why a piece was not sent: the agent has ended the flow.
var errOver = errors.New("the flow has ended")

// piece sends some of data when there is room for it: from buf, where data lies
// behind the room for a head and belongs to the link then, or from a copy if that is
// nil or only a part can go. taken is 0 without an error when it is to be asked
// again, unless stop is closed; over ends the flow.
func (o *outflow) piece(out *mux.Outbox, id uint32, buf, data []byte, stop, over <-chan struct{}) (taken int, err error) {
	n, changed := o.room(len(data))
	if n == 0 {
		select {
		case <-changed:
		case <-stop:
		case <-over:
			return 0, errOver
		}
		return 0, nil
	}
	if buf == nil || n < len(data) {
		buf = make([]byte, wire.DataHead+n)
		copy(buf[wire.DataHead:], data)
	}
	queued, err := out.SendUntil(stop, o.record(buf, id, n))
	if !queued || err != nil {
		o.unsent(n)
		return 0, err
	}
	return n, nil
}
