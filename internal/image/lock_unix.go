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
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return lock(f, syscall.LOCK_EX|syscall.LOCK_NB)
}

// tryLock locks a file that exists, or reports errLocked. Many may hold a shared
// lock at once.
func tryLock(path string, shared bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if shared {
		return lock(f, syscall.LOCK_SH|syscall.LOCK_NB)
	}
	return lock(f, syscall.LOCK_EX|syscall.LOCK_NB)
}

// waitLock is like tryLock, but waits until the lock is free.
func waitLock(path string, shared bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if shared {
		how = syscall.LOCK_SH
	}
	return lock(f, how)
}

func lock(f *os.File, how int) (*os.File, error) {
	err := syscall.Flock(int(f.Fd()), how)
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
