package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

const (
	// retryPause is the pause before the first attempt to connect again. It doubles up to
	// retryPauseMost while links fail. A relay that is started anew is there within a second.
	retryPause     = 20 * time.Millisecond
	retryPauseMost = time.Second

	// retryFor is how long attempts may fail: as long as hosts give a machine to boot.
	retryFor = time.Minute
)

// A Dialer returns a new client of a machine, such as a call of [Connect].
type Dialer func(ctx context.Context) (*Client, error)

// Retry bounds the attempts of a [Reconnector]. The zero value suits most.
type Retry struct {
	// For is how long attempts may fail after a link has ended; a minute if 0. A link that
	// ends sooner than the pause before it is a failed attempt too.
	For time.Duration

	// Final reports whether an attempt's error makes further attempts useless, because the
	// machine has ended for example. Nil lets every error be tried again.
	Final func(err error) bool
}

// A ReconnectError says that a link has ended, and that no other could be made.
type ReconnectError struct {
	Attempts int
	Err      error // Of the last attempt.
}

// Error returns a line for people.
func (e *ReconnectError) Error() string {
	return fmt.Sprintf("agent link ended, and attempt %d to connect again failed: %v", e.Attempts, e.Err)
}

// Unwrap returns the error of the last attempt; nil for what means the end of a reader.
func (e *ReconnectError) Unwrap() error { return notEOF(e.Err) }

// A Reconnector reaches one machine by one [Client] after the other: when a link has ended
// the next use makes another. It carries over a link's end what can be carried:
//
//	commands that are kept   [Reconnector.Command] and [Reconnector.Attach]: every byte of the
//	                         outputs and of the input once
//	files                    [Reconnector.Open] and [Reconnector.Upload]: go on at an offset
//	connections              end with an error; [Reconnector.DialContext] makes new ones, and
//	                         listeners of [Reconnector.Listen] go on
//
// A signal or a size that is under way when a link ends may be lost. For all else
// [Reconnector.Client] has the client of the moment. Methods may be called from several
// goroutines.
type Reconnector struct {
	dial  Dialer
	retry Retry
	life  context.Context //nolint:containedctx // Until Close.
	end   context.CancelCauseFunc
	last  atomic.Pointer[Client]
	busy  chan struct{} // Holds one element while a caller connects; it guards what follows.

	pause   time.Duration // Before the attempt that made the last link.
	since   time.Time     // When that was.
	failing time.Time     // When links began to fail; zero if the last was good.
	tries   int           // Since failing.
}

// Reconnect connects, once, and returns a Reconnector on that link. The context is for
// connecting.
func Reconnect(ctx context.Context, dial Dialer, r Retry) (*Reconnector, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if r.For == 0 {
		r.For = retryFor
	}
	again := &Reconnector{dial: dial, retry: r, busy: make(chan struct{}, 1), since: time.Now()}
	again.life, again.end = context.WithCancelCause(context.Background())
	again.last.Store(c)
	return again, nil
}

// Last returns the client of the last link, which may have ended. Facts about the agent, such
// as [Client.Has], hold after that too.
func (r *Reconnector) Last() *Client { return r.last.Load() }

// Client returns a client whose link is up, as far as is known. If the last link has ended
// it connects, again and again within the bounds of [Retry] and the context: the error is a
// [*ReconnectError] or the context's. Close of the Reconnector closes the client.
func (r *Reconnector) Client(ctx context.Context) (*Client, error) {
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	case <-ctx.Done():
		return nil, causeOf(ctx)
	}
	last := r.Last()
	switch {
	case r.life.Err() != nil:
		return nil, ErrClosed
	case last.Err() == nil:
		return last, nil
	}
	_ = last.Close() // Returns when no frame of the old link is delivered any more.
	r.ended()
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(r.life, func() { cancel(ErrClosed) })()
	defer cancel(nil)
	return r.again(ctx)
}

// ended counts the end of a link. A link that lived was a good one.
func (r *Reconnector) ended() {
	if r.failing.IsZero() || time.Since(r.since) > r.pause {
		r.failing, r.tries, r.pause = time.Now(), 0, 0
	}
}

// again connects until it succeeds or the bounds are reached.
func (r *Reconnector) again(ctx context.Context) (*Client, error) {
	for err := r.Last().Err(); ; {
		if time.Since(r.failing) >= r.retry.For {
			return nil, &ReconnectError{Attempts: r.tries, Err: err}
		}
		r.pause = min(max(2*r.pause, retryPause), retryPauseMost)
		select {
		case <-ctx.Done():
			return nil, causeOf(ctx)
		case <-time.After(r.pause):
		}
		r.tries++
		var c *Client
		if c, err = r.dial(ctx); err == nil {
			r.last.Store(c)
			r.since = time.Now()
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, causeOf(ctx)
		}
		if r.retry.Final != nil && r.retry.Final(err) {
			return nil, &ReconnectError{Attempts: r.tries, Err: err}
		}
	}
}

// Do calls f with a client whose link is up, and again on the next link if the link has ended
// meanwhile: f must bear to be called again after it has done its work.
func (r *Reconnector) Do(ctx context.Context, f func(c *Client) error) error {
	for {
		c, err := r.Client(ctx)
		if err != nil {
			return err
		}
		if err = f(c); !LinkEnded(err) || ctx.Err() != nil {
			return err
		}
	}
}

// Close closes the client. Kept commands go on, and waits for them return [ErrClosed].
func (r *Reconnector) Close() error {
	r.end(ErrClosed)
	r.busy <- struct{}{}
	defer func() { <-r.busy }()
	return r.Last().Close()
}

// DialContext is [Client.DialContext] by a client whose link is up.
func (r *Reconnector) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := r.Client(ctx)
	if err != nil {
		return nil, err
	}
	return c.DialContext(ctx, network, address)
}

// LinkEnded reports whether an error says that a link has ended, after which another can be
// made: it is a [*LinkError], and no [*ReconnectError].
func LinkEnded(err error) bool {
	_, ended := errors.AsType[*LinkError](err)
	_, gaveUp := errors.AsType[*ReconnectError](err)
	return ended && !gaveUp
}
