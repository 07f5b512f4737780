package files

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentd-go/agentd/internal/guest/session"
)

// Calls that hang take their client's places and no other's; what waits for a
// place gets an error at the deadline, or when the client goes.
func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewTable()
		hang := make(chan struct{})
		defer func() {
			close(hang)
			synctest.Wait()
		}()
		block := func(c *client, n int) {
			for range n {
				go func() { _ = c.call(func() { <-hang }) }()
			}
			synctest.Wait()
		}
		const perClient, clients = maxClientCalls, maxCalls / maxClientCalls
		block(f.client(0), perClient+5)
		if n := len(f.calls); n != perClient {
			t.Errorf("one client has %d calls in the kernel, want %d", n, perClient)
		}
		if err := f.client(1).call(func() {}); err != nil {
			t.Errorf("another client: %v", err)
		}
		start := time.Now()
		if err := f.client(0).call(func() { t.Error("an operation too many") }); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != callDeadline {
			t.Errorf("the error came after %v", took)
		}
		for slot := range clients {
			block(f.client(slot), perClient)
		}
		if n := len(f.calls); n != maxCalls {
			t.Errorf("%d calls in the kernel, want %d", n, maxCalls)
		}
		ended := make(chan error)
		last := f.client(clients)
		go func() { ended <- last.call(func() { t.Error("an operation for nobody") }) }()
		synctest.Wait()
		f.Disconnect(clients)
		if err := <-ended; !errors.Is(err, session.ErrDetached) {
			t.Errorf("got %v", err)
		}
	})
}

// A handle that is opened while its client leaves is closed.
func TestLateHandle(t *testing.T) {
	f := NewTable()
	c := f.client(3)
	if err := c.reserve(); err != nil {
		t.Fatal(err)
	}
	f.Disconnect(3)
	if _, err := c.add(&handle{}); !errors.Is(err, session.ErrDetached) {
		t.Errorf("got %v", err)
	}
	if f.open != 0 || len(f.handles) != 0 || len(f.clients) != 0 {
		t.Errorf("%d open, %d handles, %d clients are left", f.open, len(f.handles), len(f.clients))
	}
}

// All clients together leave descriptors to commands.
func TestHandlesOfAll(t *testing.T) {
	f := NewTable()
	f.most = 2
	for slot := range 2 {
		if err := f.client(slot).reserve(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.client(5).reserve(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v", err)
	}
	f.client(0).unreserve()
	if err := f.client(5).reserve(); err != nil {
		t.Error(err)
	}
}
