package mux_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/mux"
)

// A Send that gives up does not change the queue.
func TestSendUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		w := mux.NewWriter(g, 0)
		go func() { _ = w.Run() }()
		o, never := w.Outbox(10), make(chan struct{})
		send := func(s string, stop <-chan struct{}) (bool, error) { return o.SendUntil(stop, []byte(s)) }
		for _, s := range []string{"first is on its way ", "second "} {
			if queued, err := send(s, never); !queued || err != nil {
				t.Fatalf("%q: %v, %v", s, queued, err)
			}
			synctest.Wait()
		}
		stop := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(stop) })
		if queued, err := send("given up ", stop); queued || err != nil {
			t.Errorf("into a full outbox: %v, %v", queued, err)
		}
		if queued, err := send("given up ", stop); queued || err != nil {
			t.Errorf("given up before: %v, %v", queued, err)
		}
		time.AfterFunc(time.Second, func() { close(g.open) })
		if queued, err := send("third", never); !queued || err != nil {
			t.Errorf("when there is room: %v, %v", queued, err)
		}
		synctest.Wait()
		if want := "first is on its way second third"; !bytes.Equal(g.got.Bytes(), []byte(want)) {
			t.Errorf("written: %q", g.got.Bytes())
		}
		o.Discard()
		if queued, err := send("late", never); !queued || !errors.Is(err, mux.ErrClosed) {
			t.Errorf("into a closed outbox: %v, %v", queued, err)
		}
		w.Close()
	})
}
