package mux_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/agentd-go/agentd/internal/mux"
)

// If no goroutine is writing, WriteNow returns after the frame was written. Otherwise the
// frame leaves after the current batch, and WriteNow does not wait.
func TestWriteNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{}, 10)}
		w := mux.NewWriter(g, 0)
		go func() { _ = w.Run() }()
		defer w.Close()
		var want []byte
		o, other := w.Outbox(0), w.Outbox(0)
		put := func(o *mux.Outbox, number uint32) {
			t.Helper()
			m := message(1, number, 100)
			want = append(want, m...)
			if err := o.WriteNow(m); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait() // Run has found nothing to write.
		g.open <- struct{}{}
		put(o, 0)
		if !bytes.Equal(g.got.Bytes(), want) {
			t.Error("it has not left")
		}
		first := message(1, 1, 100)
		want = append(want, first...)
		if err := other.Send(first); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // Run writes, and the link takes nothing.
		put(o, 2)
		put(o, 3)
		close(g.open)
		synctest.Wait()
		if !bytes.Equal(g.got.Bytes(), want) {
			t.Errorf("%d bytes have left, want %d in their order", g.got.Len(), len(want))
		}
	})
}

// A last frame is over when it has been taken to be written, and none comes after it.
func TestWriteLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		go func() { _ = w.Run() }()
		defer w.Close()
		o, other := w.Outbox(0), w.Outbox(0)
		first, last, answer := message(1, 0, 100), message(2, 0, 100), message(3, 0, 100)
		if err := other.Send(first); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // Run writes, and the link takes nothing.
		if o.Over() {
			t.Error("over before its last frame")
		}
		if err := o.WriteLast(last); err != nil {
			t.Fatal(err)
		}
		if o.Over() {
			t.Error("over with its last frame in it")
		}
		if err := o.Put(first); !errors.Is(err, mux.ErrClosed) {
			t.Errorf("a frame after the last one: %v", err)
		}
		g.open <- struct{}{}
		synctest.Wait()
		if !o.Over() {
			t.Error("not over with its last frame on its way")
		}
		if err := other.Put(answer); err != nil {
			t.Fatal(err)
		}
		close(g.open)
		synctest.Wait()
		if want := slices.Concat(first, last, answer); !bytes.Equal(g.got.Bytes(), want) {
			t.Errorf("%d bytes have left, want %d in their order", g.got.Len(), len(want))
		}
	})
}
