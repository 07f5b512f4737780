package pod

import (
	"testing"
	"time"

	"github.com/agentd-go/agentd/shim/internal/stream"
)

// A process ends after the start was told, by this host's clock.
func TestEndComesAfterStart(t *testing.T) {
	p := newProcess("a", "", stream.Spec{})
	p.order.Lock() // As Start has it.
	told := make(chan struct{})
	go p.finish(7, func() { close(told) })
	p.markStarted()
	started := time.Now()
	p.order.Unlock()
	<-told
	<-p.Done()
	if code, at := p.Result(); code != 7 || at.Before(started) {
		t.Errorf("status %d at %v, before the start at %v", code, at, started)
	}
}
