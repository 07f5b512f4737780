package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// HardLink gives a file a second name. It does not follow a link.
func HardLink(from, to string) error { return again(func() error { return unix.Link(from, to) }) }

// SyncFile writes an open file to its disk.
func SyncFile(f *os.File) error { return control(f, unix.Fsync) }

// NextData returns where the next data of a file begins and ends, from an offset on. The
// error is ENXIO if none follows.
func NextData(f *os.File, from int64) (start, end int64, err error) {
	err = control(f, func(fd int) error {
		if start, err = unix.Seek(fd, from, unix.SEEK_DATA); err == nil {
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		return err
	})
	return start, end, err
}

// StatDisk describes the file system that a file is on.
func StatDisk(path string) (st unix.Statfs_t, err error) {
	err = again(func() error { return unix.Statfs(path, &st) })
	return st, err
}

// The locks that Lock takes.
const (
	Shared    = unix.LOCK_SH
	Exclusive = unix.LOCK_EX
	Unlocked  = unix.LOCK_UN
)

// Lock takes or releases the lock of an open file (flock(2)). It never waits: the error is
// EAGAIN if another file has the lock.
func Lock(f *os.File, how int) error {
	return control(f, func(fd int) error { return unix.Flock(fd, how|unix.LOCK_NB) })
}

// Xattr returns an extended attribute of a file. Like the next three it does not follow a link.
func Xattr(path, name string) ([]byte, error) {
	return grown(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
}

// Xattrs returns the names of a file's extended attributes, each with a NUL after it.
func Xattrs(path string) ([]byte, error) {
	return grown(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
}

// SetXattr sets an extended attribute of a file.
func SetXattr(path, name string, value []byte) error {
	return again(func() error { return unix.Lsetxattr(path, name, value, 0) })
}

// RemoveXattr removes an extended attribute of a file.
func RemoveXattr(path, name string) error {
	return again(func() error { return unix.Lremovexattr(path, name) })
}

// grown calls a function with a buffer that has room for every list and every value
// (xattr(7)).
func grown(call func([]byte) (int, error)) ([]byte, error) {
	const most = 64 << 10
	b := make([]byte, most)
	n, err := retry(func() (int, error) { return call(b) })
	return b[:max(n, 0):max(n, 0)], err
}
