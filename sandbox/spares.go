package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// startsAtOnce is how many spares start at the same time. More would slow down the
	// first one, and the machines that are in use.
	startsAtOnce = 2

	// After failures in a row the next spare is started after firstPause, and after twice
	// as long each time, up to lastPause. A call of get does not wait for that.
	firstPause = time.Second
	lastPause  = time.Minute
)

// ErrPoolClosed is returned by [Pool.Get] after [Pool.Close].
var ErrPoolClosed = errors.New("the pool is closed")

// spares keeps values ready that take long to make and may end by themselves. All methods
// may be called at once.
type spares[T any] struct {
	want  int                              // How many are kept ready.
	start func(context.Context) (T, error) // Makes one, and gives up when the context ends.
	ended func(T) <-chan struct{}          // Is closed when one has ended by itself.
	end   func(T) error                    // Releases one.
	log   func(error)                      // Is told what no caller of get is told.

	closing chan struct{}  // Closed by close.
	tasks   sync.WaitGroup // Starts and watches.

	mu       sync.Mutex
	closed   bool
	ready    []*spare[T]      // The oldest first.
	starting int              // How many are being made.
	waiters  []chan result[T] // Of callers of get, the first first. Each has room for one result.
	failures int              // In a row.
	retry    *time.Timer      // Not nil after a failure: no spare is started before.
}

// A spare is a value that nobody has yet.
type spare[T any] struct {
	value T
	taken chan struct{} // Closed when it leaves the pool.
}

type result[T any] struct {
	value T
	err   error
}

// open starts to make the spares, in the background.
func (s *spares[T]) open() {
	s.closing = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fillLocked()
}

// get returns a spare, the oldest one, or waits for the next. If the next cannot be made,
// it returns that error.
func (s *spares[T]) get(ctx context.Context) (T, error) {
	wait := s.ask()
	select {
	case r := <-wait:
		return r.value, r.err
	case <-ctx.Done():
		return s.leave(ctx, wait)
	}
}

// ask returns a channel with room for one result, which may be there already.
func (s *spares[T]) ask() chan result[T] {
	wait := make(chan result[T], 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		wait <- result[T]{err: ErrPoolClosed}
	case len(s.ready) > 0:
		first := s.ready[0]
		s.takeLocked(first)
		wait <- result[T]{value: first.value}
	default:
		s.waiters = append(s.waiters, wait)
		s.fillLocked()
	}
	return wait
}

// leave ends a wait whose context has ended. What came meanwhile is returned all the same:
// the caller may use it.
func (s *spares[T]) leave(ctx context.Context, wait chan result[T]) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case r := <-wait:
		return r.value, r.err
	default:
	}
	s.waiters = slices.DeleteFunc(s.waiters, func(w chan result[T]) bool { return w == wait })
	return *new(T), context.Cause(ctx)
}

// takeLocked removes a spare, and has another one made.
func (s *spares[T]) takeLocked(v *spare[T]) {
	s.ready = slices.DeleteFunc(s.ready, func(other *spare[T]) bool { return other == v })
	close(v.taken)
	s.fillLocked()
}

// fillLocked starts what is missing. After a failure it starts only what a caller waits
// for.
func (s *spares[T]) fillLocked() {
	missing := len(s.waiters)
	if s.retry == nil {
		missing += s.want - len(s.ready)
	}
	for ; !s.closed && s.starting < min(missing, startsAtOnce); s.starting++ {
		s.tasks.Go(s.startOne)
	}
}

// startOne makes a value, or gives up when the pool is closed.
func (s *spares[T]) startOne() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.arrive(s.start(ctx))
}

// arrive takes the result of a start.
func (s *spares[T]) arrive(value T, err error) {
	if s.place(value, err) {
		return
	}
	if err == nil {
		err = s.end(value)
	}
	s.report(err)
}

// place gives the result to the first caller that waits, or makes a spare of the value. A
// pool that was closed meanwhile takes no value, and an error needs a caller.
func (s *spares[T]) place(value T, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starting--
	if s.closed {
		return err != nil // Which is the end of the context.
	}
	defer s.fillLocked()
	if err == nil {
		s.calmLocked()
	} else {
		s.pauseLocked()
	}
	if len(s.waiters) > 0 {
		s.waiters[0] <- result[T]{value, err}
		s.waiters = s.waiters[1:]
		return true
	}
	if err == nil {
		s.keepLocked(value)
	}
	return err == nil
}

// keepLocked makes a spare of a value, and watches it.
func (s *spares[T]) keepLocked(value T) {
	v := &spare[T]{value, make(chan struct{})}
	s.ready = append(s.ready, v)
	s.tasks.Go(func() {
		select {
		case <-v.taken:
		case <-s.ended(value):
			s.lose(v)
		}
	})
}

// errLostSpare says that a spare has ended before anybody has asked for it.
var errLostSpare = errors.New("a spare has ended by itself")

// lose replaces a spare that has ended by itself, unless somebody has just taken it. It
// counts as a failed start: one that ends at once must not be made again and again.
func (s *spares[T]) lose(v *spare[T]) {
	s.mu.Lock()
	there := slices.Contains(s.ready, v)
	if there {
		s.pauseLocked()
		s.takeLocked(v)
	}
	s.mu.Unlock()
	if there {
		s.report(errors.Join(errLostSpare, s.end(v.value)))
	}
}

// pauseLocked delays the next spare after a failure.
func (s *spares[T]) pauseLocked() {
	if s.retry != nil {
		s.retry.Stop()
	}
	pause := min(firstPause<<min(s.failures, 10), lastPause) //nolint:mnd // 2^10 s is more than lastPause.
	s.failures++
	s.retry = time.AfterFunc(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.retry = nil
		s.fillLocked()
	})
}

// calmLocked forgets failures.
func (s *spares[T]) calmLocked() {
	s.failures = 0
	if s.retry != nil {
		s.retry.Stop()
		s.retry = nil
	}
}

func (s *spares[T]) report(err error) {
	if err != nil && s.log != nil {
		s.log(err)
	}
}

// count returns how many spares are ready.
func (s *spares[T]) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready)
}

// close ends what is starting and what nobody has taken, and waits for that. Callers of get
// that wait get ErrPoolClosed.
func (s *spares[T]) close() error {
	s.mu.Lock()
	if !s.closed {
		close(s.closing)
	}
	left := s.ready
	s.ready, s.closed = nil, true
	for _, w := range s.waiters {
		w <- result[T]{err: ErrPoolClosed}
	}
	s.waiters = nil
	s.calmLocked()
	s.mu.Unlock()
	ends := make(chan error)
	for _, v := range left {
		close(v.taken)
		go func() { ends <- s.end(v.value) }()
	}
	var all []error
	for range left {
		all = append(all, <-ends)
	}
	s.tasks.Wait()
	return errors.Join(all...)
}
