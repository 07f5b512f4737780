package agent

import (
	"runtime"
	"runtime/debug"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/mux"
	"github.com/agentd-go/agentd/internal/procfs"
	"github.com/agentd-go/agentd/wire/frame"
)

// worthTidying is the least heap that is given back: an agent that has done little holds
// half of it.
const worthTidying = 3 << 20

// A memoryReturner gives memory back to the guest when the agent is idle. Without it the
// memory of a flood would stay with the agent for minutes, and the program's pages that only
// the flood needed for ever.
type memoryReturner struct {
	pool   *mux.Pool
	spares *frame.Spares
	seq    uint64 // The activity number at the last look.
	tidy   uint64 // The same when memory was last given back.
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
	t.spares.Trim()
	if heap() >= worthTidying {
		debug.FreeOSMemory()
		_ = procfs.ReleaseProgram() // They come back when they are used.
	}
}

// heap is the guest memory of the heap, used or not. The activity does not show it: a
// session that ends may have held megabytes for minutes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased
}
