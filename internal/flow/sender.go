package flow

import (
	"errors"
	"sync"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// Errors of both ends.
var (
	// ErrMisplaced says that a message is about another flow, or about none.
	ErrMisplaced = errors.New("message out of place")

	// ErrRecords says that data came as a message after records were agreed on.
	ErrRecords = errors.New("data message after the agreement on raw records")
)

// A Sender is the sending end of a stream.
type Sender interface {
	// Open sets the agreed bounds. A second call is ErrMisplaced.
	Open(record int, limit uint64) error

	// Longest returns how many of n bytes one frame may have, without regard to credit.
	Longest(n int) int

	// Room returns how many of n bytes the next frame may have now. If that is 0 and
	// there is no error, the caller waits until changed is closed and calls Room again.
	Room(n int) (room int, changed <-chan struct{}, err error)

	// Take counts n bytes, which Room has allowed, as sent. Untake undoes that for a
	// frame that was not sent.
	Take(n int)
	Untake(n int)

	// Frame makes a frame of the n bytes at b[wire.DataHead:], which were taken: it
	// writes the head before them.
	Frame(b []byte, id uint32, n int) []byte

	// Credit moves the limit on.
	Credit(m *wire.BulkCredit) error

	// AwaitOpen waits for Open, or for Fail, whose reason it returns.
	AwaitOpen() error

	// Wake makes waiting callers of Room look again.
	Wake()

	// Fail ends the flow at once. Only the first reason counts.
	Fail(why error)

	// End returns the message after the last bytes, nil if the stream needs none.
	End() wire.Message

	// Cancel returns the message that gives the flow up, nil if there is none.
	Cancel() wire.Message
}

type messageSender struct {
	generation wire.Generation
	kind       wire.Type
	last       wire.Message
}

// SendMessages returns a sender by data messages of one type. The message last
// ends the stream.
func SendMessages(generation wire.Generation, kind wire.Type, last wire.Message) Sender {
	return &messageSender{generation, kind, last}
}

func (*messageSender) Open(int, uint64) error { return nil }

func (*messageSender) Longest(n int) int { return n }

func (*messageSender) Room(n int) (int, <-chan struct{}, error) { return n, nil, nil }

func (*messageSender) Take(int) {}

func (*messageSender) Untake(int) {}

func (s *messageSender) Frame(b []byte, id uint32, n int) []byte {
	return b[wire.PutDataHead(b, s.generation, id, s.kind, n) : wire.DataHead+n]
}

func (*messageSender) Credit(*wire.BulkCredit) error { return ErrMisplaced }

func (*messageSender) AwaitOpen() error { return nil }

func (*messageSender) Wake() {}

func (*messageSender) Fail(error) {}

func (s *messageSender) End() wire.Message { return s.last }

func (*messageSender) Cancel() wire.Message { return nil }

type recordSender struct {
	kind   wire.BulkKind
	flow   wire.BulkFlow
	before []byte

	mu      sync.Mutex
	open    bool
	count   sendCount
	next    uint64 // The offset of the next frame.
	err     error
	changed chan struct{} // Closed, and replaced, when there may be more room.
}

// SendRecords returns a sender by raw records, each after the bytes before, of which
// there are 16 at most. It has no room until it is open.
func SendRecords(kind wire.BulkKind, flow wire.BulkFlow, before []byte) Sender {
	return &recordSender{kind: kind, flow: flow, before: before, changed: make(chan struct{})}
}

func (s *recordSender) Open(record int, limit uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return ErrMisplaced
	}
	s.open, s.count = true, newSendCount(record, limit)
	s.wakeLocked()
	return nil
}

func (s *recordSender) Longest(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return min(n, s.count.record)
}

func (s *recordSender) Room(n int) (room int, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, nil, s.err
	}
	return min(n, s.count.Room()), s.changed, nil
}

func (s *recordSender) Take(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Take(n)
}

func (s *recordSender) Untake(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Untake(n)
	s.next -= uint64(n)
}

func (s *recordSender) Frame(b []byte, id uint32, n int) []byte {
	const head = frame.HeaderSize + wire.RecordHead
	s.mu.Lock()
	defer s.mu.Unlock()
	start := wire.DataHead - head
	frame.PutHeader(b[start:], id, frame.Bulk, wire.RecordHead+n)
	wire.PutRecordHead(b[start+frame.HeaderSize:], s.kind, s.flow, s.next)
	s.next += uint64(n)
	start -= len(s.before)
	copy(b[start:], s.before)
	return b[start : wire.DataHead+n]
}

func (s *recordSender) Credit(m *wire.BulkCredit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open || m.Kind != s.kind || m.Flow != s.flow {
		return ErrMisplaced
	}
	if err := s.count.Credit(m.ConsumedOffset, m.CreditLimit); err != nil {
		return err
	}
	s.wakeLocked()
	return nil
}

func (s *recordSender) AwaitOpen() error {
	for {
		s.mu.Lock()
		open, err, changed := s.open, s.err, s.changed
		s.mu.Unlock()
		if open || err != nil {
			return err
		}
		<-changed
	}
}

func (s *recordSender) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *recordSender) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *recordSender) Fail(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = why
	}
	s.wakeLocked()
}

func (s *recordSender) End() wire.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &wire.BulkFinish{Kind: s.kind, Flow: s.flow, FinalOffset: s.next}
}

func (s *recordSender) Cancel() wire.Message { return cancel(s.kind) }

// cancel returns the message by which a caller gives a flow up.
func cancel(kind wire.BulkKind) wire.Message {
	return &wire.BulkCancel{Kind: kind, Reason: wire.CancelCaller, Message: "given up by the caller"}
}
