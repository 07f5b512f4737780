package transfer

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"syscall"
	"time"
)

// openPath is O_PATH of open(2), which package syscall does not name.
const openPath = 0x200000

// unfollowed calls f with a descriptor (O_PATH) of a file below root, and with the
// kernel's name of that descriptor. Package os reaches the file by that name without
// following it, even if it is a link.
func unfollowed(root *os.Root, name string, f func(fd int, name string) error) error {
	parent, err := root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = parent.Close() }() // It was only read.
	fd, err := syscall.Openat(int(parent.Fd()), path.Base(name), openPath|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	err = f(fd, "/proc/self/fd/"+strconv.Itoa(fd))
	return errors.Join(err, os.NewSyscallError("close", syscall.Close(fd)))
}

// describe sets the permissions and the time of a file or directory. It refuses a link.
func describe(root *os.Root, name string, mode fs.FileMode, mtime time.Time) error {
	return unfollowed(root, name, func(fd int, itself string) error {
		var st syscall.Stat_t
		if err := syscall.Fstat(fd, &st); err != nil {
			return &fs.PathError{Op: "stat", Path: name, Err: err}
		}
		if st.Mode&syscall.S_IFMT == syscall.S_IFLNK {
			return &fs.PathError{Op: "chmod", Path: name, Err: syscall.ELOOP}
		}
		if err := os.Chmod(itself, mode); err != nil {
			return err
		}
		return os.Chtimes(itself, time.Time{}, mtime)
	})
}

// timeLink sets the time of a link itself.
func timeLink(root *os.Root, name string, mtime time.Time) error {
	return unfollowed(root, name, func(_ int, itself string) error { return os.Chtimes(itself, time.Time{}, mtime) })
}

// setTime sets the time of the open file, whatever its name has become.
func (f *hostFile) setTime(mtime time.Time) error {
	return os.Chtimes("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), time.Time{}, mtime)
}
