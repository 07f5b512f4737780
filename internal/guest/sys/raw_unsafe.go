package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNow and writeNow are read(2) and write(2) on a descriptor that never waits and whose
// locks only the agent takes. They bypass the runtime: before a system call that it knows
// of, an idle runtime wakes its monitor thread, which costs one or two thread switches in
// every answer.

func readNow(fd uintptr, b []byte) (int, error) { return now(unix.SYS_READ, fd, b) }

func writeNow(fd uintptr, b []byte) (int, error) { return now(unix.SYS_WRITE, fd, b) }

func now(call, fd uintptr, b []byte) (int, error) {
	return retry(func() (int, error) {
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b))) //nolint:gosec // G103: the two calls that this file is for.
		if errno != 0 {
			return 0, errno
		}
		return int(n), nil
	})
}
