package agent

import (
	"runtime/debug"

	"github.com/agentd-go/agentd/internal/guest/session"
	"github.com/agentd-go/agentd/internal/mux"
)

// worthTidying is how many bytes must have moved before the memory for them is
// given back: half of the heap that the collector lets grow anyway (4 MiB).
const worthTidying = 2 << 20

// A thrift gives memory back to the guest when the agent has fallen silent: what a
// flood has left would else stay with it for minutes.
type thrift struct {
	pool  *mux.Pool
	seq   uint64 // Activity at the last look,
	bytes uint64 // and the bytes moved when memory was last given back.
}

// look is called about once a second.
func (t *thrift) look(c session.Counters) {
	silent := c.Seq == t.seq
	t.seq = c.Seq
	moved := c.ExecOutputBytes + c.FSBytes + c.TCPBytes + c.HostMessages<<14 // Input is not counted; 16 KiB is a fair guess.
	if !silent || moved-t.bytes < worthTidying {
		return
	}
	t.bytes = moved
	t.pool.Trim()
	debug.FreeOSMemory()
}
