package host

import (
	"runtime/debug"

	"github.com/agentd-go/agentd/internal/procfs"
)

// LetGo gives memory back to the system that this process does not need while it rests:
// the free part of the heap, and the pages of its own program file. The agent for the
// machine is in that file.
func LetGo() error {
	debug.FreeOSMemory()
	return procfs.ReleaseProgram()
}
