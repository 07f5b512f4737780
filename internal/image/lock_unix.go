//go:build unix

package image

import (
	"errors"
	"os"
	"syscall"
)

// errLocked says that another process holds the lock.
var errLocked = errors.New("locked by another process")

// newLock makes a file and locks it. The lock ends with Close, or with the process.
func newLock(path string) (*os.File, error) {
	return openLock(path, os.O_CREATE, syscall.LOCK_EX|syscall.LOCK_NB)
}

// tryLock locks a file that exists, or reports errLocked.
func tryLock(path string) (*os.File, error) {
	return openLock(path, 0, syscall.LOCK_EX|syscall.LOCK_NB)
}

// shareLock waits for a shared lock of a file that exists. Many may hold it at once.
func shareLock(path string) (*os.File, error) { return openLock(path, 0, syscall.LOCK_SH) }

func openLock(path string, flags, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), how)
	for errors.Is(err, syscall.EINTR) { // The runtime's own signals.
		err = syscall.Flock(int(f.Fd()), how)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// allocated returns the bytes that a file takes on the disk.
func allocated(info os.FileInfo) int64 {
	const sector = 512 // st_blocks counts 512 bytes on every file system; stat(2).
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * sector
	}
	return info.Size()
}
