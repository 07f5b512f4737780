package transfer

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// openPath is O_PATH of open(2), which package syscall does not name.
const openPath = 0x200000

// unfollowed calls f with another name of a file, by which package os reaches it
// itself also where it is a link: the kernel's name of a descriptor.
func unfollowed(name string, f func(fd int, name string) error) error {
	fd, err := syscall.Open(name, openPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	err = f(fd, "/proc/self/fd/"+strconv.Itoa(fd))
	return errors.Join(err, os.NewSyscallError("close", syscall.Close(fd)))
}

// lchtimes is os.Chtimes for a link itself.
func lchtimes(name string, mtime time.Time) error {
	return unfollowed(name, func(_ int, itself string) error { return os.Chtimes(itself, time.Time{}, mtime) })
}

// describe sets permissions and time of a file or directory, and refuses a link.
func describe(name string, mode fs.FileMode, mtime time.Time) error {
	return unfollowed(name, func(fd int, itself string) error {
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil {
			return &os.PathError{Op: "stat", Path: name, Err: err}
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			return &os.PathError{Op: "chmod", Path: name, Err: syscall.ELOOP}
		}
		if err := os.Chmod(itself, mode); err != nil {
			return err
		}
		return os.Chtimes(itself, time.Time{}, mtime)
	})
}
