package agent

import (
	"runtime"
	"runtime/debug"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/mux"
)

// worthTidying is the heap from which on memory is given back: an agent that has
// done little holds half of it, and nothing can be saved there.
const worthTidying = 3 << 20

// A memoryReturner gives memory back to the guest when the agent has fallen silent: what a
// flood has left would else stay with it for minutes.
type memoryReturner struct {
	pool *mux.Pool
	seq  uint64 // Activity at the last look,
	tidy uint64 // and when memory was last given back.
}

// look is called about once a second.
func (t *memoryReturner) look(c session.Counters) {
	silent := c.Seq == t.seq
	t.seq = c.Seq
	if !silent || c.Seq == t.tidy {
		return
	}
	t.tidy = c.Seq
	t.pool.Trim()
	if heap() >= worthTidying {
		debug.FreeOSMemory()
	}
}

// heap is how much memory the heap has of the guest's, used or not. What has moved
// does not tell: a session can end that has held megabytes for minutes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased
}
