package mux_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/internal/mux"
)

// message returns a frame of n bytes that names its session and its number.
func message(session, number uint32, n int) []byte {
	b := make([]byte, max(n, 8))
	binary.BigEndian.PutUint32(b, session)
	binary.BigEndian.PutUint32(b[4:], number)
	return b
}

// gate is a link that takes bytes only when the test allows it.
type gate struct {
	open chan struct{}
	got  bytes.Buffer
	err  error
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	if g.err != nil {
		return 0, g.err
	}
	return g.got.Write(p)
}

func TestWriterKeepsOrderInsideASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		close(g.open)
		w := mux.NewWriter(g, 0)
		go func() { _ = w.Run() }()
		const sessions, each, size = 5, 200, 1000
		done := make(chan struct{})
		for s := range sessions {
			o := w.Outbox(0)
			go func() {
				for n := range each {
					if err := o.Send(message(uint32(s), uint32(n), size)); err != nil {
						t.Error(err)
					}
				}
				done <- struct{}{}
			}()
		}
		for range sessions {
			<-done
		}
		if err := w.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Close()
		synctest.Wait()
		var next [sessions]uint32
		for b := g.got.Bytes(); len(b) > 0; b = b[size:] {
			s, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
			if n != next[s] {
				t.Fatalf("session %d: frame %d arrived where %d was due", s, n, next[s])
			}
			next[s]++
		}
		for s, n := range next {
			if n != each {
				t.Errorf("session %d: %d of %d frames arrived", s, n, each)
			}
		}
	})
}

// A session that has just begun to speak passes those that flood.
func TestFreshSessionPassesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		const floods = 4
		for s := range floods {
			o := w.Outbox(0)
			for n := range 2 {
				if err := o.Put(message(uint32(s), uint32(n), mux.Quantum)); err != nil {
					t.Fatal(err)
				}
			}
		}
		go func() { _ = w.Run() }()
		g.open <- struct{}{} // Each flood's first quantum.
		g.open <- struct{}{}
		g.open <- struct{}{}
		g.open <- struct{}{}
		synctest.Wait()
		small := w.Outbox(0)
		if err := small.Put(message(99, 0, 8)); err != nil {
			t.Fatal(err)
		}
		close(g.open)
		synctest.Wait()
		w.Close()
		at := bytes.Index(g.got.Bytes(), message(99, 0, 8))
		// At most the quantum that was under way when it spoke is before it.
		if most := (floods + 1) * mux.Quantum; at < 0 || at > most {
			t.Errorf("the small frame left behind %d bytes, want at most %d", at, most)
		}
	})
}

// Two sessions that always have something to send share the link by bytes,
// whatever the size of their frames.
func TestFairByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		sizes := []int{100, mux.Quantum}
		for s, size := range sizes {
			o := w.Outbox(0)
			go func() {
				for n := uint32(0); ; n++ {
					if o.Send(message(uint32(s), n, size)) != nil {
						return
					}
				}
			}()
		}
		go func() { _ = w.Run() }()
		for range 200 {
			g.open <- struct{}{}
			synctest.Wait()
		}
		g.err = io.ErrClosedPipe
		close(g.open)
		w.Close()
		synctest.Wait()
		var sent [2]int
		for b := g.got.Bytes(); len(b) > 8; {
			s := binary.BigEndian.Uint32(b)
			n := min(sizes[s], len(b))
			sent[s] += n
			b = b[n:]
		}
		if sent[0] < sent[1]/2 || sent[1] < sent[0]/2 {
			t.Errorf("small frames got %d bytes through, large ones %d", sent[0], sent[1])
		}
	})
}

func TestOutboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 10_000)
		go func() { _ = w.Run() }()
		stopped := make(chan error)
		boxes := make([]*mux.Outbox, 20)
		for i := range boxes {
			o := w.Outbox(4_000)
			boxes[i] = o
			go func() {
				for {
					if err := o.Send(message(uint32(i), 0, 1_000)); err != nil {
						stopped <- err
						return
					}
				}
			}()
		}
		synctest.Wait() // Everybody waits now.
		total := 0
		for i, o := range boxes {
			if q := o.Queued(); q > 4_000 {
				t.Errorf("outbox %d holds %d bytes, limit 4000", i, q)
			}
			total += o.Queued()
		}
		// The bound, and one frame for each session that had none.
		if total > 10_000+20*1_000 {
			t.Errorf("all outboxes hold %d bytes", total)
		}
		boxes[0].Discard()
		if err := <-stopped; !errors.Is(err, mux.ErrClosed) {
			t.Errorf("Send after Discard: %v", err)
		}
		g.err = io.ErrClosedPipe
		close(g.open)
		for range boxes[1:] {
			if err := <-stopped; !errors.Is(err, mux.ErrClosed) {
				t.Errorf("Send after the link's end: %v", err)
			}
		}
		<-w.Done()
		if err := w.Drain(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Drain after the link's end: %v", err)
		}
	})
}

func TestDrainHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mux.NewWriter(&gate{open: make(chan struct{})}, 0)
		defer w.Close()
		if err := w.Outbox(0).Put(message(0, 0, 8)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.Drain(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestInbox(t *testing.T) {
	spill := func(t *testing.T) func() (mux.Storage, error) {
		t.Helper()
		return func() (mux.Storage, error) { return os.Create(filepath.Join(t.TempDir(), "spill")) }
	}
	for _, tt := range []struct {
		name   string
		memory int
		stored int64
		push   []int
		full   int // Index of the push that is refused, or -1.
	}{
		{"in memory", 100, 0, []int{10, 20, 70}, -1},
		{"full without storage", 100, 0, []int{10, 20, 70, 1}, 3},
		{"spills", 100, 1 << 20, []int{60, 60, 10, 300_000}, -1},
		{"full with storage", 100, 100, []int{60, 60, 40, 1}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			budget := mux.NewBudget(1000)
			cfg := mux.InboxConfig{Memory: tt.memory, Budget: budget, Stored: tt.stored}
			if tt.stored > 0 {
				cfg.Storage = spill(t)
			}
			in := mux.NewInbox(cfg)
			var want, got []byte
			for i, n := range tt.push {
				p := bytes.Repeat([]byte{byte('a' + i)}, n)
				err := in.Push(p)
				if i == tt.full {
					if !errors.Is(err, mux.ErrFull) {
						t.Fatalf("push %d: got %v, want ErrFull", i, err)
					}
					break
				}
				if err != nil {
					t.Fatalf("push %d: %v", i, err)
				}
				want = append(want, p...)
			}
			in.End()
			if err := in.Push([]byte("late")); !errors.Is(err, mux.ErrClosed) {
				t.Errorf("push after End: %v", err)
			}
			for {
				p, err := in.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, p...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("took %d bytes, put %d, or in another order", len(got), len(want))
			}
			in.Drop()
			if left := budget.Left(); left != 1000 {
				t.Errorf("budget after Drop: %d of 1000", left)
			}
		})
	}
}

func TestInboxKeepsOrderWhileSpilling(t *testing.T) {
	in := mux.NewInbox(mux.InboxConfig{Memory: 16, Stored: 1 << 20, Storage: func() (mux.Storage, error) {
		return os.Create(filepath.Join(t.TempDir(), "spill"))
	}})
	defer in.Drop()
	var want, got []byte
	for i := range 1000 {
		p := bytes.Repeat([]byte{byte(i)}, 1+i%13)
		want = append(want, p...)
		if err := in.Push(p); err != nil {
			t.Fatal(err)
		}
		if i%7 == 6 {
			p, err := in.Next()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p...)
		}
	}
	in.End()
	for p, err := in.Next(); err == nil; p, err = in.Next() {
		got = append(got, p...)
	}
	if !bytes.Equal(got, want) {
		t.Error("bytes left the inbox in another order than they came")
	}
}

func TestInboxDropWakesReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := mux.NewInbox(mux.InboxConfig{Memory: 1})
		woken := make(chan error)
		go func() {
			_, err := in.Next()
			woken <- err
		}()
		synctest.Wait()
		in.Drop()
		if err := <-woken; !errors.Is(err, mux.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// The channel of Passed closes after the current batch was written; frames in outboxes
// do not count.
//
//holds:wire 13: the acknowledgement after the client's last frame; slips are not fatal; commands end
func TestPassed(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	w := mux.NewWriter(near, 0)
	<-w.Passed() // Nothing is.
	o := w.Outbox(0)
	go func() { _ = w.Run() }()
	if err := o.Send([]byte("under way")); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(far, first); err != nil {
		t.Fatal(err)
	}
	passed := w.Passed()
	if err := o.Send([]byte("in the outbox")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-passed:
		t.Error("passed before it has left")
	default:
	}
	if _, err := io.ReadFull(far, make([]byte, len("under wa"))); err != nil {
		t.Fatal(err)
	}
	<-passed
	w.Close()
	_, _ = near.Close(), far.Close()
}
