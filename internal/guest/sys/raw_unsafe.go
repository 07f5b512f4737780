package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are read(2) and write(2) on a descriptor that never waits and whose
// locks only the agent takes; startNow is read(2) from the file's start. They bypass the runtime: before a system call that it knows
// of, an idle runtime wakes its monitor thread, which costs one or two thread switches in
// every answer.

func readNow(fd uintptr, b []byte) (int, error) { return now(unix.SYS_READ, fd, b) }

func writeNow(fd uintptr, b []byte) (int, error) { return now(unix.SYS_WRITE, fd, b) }

func startNow(fd uintptr, b []byte) (int, error) { return now(unix.SYS_PREAD64, fd, b) }

func now(call, fd uintptr, b []byte) (int, error) {
	return retry(func() (int, error) {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0) //nolint:gosec // G103: the calls that this file is for.
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	})
}
