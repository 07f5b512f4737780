package mux_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

// A session that takes its input is waited for; one that does not is waited for
// a few moments, once.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		name  string
		takes bool
		least time.Duration // That a hundred pieces must take, and
		most  time.Duration // may take.
	}{
		{"taking", true, 50 * time.Millisecond, 250 * time.Millisecond},
		{"silent", false, 0, 30 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const piece, pieces = 64 << 10, 100
				in := mux.NewInbox(mux.InboxConfig{Memory: 2 * pieces * piece})
				defer in.Drop()
				var taker sync.WaitGroup
				if tt.takes {
					taker.Go(func() {
						for _, err := in.Next(); err == nil; _, err = in.Next() {
							time.Sleep(time.Millisecond)
						}
					})
				}
				start := time.Now()
				for range pieces {
					if err := in.Push(make([]byte, piece)); err != nil {
						t.Fatal(err)
					}
					in.Pace()
				}
				if took := time.Since(start); took < tt.least || took > tt.most {
					t.Errorf("it took %v, want %v to %v", took, tt.least, tt.most)
				}
				in.Drop()
				taker.Wait() // It may sleep, and there is no time behind the test.
			})
		})
	}
}

// A pool lends as many buffers as it has and takes them back from frames that
// have left and from those that never will.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := mux.NewPool(1000, 3)
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		o, gone := w.Outbox(0), w.Outbox(0)
		for _, to := range []*mux.Outbox{o, gone} {
			b := p.Get()
			if err := to.SendBuffer(b, b.B[:10]); err != nil {
				t.Fatal(err)
			}
		}
		last := p.Get()
		if last == nil || p.Get() != nil {
			t.Fatal("the pool does not lend three buffers")
		}
		last.Release()
		gone.Discard()
		b := p.Get()
		if err := gone.SendBuffer(b, b.B); err == nil {
			t.Error("a discarded outbox took a frame")
		}
		go func() { _ = w.Run() }()
		close(g.open)
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.Close()
		for i := range 3 {
			if p.Get() == nil {
				t.Errorf("buffer %d has not come back", i)
			}
		}
	})
}
