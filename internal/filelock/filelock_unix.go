//go:build unix

package filelock

import (
	"errors"
	"os"
	"syscall"
)

// Take locks f for its open file alone, or returns [ErrHeld] at once.
func Take(f *os.File) error { return lock(f, syscall.LOCK_EX|syscall.LOCK_NB) }

// Share waits for a shared lock of f. Many open files may hold it at once.
func Share(f *os.File) error { return lock(f, syscall.LOCK_SH) }

func lock(f *os.File, how int) error {
	err := syscall.Flock(int(f.Fd()), how)
	for errors.Is(err, syscall.EINTR) { // The runtime's own signals.
		err = syscall.Flock(int(f.Fd()), how)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrHeld
	}
	return os.NewSyscallError("flock", err)
}
