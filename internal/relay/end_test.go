package relay_test

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/agentd-go/agentd/internal/relay"
)

// A machine that ends with bytes of its host unread has ended in order: nobody is told.
func TestEndWithBytesUnread(t *testing.T) {
	var told atomic.Value
	guest, near := pair(t)
	r := relay.New(relay.Config{Link: near, Ready: ready(t), Words: words(t), Log: func(line string) { told.Store(line) }})
	conn, err := r.Connect()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send([]byte("the time of day")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(guest, make([]byte, 3)); err != nil { // It has arrived.
		t.Fatal(err)
	}
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		t.Error(err)
	}
	if line := told.Load(); line != nil {
		t.Errorf("told %q", line)
	}
	_ = r.Close() // It has ended already.
}
