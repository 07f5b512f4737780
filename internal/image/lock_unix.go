//go:build unix

package image

import (
	"errors"
	"os"
	"syscall"

	"github.com/agentd-go/agentd/internal/filelock"
)

// newLock makes a file and locks it. The lock ends with Close, or with the process.
func newLock(path string) (*os.File, error) { return openLock(path, os.O_CREATE, filelock.Take) }

// tryLock locks a file that exists, or reports [filelock.ErrHeld].
func tryLock(path string) (*os.File, error) { return openLock(path, 0, filelock.Take) }

// shareLock waits for a shared lock of a file that exists. Many may hold it at once.
func shareLock(path string) (*os.File, error) { return openLock(path, 0, filelock.Share) }

func openLock(path string, flags int, lock func(*os.File) error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
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
