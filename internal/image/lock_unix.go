//go:build unix

package image

import (
	"errors"
	"os"
	"syscall"
)

// errLocked is a lock that somebody else holds.
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

// waitLock is tryLock that waits for whoever holds it.
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

// allocated is what a file takes on the disk.
func allocated(info os.FileInfo) int64 {
	const sector = 512 // stat(2): st_blocks counts these, whatever the file system has.
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * sector
	}
	return info.Size()
}
