package snapshot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/agentd-go/agentd/internal/filelock"
)

const (
	// digBytes is a piece that is read, pageBytes what is left out where it is all
	// zeros: the unit of the guest's memory and of most file systems.
	digBytes  = 1 << 20
	pageBytes = 4 << 10

	// Of lseek(2) and fallocate(2); the syscall package lacks them.
	seekData  = 3
	seekHole  = 4
	punchHole = 0x03 // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
)

// poison is what x86 Linux fills the memory of its own start with when it frees that
// (POISON_FREE_INITMEM of linux/poison.h): the initramfs and what ran once, 14 MiB of a
// distribution's kernel.
const poison = 0xcc

// dig makes holes of the pages that hold nothing: of zeros, a third of what a guest has
// touched when it waits for its configuration. In a guest that has run nothing but the
// agent, pages of poison are free too, or the space between parts of the kernel's code,
// which is never executed. A file system without holes keeps them all.
func dig(f *os.File, kind Kind) error {
	blank := [][]byte{make([]byte, pageBytes)}
	if kind == Template {
		blank = append(blank, bytes.Repeat([]byte{poison}, pageBytes))
	}
	err := eachData(f, func(start, end int64) error { return digRange(f, start, end, blank) })
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

func digRange(f *os.File, start, end int64, blank [][]byte) error {
	b := make([]byte, min(digBytes, end-start))
	for at := start; at < end; {
		n, err := f.ReadAt(b[:min(int64(len(b)), end-at)], at)
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			return err
		}
		if err := digPiece(f, b[:n], at, blank); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}

// digPiece makes one hole of each run of pages.
func digPiece(f *os.File, b []byte, at int64, blank [][]byte) error {
	run := int64(0)
	for page := range slices.Chunk(b, pageBytes) {
		if slices.ContainsFunc(blank, func(b []byte) bool { return bytes.Equal(page, b) }) {
			run += pageBytes
		} else if err := punch(f, at-run, run); err != nil {
			return err
		} else {
			run = 0
		}
		at += int64(len(page))
	}
	return punch(f, at-run, run)
}

func punch(f *os.File, at, length int64) error {
	if length == 0 {
		return nil
	}
	err := syscall.Fallocate(int(f.Fd()), punchHole, at, length)
	for errors.Is(err, syscall.EINTR) {
		err = syscall.Fallocate(int(f.Fd()), punchHole, at, length)
	}
	return os.NewSyscallError("fallocate", err)
}

func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

// allocated is what a file takes on the disk.
func allocated(info os.FileInfo) int64 {
	const sector = 512 // stat(2): st_blocks counts these, whatever the file system has.
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * sector
	}
	return info.Size()
}

// room is how many bytes a file system has left for this user.
func room(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// lockMaker locks a file, which it makes, for as long as it is open; [ErrBusy] where
// somebody else has the lock.
func lockMaker(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockOpen(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lockOpen locks an open file, or returns [ErrBusy].
func lockOpen(f *os.File) error {
	err := filelock.Take(f)
	if errors.Is(err, filelock.ErrHeld) {
		return ErrBusy
	}
	return err
}
