package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// cloneFile is FICLONE of ioctl_ficlone(2); the syscall package lacks it.
const cloneFile = 0x40049409

// CopyDisk makes a copy of a disk that nobody writes to, at dst, which must not exist. On
// a file system with reflinks the copy shares the disk's blocks and takes no time.
// Elsewhere the data is copied, and holes stay holes. Nothing is brought to the disk.
func CopyDisk(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // Read only.
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(copyDisk(out, in), out.Close()); err != nil {
		return fmt.Errorf("copy disk %s: %w", src, err)
	}
	return nil
}

func copyDisk(out, in *os.File) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, out.Fd(), cloneFile, in.Fd()); errno == 0 {
		return nil
	}
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.Truncate(info.Size()); err != nil {
		return err
	}
	return eachData(in, func(start, end int64) error {
		if _, err := in.Seek(start, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(start, io.SeekStart); err != nil {
			return err
		}
		_, err := io.CopyN(out, in, end-start) // By copy_file_range(2).
		return err
	})
}

// LinkDisk makes dst another name of a disk that nobody ever writes to, or a copy if the
// two are on different file systems.
func LinkDisk(dst, src string) error {
	err := os.Link(src, dst)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return CopyDisk(dst, src)
}

// eachData calls f for each range of a file that is no hole.
func eachData(file *os.File, f func(start, end int64) error) error {
	for at := int64(0); ; {
		start, err := file.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil // Nothing but a hole is left.
		}
		if err != nil {
			return err
		}
		if at, err = file.Seek(start, seekHole); err != nil {
			return err
		}
		if err := f(start, at); err != nil {
			return err
		}
	}
}

// digestDisk returns the size of a disk, and the SHA-256 of its pages that are not zeros,
// each after its place: it does not depend on which zeros are holes.
func digestDisk(f *os.File) (size int64, digest string, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	sum := sha256.New()
	err = eachData(f, func(start, end int64) error {
		return digestRange(f, sum, start-start%pageBytes, end)
	})
	return info.Size(), hex.EncodeToString(sum.Sum(nil)), err
}

var zeros [pageBytes]byte

func digestRange(f *os.File, sum hash.Hash, at, end int64) error {
	b := make([]byte, digBytes)
	for at < end {
		n, err := f.ReadAt(b[:min(int64(len(b)), end-at)], at)
		if err != nil && (!errors.Is(err, io.EOF) || n == 0) {
			return err
		}
		for page := range slices.Chunk(b[:n], pageBytes) {
			if !bytes.Equal(page, zeros[:len(page)]) {
				_ = binary.Write(sum, binary.BigEndian, at) // A hash never fails.
				_, _ = sum.Write(page)
			}
			at += int64(len(page))
		}
	}
	return nil
}

// claim makes a directory and locks it for as long as the returned file is open. A
// directory that is there already was left by somebody who has ended, or is locked: then
// the error is [ErrBusy].
func claim(dir string) (*os.File, error) {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		var left *os.File
		if left, err = lockDir(dir); err != nil {
			return nil, err
		}
		defer func() { _ = left.Close() }() // Only a lock.
		if err = os.RemoveAll(dir); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
	}
	if err != nil {
		return nil, err
	}
	return lockDir(dir)
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrBusy // Somebody else takes it away.
	}
	if err != nil {
		return nil, err
	}
	if err = lockOpen(f); err == nil {
		err = isStill(f, dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// isStill returns [ErrBusy] if a directory has another name or none by now.
func isStill(f *os.File, dir string) error {
	was, err := f.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Stat(dir); err != nil || !os.SameFile(was, is) {
		return ErrBusy
	}
	return nil
}
