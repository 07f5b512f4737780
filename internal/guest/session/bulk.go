package session

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
	// maxTCPRecord bounds the records of connections, as in the reference agents.
	maxTCPRecord = 256 << 10

	// windowBudget is what the windows of all flows into the guest come from: as
	// much as all input may hold in memory, so that what is granted fits there.
	windowBudget = InputBudget

	// windowRecords is how many of the longest records a window holds: enough for
	// either side not to wait for the other. Long records get the usual window, as in
	// the reference agents; for short ones less does, and is less to hold.
	windowRecords = 16
	smallWindow   = 1 << 20 // As long as a file system may take for a turn.

	// minWindow is granted also when the budget is used up: two of the smallest
	// records. What then does not fit memory waits on disk, as any input does.
	minWindow = 2 * bulk.MinRecord
)

// A Carrier is a session whose data can move as raw records (protocol section 12).
// What is wrong with a flow ends its session and nothing else.
type Carrier interface {
	Session
	// Record takes a piece of the flow into the guest.
	Record(wire.Record)
	// Credit lets the flow out of the guest go on.
	Credit(*wire.BulkCredit)
	// FinishFlow says how long the flow into the guest is.
	FinishFlow(*wire.BulkFinish)
	// Break ends the session with a text; tell says by core.bulk.cancel first that
	// the host broke the protocol.
	Break(why string, tell bool)
}

// A flowError ends a session by a text that gets no prefix.
type flowError struct {
	text string
	tell bool // The host is told by core.bulk.cancel first.
}

func (e *flowError) Error() string { return e.text }

// brokenBy makes the error of a text that may be a host's.
func brokenBy(why string, tell bool) *flowError {
	return &flowError{repeated(why), tell}
}

// farewell says what precedes the terminal frame of a session that ends with err.
func (l *line) farewell(kind wire.BulkKind, err error) {
	if broken, ok := errors.AsType[*flowError](err); ok && broken.tell {
		l.put(&wire.BulkCancel{Kind: kind, Reason: wire.CancelProtocol, Message: broken.text})
	}
}

// checkOffer says what is wrong with an offer. credit is what it must grant: some
// or nothing. A longer record than there can be is only an offer.
func checkOffer(what string, o *wire.BulkOffer, credit bool) error {
	switch {
	case o.Format != bulk.Format:
		return wholeError(fmt.Sprintf("%s bulk offer has the unknown format %d", what, o.Format))
	case o.MaxRecordPayload < bulk.MinRecord:
		return wholeError(fmt.Sprintf("%s bulk offer has records of %d bytes, less than %d", what, o.MaxRecordPayload, bulk.MinRecord))
	case credit && o.GuestToHostCreditLimit == 0:
		return wholeError(what + " bulk offer must grant guest-to-host credit")
	case !credit && o.GuestToHostCreditLimit != 0:
		return wholeError(what + " bulk offer must not grant guest-to-host credit")
	case o.GuestToHostCreditLimit > bulk.MaxWindow:
		return wholeError(fmt.Sprintf("%s bulk offer grants %d bytes, more than %d", what, o.GuestToHostCreditLimit, bulk.MaxWindow))
	}
	return nil
}

// windows are what flows into the guest are granted, together within a budget: each
// gets what suits its records, or half of what is left.
type windows struct {
	mu   sync.Mutex
	used int
}

func (w *windows) take(record int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	suits := min(bulk.DefaultWindow, max(windowRecords*record, smallWindow))
	n := min(suits, max((windowBudget-w.used)/2, minWindow))
	w.used += n
	return n
}

func (w *windows) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
}

// An inflow is a flow into the guest. The bytes wait in the session's inbox.
type inflow struct {
	*line
	kind   wire.BulkKind
	in     *mux.Inbox
	record int // The longest record's data.

	mu     sync.Mutex
	window int // 0 when it has been given back.
	open   bool
	flow   bulk.Receiver
}

// inflow reserves a window, and makes the inbox for it. The records are short
// enough for two of them to fit, or a flow could stand still half a record short.
func (l *line) inflow(kind wire.BulkKind, record int) *inflow {
	window := l.host.windows.take(record)
	return &inflow{
		line: l, kind: kind, window: window, in: l.host.inbox(max(window, stdinMemory)),
		record: min(record, window/2),
	}
}

// accept opens the flow; its limit is for core.bulk.accepted.
func (f *inflow) accept() (limit uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.flow = true, bulk.NewReceiver(f.record, uint64(f.window))
	return f.flow.Limit()
}

// kindName is what texts call a kind.
func kindName(kind wire.BulkKind) string {
	if kind == wire.BulkFS {
		return "filesystem"
	}
	return "TCP"
}

// judge does one step of the flow, and breaks its session if that is a slip. A nil
// flow is a session that moves no records.
func (f *inflow) judge(what string, kind wire.BulkKind, flow wire.BulkFlow, to Carrier, step func() error) {
	if f == nil {
		to.Break("raw bulk is invalid without an accepted offer", true)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	switch {
	case !f.open:
		err = fmt.Errorf("bulk %s before the offer was accepted", what)
	case kind != f.kind || flow != wire.FlowHostToGuest:
		err = fmt.Errorf("bulk %s of another kind or flow", what)
	default:
		err = step()
	}
	if err != nil {
		to.Break(fmt.Sprintf("invalid %s bulk %s: %v", kindName(f.kind), what, err), true)
	}
}

// take judges a record, and keeps it, told how many bytes have come with it: a finish,
// which may come by another port, must not be between the two.
func (f *inflow) take(r wire.Record, to Carrier, keep func(received uint64)) {
	f.judge("record", r.Kind, r.Flow, to, func() error {
		err := f.flow.Record(r.Offset, len(r.Data))
		if err == nil {
			keep(f.flow.Received())
			f.endIfWholeLocked()
		}
		return err
	})
}

// finish is told the length of the flow.
func (f *inflow) finish(m *wire.BulkFinish, to Carrier) {
	f.judge("finish", m.Kind, m.Flow, to, func() error {
		err := f.flow.Finish(m.FinalOffset)
		if err == nil {
			f.endIfWholeLocked()
		}
		return err
	})
}

// endIfWholeLocked ends the session's input when all of it has come.
func (f *inflow) endIfWholeLocked() {
	if f.flow.Whole() {
		f.in.End()
	}
}

// consumed grants more when n bytes are where they belong, if it is time to. The
// host can owe us no more than a window, so no more than two grants ever wait.
func (f *inflow) consumed(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open || !f.flow.Consume(n) {
		return
	}
	consumed, limit := f.flow.Grant()
	f.put(&wire.BulkCredit{Kind: f.kind, Flow: wire.FlowHostToGuest, ConsumedOffset: consumed, CreditLimit: limit})
}

// close gives the window back.
func (f *inflow) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.host.windows.give(f.window)
	f.window = 0
}

// An outflow is a flow out of the guest: what a pump reads, within what the host
// has granted.
type outflow struct {
	kind    wire.BulkKind
	record  int    // The longest record's data.
	granted uint64 // By the offer.
	at      uint64 // Where the next record begins; the pump's alone.
	from    source
	of      []byte // What goes before each record: the incarnation, on the second port.

	mu   sync.Mutex
	more sync.Cond
	flow bulk.Sender
	err  error // Why nothing more is to be sent.
}

func (l *line) outflow(kind wire.BulkKind, record int, limit uint64) *outflow {
	o := &outflow{kind: kind, record: record, granted: limit, flow: bulk.NewSender(record, limit)}
	o.more.L = &o.mu
	if l.host.Records != nil {
		of := l.host.Incarnation(l.id)
		o.of, l.bulk = of[:], l.host.Records.Outbox(0)
	}
	return o
}

// isFor reports whether a credit is for this flow.
func (o *outflow) isFor(m *wire.BulkCredit) bool {
	return m.Kind == o.kind && m.Flow == wire.FlowGuestToHost
}

// credit lets the flow go on, or breaks its session.
func (o *outflow) credit(m *wire.BulkCredit, to Carrier) {
	o.mu.Lock()
	err := o.flow.Credit(m.ConsumedOffset, m.CreditLimit)
	o.more.Broadcast()
	o.mu.Unlock()
	if err != nil {
		to.Break(fmt.Sprintf("invalid %s bulk credit: %v", kindName(o.kind), err), false)
	}
}

// fail ends the flow where it is. Only the first reason counts.
func (o *outflow) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.err = err
	}
	o.more.Broadcast()
}

// room is how many of n bytes may be sent; with wait it waits for some. Nobody but
// the pump makes it less.
func (o *outflow) room(n int, wait bool) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for wait && o.err == nil && o.flow.Room() == 0 {
		o.more.Wait()
	}
	if o.err != nil {
		return 0, o.err
	}
	return min(n, o.flow.Room()), nil
}

// took counts n bytes as sent.
func (o *outflow) took(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flow.Take(n)
}

// Read reads what may be sent. That the source has ended needs no credit: so one
// byte is read without, and waits here for its own.
func (o *outflow) Read(b []byte) (int, error) {
	room, err := o.room(len(b), false)
	if err != nil {
		return 0, err
	}
	if room > 0 {
		n, err := o.from.Read(b[:room])
		o.took(n)
		return n, err
	}
	n, ended := o.from.Read(b[:1])
	if n == 0 {
		return 0, ended
	}
	if room, err = o.room(len(b), true); err != nil {
		return 0, err
	}
	if ended == nil {
		var more int
		more, ended = o.from.Try(b[1:room])
		n += more
	}
	o.took(n)
	return n, ended
}

// Try reads what is there and may be sent.
func (o *outflow) Try(b []byte) (int, error) {
	room, err := o.room(len(b), false)
	if room == 0 {
		return 0, err
	}
	n, err := o.from.Try(b[:room])
	o.took(n)
	return n, err
}

// head makes a record of the n bytes behind b's head, as wire.PutDataHead makes a
// message.
func (o *outflow) head(b []byte, id uint32, n int) (start int) {
	start = wire.DataHead - wire.RecordHead - frame.HeaderSize
	frame.PutHeader(b[start:], id, frame.Bulk, wire.RecordHead+n)
	wire.PutRecordHead(b[start+frame.HeaderSize:], o.kind, wire.FlowGuestToHost, o.at)
	o.at += uint64(n)
	start -= len(o.of)
	copy(b[start:], o.of)
	return start
}

// finish is the message that ends the flow.
func (o *outflow) finish() *wire.BulkFinish {
	return &wire.BulkFinish{Kind: o.kind, Flow: wire.FlowGuestToHost, FinalOffset: o.at}
}
