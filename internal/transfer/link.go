package transfer

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// openPath is O_PATH of open(2), which package syscall does not name.
const openPath = 0x200000

// lchtimes is os.Chtimes for a link itself: package os follows it, but not behind
// the kernel's name of a descriptor.
func lchtimes(name string, mtime time.Time) error {
	fd, err := syscall.Open(name, openPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	err = os.Chtimes("/proc/self/fd/"+strconv.Itoa(fd), time.Time{}, mtime)
	return errors.Join(err, os.NewSyscallError("close", syscall.Close(fd)))
}
