package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/wire"
)

// Ping asks the agent for an answer and returns how long that took. It does not
// count as activity. It needs generation 6.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	if _, err := ask[*wire.Pong](ctx, c, new(wire.Ping)); err != nil {
		return 0, err
	}
	return time.Since(begin), nil
}

// Touch counts as activity, which keeps an idle machine from being ended, and
// returns the agent's count with this touch in it. It needs generation 6.
func (c *Client) Touch(ctx context.Context) (uint64, error) {
	touched, err := ask[*wire.Touched](ctx, c, new(wire.Touch))
	if err != nil {
		return 0, err
	}
	return touched.ActivitySeq, nil
}

// SyncClock tells the guest what time it is; the guest corrects its clock if it is more
// than 100 milliseconds off. There is no answer: nil means that the message is on its way.
// Through a relay it returns [ErrRelayed]: the relay sets the clock itself, and disconnects
// a client that tries to.
func (c *Client) SyncClock(ctx context.Context, now time.Time) error {
	if c.relayed {
		return fmt.Errorf("clock: %w", ErrRelayed)
	}
	if now.Unix() < 0 {
		return fmt.Errorf("clock: %v is before 1970", now)
	}
	return c.tell(ctx, &wire.ClockSync{UnixTimeNanos: uint64(now.UnixNano())})
}

// Shutdown asks the machine to end. It returns when the request and all frames queued
// before it have left. Done is closed when the machine has ended.
func (c *Client) Shutdown(ctx context.Context) error {
	if err := c.wake(ctx); err != nil {
		return err
	}
	if err := c.tell(ctx, new(wire.Shutdown)); err != nil {
		return err
	}
	err := c.writer.Drain(ctx)
	if errors.Is(err, mux.ErrClosed) {
		return c.reason()
	}
	return err
}

// tell sends a message that belongs to no session and has no answer.
func (c *Client) tell(ctx context.Context, m wire.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b, err := c.encode(0, m)
	if err != nil {
		return err
	}
	return c.post(b)
}

// post queues a frame on the control outbox. It fails instead of waiting for the link,
// because no context could interrupt that wait.
func (c *Client) post(b []byte) error {
	if c.ctl.Queued() > mux.DefaultOutbox {
		return ErrStalled
	}
	if err := c.ctl.Put(b); err != nil {
		return c.reason()
	}
	return nil
}

// reason returns why the link ended, after the writer has reported an end. The writer
// knows first, so reason waits until the rest of the client knows too.
func (c *Client) reason() error {
	<-c.done
	return c.Err()
}

// answer receives the one message that answers another.
type answer struct {
	id  uint32
	got chan result // Of one element, so that receiving never waits.
}

type result struct {
	message wire.Message
	err     error
}

func (a *answer) receive(e wire.Envelope) error {
	m, err := wire.Decode(e)
	if err != nil {
		return err
	}
	a.put(result{message: m})
	return nil
}

func (a *answer) fail(err error) { a.put(result{err: err}) }

func (a *answer) put(r result) {
	select {
	case a.got <- r:
	default: // A second answer.
	}
}

// ask sends a message on an id of its own and waits for the answer.
func ask[T wire.Message](ctx context.Context, c *Client, m wire.Message) (T, error) {
	var none T
	a, err := c.pose(ctx, m, c.post)
	if err != nil {
		return none, err
	}
	// A later answer is ignored.
	defer c.calls.remove(a.id, a)
	select {
	case r := <-a.got:
		return expected[T](r)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// expected returns the message if it is the one that answers.
func expected[T wire.Message](r result) (reply T, err error) {
	if r.err != nil {
		return reply, r.err
	}
	reply, ok := r.message.(T)
	if !ok {
		return reply, &FrameError{Type: string(r.message.Type()), Err: errUnexpected}
	}
	return reply, nil
}

// pose queues the request by send.
func (c *Client) pose(ctx context.Context, m wire.Message, send func([]byte) error) (*answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a := &answer{got: make(chan result, 1)}
	err := c.calls.add(func(id uint32) receiver {
		a.id = id
		return a
	})
	if err != nil {
		return nil, err
	}
	b, err := c.encode(a.id, m)
	if err == nil {
		err = send(b)
	}
	if err != nil {
		c.calls.remove(a.id, a)
		return nil, err
	}
	return a, nil
}
