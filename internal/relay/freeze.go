package relay

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire/frame"
)

// A Cut is a moment in which nothing is under way between a relay and its guest: the
// guest's commands stand still, the guest has handled all that was sent to it, and the
// relay has read all that the guest has sent. A relay can end at a cut, and another one
// go on from there ([Config.From]).
type Cut struct {
	Sent    Limits // What was sent to the guest in total.
	Limit   Limits // What the guest takes in total.
	Records uint64 // What the guest has sent on the second port in total, in bytes.
}

// An Answer is a guest's answer to the request to freeze or thaw.
type Answer struct {
	Attempt string // The request's name; "" if the guest could not read it.
	Err     error  // Why it was not carried out.
	Renewed bool   // Of a thaw: the guest has carried out what came with it.
	Limit   Limits // Of a freeze: see Cut.
	Records uint64 // Of a freeze: see Cut.
}

// A Freeze is a request to freeze, in frames that the relay cannot make.
type Freeze struct {
	Attempt string
	Ask     func(sent Limits) []byte
	Undo    []byte // The frame of the thaw that takes the freeze back.
}

var (
	errNoFreeze = errors.New("the agent cannot freeze its commands")
	errFrozen   = errors.New("the commands are frozen already")
	errThawed   = errors.New("the commands are not frozen")
)

// A barrier is the relay's part in freezing. Relay.mu guards its fields.
type barrier struct {
	frozen  bool
	attempt string      // Of the request that waits for its answer; "" if none does.
	answer  chan Answer // Capacity 1.
}

// Freeze stops what goes to the guest between two frames, asks the guest to freeze its
// commands, and reads all that it has sent before its answer. Then nothing moves until
// [Relay.Thaw]: what clients send waits. After an error everything goes on.
func (r *Relay) Freeze(ctx context.Context, q Freeze) (c Cut, err error) {
	if r.credit == nil || r.cfg.Words.Answer == nil {
		return c, errNoFreeze
	}
	answer, err := r.expect(q.Attempt, false)
	if err != nil {
		return c, err
	}
	defer func() {
		if err != nil {
			r.writer.Express().TrySend(q.Undo) // Fails only at the end of the link.
			r.goOn()
		}
	}()
	r.park()
	if c.Sent, err = r.sentByNow(ctx); err != nil {
		return c, err
	}
	r.writer.Express().TrySend(q.Ask(c.Sent))
	a, err := r.awaitAnswer(ctx, answer)
	if err != nil {
		return c, err
	}
	c.Limit, c.Records = a.Limit, a.Records
	return c, r.awaitRecords(ctx, a.Records)
}

// Thaw sends the frame that ends a freeze, and lets everything go on when the guest has
// answered. After an error nothing goes on.
func (r *Relay) Thaw(ctx context.Context, attempt string, ask []byte) (a Answer, err error) {
	answer, err := r.expect(attempt, true)
	if err != nil {
		return a, err
	}
	r.writer.Express().TrySend(ask)
	if a, err = r.awaitAnswer(ctx, answer); err != nil {
		return a, err
	}
	r.goOn()
	return a, nil
}

// expect makes the relay wait for an answer, in the given state.
func (r *Relay) expect(attempt string, frozen bool) (<-chan Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.barrier
	switch {
	case r.err != nil:
		return nil, r.err
	case b.frozen && !frozen:
		return nil, errFrozen
	case !b.frozen && frozen:
		return nil, errThawed
	}
	b.frozen, b.attempt, b.answer = true, attempt, make(chan Answer, 1)
	return b.answer, nil
}

// goOn lets everything move again.
func (r *Relay) goOn() {
	r.mu.Lock()
	r.barrier = barrier{}
	r.mu.Unlock()
	r.writer.Unpark()
	if r.records != nil {
		r.records.writer.Unpark()
	}
}

func (r *Relay) park() {
	r.writer.Park()
	if r.records != nil {
		r.records.writer.Park()
	}
}

// sentByNow waits for the frames that are being written, and returns what was sent.
func (r *Relay) sentByNow(ctx context.Context) (l Limits, err error) {
	passing := []<-chan struct{}{r.writer.Passed()}
	if r.records != nil {
		passing = append(passing, r.records.writer.Passed())
	}
	for _, passed := range passing {
		select {
		case <-passed:
		case <-r.done:
			return l, r.Err()
		case <-ctx.Done():
			return l, context.Cause(ctx)
		}
	}
	control, data := r.credit.Sent()
	return limitsOf(control, data), nil
}

func limitsOf(control, data mux.Totals) Limits {
	return Limits{ControlBytes: control.Bytes, ControlFrames: control.Frames, DataBytes: data.Bytes, DataFrames: data.Frames}
}

func (r *Relay) awaitAnswer(ctx context.Context, answer <-chan Answer) (a Answer, err error) {
	select {
	case a = <-answer:
		return a, a.Err
	case <-r.done:
		return a, r.Err()
	case <-ctx.Done():
		return a, context.Cause(ctx)
	}
}

// answered takes the guest's answer to a request of ours. It ignores other frames, and
// answers to requests that were given up.
func (r *Relay) answered(f frame.Frame) {
	if r.cfg.Words.Answer == nil {
		return
	}
	a, ok := r.cfg.Words.Answer(f)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := &r.barrier; b.answer != nil && (a.Attempt == "" || b.attempt == a.Attempt) {
		b.answer <- a
		b.answer = nil
	}
}

// A progress counts the bytes of the second port.
type progress struct {
	bytes atomic.Uint64
	more  chan struct{} // Capacity 1.
}

func (p *progress) add(n int) {
	p.bytes.Add(uint64(n))
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// awaitRecords waits until the guest has sent a number of bytes on the second port.
func (r *Relay) awaitRecords(ctx context.Context, bytes uint64) error {
	if r.records == nil {
		return nil
	}
	for r.records.read.bytes.Load() < bytes {
		select {
		case <-r.records.read.more:
		case <-r.done:
			return r.Err()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// resume makes a new relay go on from a cut. Nothing goes to the guest before Thaw.
func (r *Relay) resume(c *Cut) {
	if c == nil {
		return
	}
	if r.credit != nil {
		r.credit.Resume(c.Sent.totals())
		r.credit.Grant(c.Limit.totals())
	}
	if r.records != nil {
		r.records.read.bytes.Store(c.Records)
	}
	r.barrier.frozen = true
	r.park()
}
