package mux_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

// A session that takes its input is waited for, also if that takes it longer than one
// pause; one that takes nothing is waited for a moment, once.
func TestPace(t *testing.T) {
	const piece, pieces = 64 << 10, 100
	for _, tt := range []struct {
		name  string
		takes time.Duration // For one piece; 0 is never.
		least time.Duration // That all pieces must take, and
		most  time.Duration // may take.
	}{
		{"taking", time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond},
		{"slow", 20 * time.Millisecond, 250 * time.Millisecond, 300 * time.Millisecond}, // A pause for each piece.
		{"silent", 0, 90 * time.Millisecond, 110 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := mux.NewInbox(mux.InboxConfig{Memory: 2 * pieces * piece, Pauses: &mux.PauseBudget{}})
				defer in.Drop()
				var taker sync.WaitGroup
				if tt.takes > 0 {
					taker.Go(func() {
						for _, err := in.Next(); err == nil; _, err = in.Next() {
							time.Sleep(tt.takes)
						}
					})
				}
				if took := fill(t, in, piece, pieces); took < tt.least || took > tt.most {
					t.Errorf("it took %v, want %v to %v", took, tt.least, tt.most)
				}
				in.Drop()
				taker.Wait() // It may sleep, and there is no time after the test.
			})
		})
	}
}

// fill pushes pieces at the pace of an inbox.
func fill(t *testing.T, in *mux.Inbox, piece, pieces int) (took time.Duration) {
	t.Helper()
	start := time.Now()
	for range pieces {
		if err := in.Push(make([]byte, piece)); err != nil {
			t.Fatal(err)
		}
		in.Pace()
	}
	return time.Since(start)
}

// Sessions that take nothing, however many, cause pauses of at most maxPauses and then
// a tenth of the time. A session that takes bytes again returns its pauses.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const piece, pieces, silent = 64 << 10, 50, 30
		var shared mux.PauseBudget
		quiet := func() *mux.Inbox {
			return mux.NewInbox(mux.InboxConfig{Memory: 2 * pieces * piece, Pauses: &shared})
		}
		var took time.Duration
		for range silent {
			in := quiet()
			defer in.Drop()
			took += fill(t, in, piece, pieces)
		}
		if took < 90*time.Millisecond || took > 115*time.Millisecond {
			t.Errorf("%d silent sessions held up the others for %v", silent, took)
		}
		time.Sleep(time.Second) // A tenth of it is left to be patient with.
		in := quiet()
		defer in.Drop()
		for range 3 {
			if took := fill(t, in, piece, pieces); took < 90*time.Millisecond {
				t.Errorf("a session that takes something now and then was waited for %v", took)
			}
			if _, err := in.Next(); err != nil {
				t.Fatal(err)
			}
			for in.Waiting() > 256<<10 {
				if _, err := in.Next(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
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
