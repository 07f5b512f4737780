package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/agentd-go/agentd/internal/procfs"
)

// KeepProgram keeps the pages of this process's program in memory once they are there
// (mlock2(2)). A command that takes all of the guest's memory makes the kernel drop what it
// can read again: without this the agent's own code, which it would then read from its
// disk or its host again and again.
func KeepProgram() error {
	all, err := procfs.OwnMappings()
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all {
		const onFault = 1 // MLOCK_ONFAULT: no page is read for it.
		if _, _, errno := unix.Syscall(unix.SYS_MLOCK2, m.Start, m.End-m.Start, onFault); errno != 0 {
			errs = append(errs, os.NewSyscallError("mlock2", errno))
		}
	}
	return errors.Join(errs...)
}
