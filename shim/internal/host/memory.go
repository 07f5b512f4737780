package host

import (
	"fmt"
	"runtime/debug"

	"github.com/agentd-go/agentd/internal/procfs"
	"golang.org/x/sys/unix"
)

// LetGo gives memory back to the system that this process does not need while it rests:
// the free part of the heap, and the pages of its own program file. The agent for the
// machine is in that file.
func LetGo() error {
	debug.FreeOSMemory()
	return procfs.ReleaseProgram()
}

// TotalMemory is the memory of this host, in MiB.
func TotalMemory() (int, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("sysinfo: %w", err)
	}
	const mib = 1 << 20
	return int(info.Totalram * uint64(info.Unit) / mib), nil
}
