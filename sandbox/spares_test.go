package sandbox

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A fakePool makes numbers in place of machines: each takes a second.
type fakePool struct {
	spares[int]
	mu     sync.Mutex
	made   int
	most   int // Starts at the same time.
	now    int
	fails  int // So many starts fail.
	dead   map[int]chan struct{}
	ends   []int
	logged []error
}

var errStart = errors.New("no room")

func newFake(want, fails int) *fakePool {
	f := &fakePool{fails: fails, dead: map[int]chan struct{}{}}
	f.spares = spares[int]{
		want: want, start: f.make, ended: func(n int) <-chan struct{} { return f.chanOf(n) },
		end: func(n int) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ends = append(f.ends, n)
			return nil
		},
		log: func(err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.logged = append(f.logged, err)
		},
	}
	f.open()
	return f
}

func (f *fakePool) chanOf(n int) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead[n]
}

func (f *fakePool) make(ctx context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now++
	f.most = max(f.most, f.now)
	f.mu.Unlock()
	var err error
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		err = ctx.Err()
	}
	f.mu.Lock()
	f.now--
	if f.fails > 0 && err == nil {
		f.fails--
		err = errStart
	}
	if err != nil {
		return 0, err
	}
	f.made++
	f.dead[f.made] = make(chan struct{})
	return f.made, nil
}

// got gets a number, or an error, within a time.
func (f *fakePool) got(t *testing.T, want error, within time.Duration) int {
	t.Helper()
	start := time.Now()
	n, err := f.get(t.Context())
	if !errors.Is(err, want) || time.Since(start) > within {
		t.Errorf("got %d, %v after %v; want %v within %v", n, err, time.Since(start), want, within)
	}
	return n
}

// A summary is the state of a pool in which nothing moves.
type summary struct {
	ready, made, most int
	ends              []int
	logged            []error
}

func (f *fakePool) rest(after time.Duration) summary {
	time.Sleep(after)
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return summary{f.count(), f.made, f.most, slices.Clone(f.ends), slices.Clone(f.logged)}
}

func (f *fakePool) closed(t *testing.T) {
	t.Helper()
	if err := f.close(); err != nil {
		t.Error(err)
	}
	f.got(t, ErrPoolClosed, 0)
}

// Spares are made two at a time, taken the oldest first, and made again.
func TestSpares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(3, 0)
		taken := []int{f.got(t, nil, time.Second)} // Nobody has made one yet.
		if s := f.rest(3 * time.Second); s.ready != 3 || s.made != 4 || s.most != startsAtOnce {
			t.Errorf("%+v", s)
		}
		taken = append(taken, f.got(t, nil, 0), f.got(t, nil, 0))
		if slices.Sort(taken); !slices.Equal(taken, []int{1, 2, 3}) {
			t.Errorf("taken: %v", taken)
		}
		if s := f.rest(time.Second); s.ready != 3 || s.made != 6 {
			t.Errorf("%+v", s)
		}
		f.closed(t)
		s := f.rest(0)
		if slices.Sort(s.ends); !slices.Equal(s.ends, []int{4, 5, 6}) || len(s.logged) > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// The one that waits is told why it waits in vain; the next tries at once. What fails
// without a caller is logged, and tried again later and later.
func TestSparesThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1, 4)
		f.got(t, errStart, time.Second)
		f.rest(0)
		f.got(t, errStart, time.Second) // Not later, though spares wait by now.
		if s := f.rest(time.Hour); s.made != 1 || s.ready != 1 || len(s.logged) > 2 {
			t.Errorf("%+v", s)
		}
		f.got(t, nil, 0)
		f.closed(t)
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1, 1000)
		if n := len(f.rest(time.Hour).logged); n < 55 || n > 70 {
			t.Errorf("%d tries in an hour", n)
		}
		f.closed(t)
	})
}

// A spare that ends by itself is replaced, and nobody gets it.
func TestLostSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1, 0)
		f.rest(2 * time.Second)
		close(f.chanOf(1))
		if s := f.rest(0); s.ready != 0 || len(s.logged) != 1 || !errors.Is(s.logged[0], errLostSpare) || !slices.Equal(s.ends, []int{1}) {
			t.Errorf("%+v", s)
		}
		f.rest(firstPause + time.Second)
		if n := f.got(t, nil, 0); n != 2 {
			t.Errorf("got %d, want 2", n)
		}
		close(f.chanOf(2)) // Its owner's matter.
		f.closed(t)
		if s := f.rest(0); len(s.logged) != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// A caller that gives up takes nothing, and what was made for it is a spare.
func TestImpatientCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if n, err := f.get(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %d, %v", n, err)
		}
		if s := f.rest(time.Second); s.ready != s.made || s.ready > 1+startsAtOnce {
			t.Errorf("%+v", s)
		}
		f.closed(t)
		if s := f.rest(0); len(s.ends) != s.made {
			t.Errorf("%+v", s)
		}
	})
}

// Close ends what is being made, and tells those that wait.
func TestCloseBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(2, 0)
		told := make(chan error, 1)
		go func() {
			_, err := f.get(t.Context())
			told <- err
		}()
		f.rest(time.Second / 2)
		start := time.Now()
		f.closed(t)
		if err := <-told; !errors.Is(err, ErrPoolClosed) || time.Since(start) > 0 || f.made > 0 {
			t.Errorf("%v after %v, %d made", err, time.Since(start), f.made)
		}
	})
}
