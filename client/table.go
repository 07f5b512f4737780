package client

import (
	"fmt"
	"sync"

	"github.com/agentd-go/agentd/wire"
	"github.com/agentd-go/agentd/wire/frame"
)

// A receiver handles the frames of one id.
type receiver interface {
	// receive takes a message with the flags of its type. Only the reading goroutine
	// calls it. An error says that the message is out of place; it is passed to fail.
	receive(e wire.Envelope) error

	// fail ends the session without waiting. Calls after the first have no effect.
	fail(err error)
}

// table has the ids in use and their receivers.
type table struct {
	ids IDs

	mu   sync.Mutex
	next uint32
	used map[uint32]receiver
	err  error // Why no more ids are given.
}

func newTable(ids IDs) table {
	return table{ids: ids, next: ids.Start, used: make(map[uint32]receiver)}
}

// add takes the next free id and enters the receiver that newReceiver makes for it. Ids go
// upwards and wrap, so that an ended id is reused as late as possible: late frames of a
// faulty agent for it find no receiver.
func (t *table) add(newReceiver func(id uint32) receiver) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	if t.ids.Start == 0 || t.ids.End <= t.ids.Start || len(t.used) >= int(t.ids.End-t.ids.Start) {
		return ErrNoID
	}
	id := t.takeLocked()
	for t.used[id] != nil {
		id = t.takeLocked()
	}
	t.used[id] = newReceiver(id)
	return nil
}

func (t *table) takeLocked() uint32 {
	id := t.next
	if t.next++; t.next == t.ids.End {
		t.next = t.ids.Start
	}
	return id
}

// find returns the receiver of a frame, or nil. It frees the id after the last frame.
func (t *table) find(f frame.Frame) receiver {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.used[f.ID]
	if f.Flags&frame.Terminal != 0 {
		delete(t.used, f.ID)
	}
	return r
}

// owner returns the receiver of an id, or nil.
func (t *table) owner(id uint32) receiver {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used[id]
}

// remove frees the id of r, unless another receiver has the id already.
func (t *table) remove(id uint32, r receiver) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used[id] == r {
		delete(t.used, id)
	}
}

// close refuses further ids and returns all receivers. Only the first call has an effect.
func (t *table) close(err error) (pending map[uint32]receiver, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil, false
	}
	pending, t.used, t.err = t.used, nil, err
	return pending, true
}

// empty frees all ids and returns their receivers.
func (t *table) empty() (pending map[uint32]receiver) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return nil
	}
	pending, t.used = t.used, make(map[uint32]receiver)
	return pending
}

func (t *table) ended() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// route gives a frame to its receiver. Frames without one are the rest of a session that
// ended, or are for the previous owner of this range of ids.
func (c *Client) route(f frame.Frame) {
	if c.credit != nil && f.ID == wire.WorkloadID {
		c.grant(f)
		return
	}
	if c.twoPorts() && c.postpone(f) {
		return
	}
	r := c.calls.find(f)
	if r == nil {
		return
	}
	if err := deliver(r, f); err != nil {
		r.fail(err)
	}
	if f.Flags == frame.Bulk {
		c.resume(f.ID)
	}
}

func deliver(r receiver, f frame.Frame) error {
	if f.Flags == frame.Bulk {
		return deliverRecord(r, f)
	}
	e, err := wire.DecodeEnvelope(f.Body)
	if err != nil {
		return &FrameError{Err: err}
	}
	info, known := wire.Lookup(e.Type)
	switch {
	case !known:
		return &FrameError{Type: string(e.Type), Err: &wire.UnknownTypeError{Type: e.Type}}
	case info.Flags != f.Flags:
		return &FrameError{Type: string(e.Type), Err: fmt.Errorf("flags %v, want %v", f.Flags, info.Flags)}
	case e.Type == wire.TypeProtocolError:
		return refusal(e)
	}
	if err := r.receive(e); err != nil {
		return &FrameError{Type: string(e.Type), Err: err}
	}
	return nil
}

// refusal makes a ProtocolError of the agent's error message.
func refusal(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return &FrameError{Type: string(e.Type), Err: err}
	}
	refused, ok := m.(*wire.ProtocolError)
	if !ok {
		return &FrameError{Type: string(e.Type), Err: errUnexpected}
	}
	return newProtocolError(refused)
}

func newProtocolError(m *wire.ProtocolError) *ProtocolError {
	e := &ProtocolError{Kind: string(m.Kind), Message: m.Message, OffendingType: string(m.OffendingType)}
	if m.WorkloadFailure != nil {
		e.Disposition = m.WorkloadFailure.Disposition
	}
	return e
}
