package agent

import (
	"runtime"
	"testing"

	"github.com/agentd-go/agentd/internal/guest/session"
)

// What a session held for long is given back after its end, though nothing has
// moved meanwhile.
func TestMemoryReturner(t *testing.T) {
	const size = 64 << 20
	held := make([]byte, size)
	for i := range held {
		held[i] = 1
	}
	tidy := memoryReturner{pool: session.NewPool()}
	silence := func(seq uint64) {
		for range 2 {
			tidy.look(session.Counters{Seq: seq})
		}
	}
	silence(1)
	before := heap()
	runtime.KeepAlive(held)
	silence(1)
	if tidy.tidy != 1 {
		t.Errorf("tidied at %d", tidy.tidy)
	}
	silence(2)
	if after := heap(); after > before-size/2 {
		t.Errorf("the heap has %d bytes of %d, %d of them nobody's", after, before, size)
	}
}
