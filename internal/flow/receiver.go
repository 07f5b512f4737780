package flow

import (
	"fmt"
	"sync"

	"github.com/agentd-go/agentd/wire"
)

// A Receiver is the receiving end of a stream.
type Receiver interface {
	// Open allows records within the agreed bounds. A second call is ErrMisplaced.
	Open(record int, window uint64) error

	// Expect allows records before Open, within these bounds: records on a port of
	// their own may overtake the agreement.
	Expect(record int, window uint64)

	// Message checks whether data, or its end, may come as a message.
	Message() error

	// Record checks a record, and returns how many bytes have come so far.
	Record(r wire.Record) (received uint64, err error)

	// Finish takes the sender's message about the length of the stream.
	Finish(m *wire.BulkFinish) error

	// Whole reports whether all records have come.
	Whole() bool

	// Behind reports whether the sender has finished and something is still to come.
	Behind() bool

	// Consumed notes that n bytes were written to their target. It grants more credit
	// when half of the window is used up.
	Consumed(n int)

	// End notes that the sender has ended: nothing is sent to it any more.
	End()

	// Cancel asks the sender to end the flow, unless it has ended.
	Cancel()
}

type messageReceiver struct{}

// ReceiveMessages returns a receiver of data messages.
func ReceiveMessages() Receiver { return messageReceiver{} }

func (messageReceiver) Open(int, uint64) error { return nil }

func (messageReceiver) Expect(int, uint64) {}

func (messageReceiver) Message() error { return nil }

func (messageReceiver) Record(wire.Record) (uint64, error) { return 0, ErrMisplaced }

func (messageReceiver) Finish(*wire.BulkFinish) error { return ErrMisplaced }

func (messageReceiver) Whole() bool { return true }

func (messageReceiver) Behind() bool { return false }

func (messageReceiver) Consumed(int) {}

func (messageReceiver) End() {}

func (messageReceiver) Cancel() {}

type recordReceiver struct {
	kind wire.BulkKind
	flow wire.BulkFlow
	tell func(wire.Message)

	mu       sync.Mutex
	accepted bool // By Open.
	open     bool // Records may come.
	early    func()
	over     bool // Nothing is sent to the sender any more.
	count    receiveCount
}

// ReceiveRecords returns a receiver of raw records. It sends credit and cancellation by
// tell, which must not wait.
func ReceiveRecords(kind wire.BulkKind, flow wire.BulkFlow, tell func(wire.Message)) Receiver {
	return &recordReceiver{kind: kind, flow: flow, tell: tell, early: func() {}}
}

func (r *recordReceiver) Open(record int, window uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.accepted {
		return ErrMisplaced
	}
	r.accepted = true
	r.openLocked(record, window)
	return nil
}

func (r *recordReceiver) openLocked(record int, window uint64) {
	if !r.open { // A second time would grant the whole window again.
		r.open, r.count = true, newReceiveCount(record, window)
	}
}

func (r *recordReceiver) Expect(record int, window uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.early = func() { r.openLocked(record, window) }
}

func (*recordReceiver) Message() error { return ErrRecords }

func (r *recordReceiver) Record(p wire.Record) (received uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.early()
	if err = r.checkLocked("record", r.open, p.Kind, p.Flow); err == nil {
		err = r.count.Record(p.Offset, len(p.Data))
	}
	return r.count.Received(), err
}

func (r *recordReceiver) Finish(m *wire.BulkFinish) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.checkLocked("finish", r.accepted, m.Kind, m.Flow); err != nil {
		return err
	}
	return r.count.Finish(m.FinalOffset)
}

// checkLocked returns an error if a step is out of place.
func (r *recordReceiver) checkLocked(what string, open bool, kind wire.BulkKind, flow wire.BulkFlow) error {
	switch {
	case !open:
		return fmt.Errorf("bulk %s before the offer was accepted", what)
	case kind != r.kind || flow != r.flow:
		return fmt.Errorf("bulk %s of another kind or flow", what)
	}
	return nil
}

func (r *recordReceiver) Whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.open || r.count.Whole()
}

func (r *recordReceiver) Behind() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted && r.count.Behind()
}

// Consumed grants at most twice for each window. The sender can send one window ahead, so
// no more than two grants ever wait.
func (r *recordReceiver) Consumed(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n == 0 || !r.open || r.over || !r.count.Consume(n) {
		return
	}
	consumed, limit := r.count.Grant()
	r.tell(&wire.BulkCredit{Kind: r.kind, Flow: r.flow, ConsumedOffset: consumed, CreditLimit: limit})
}

func (r *recordReceiver) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

func (r *recordReceiver) Cancel() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over = true
	r.tell(cancel(r.kind))
}
